"""A local web page and API for trying a run's models; needs the extra `raysweep[try]`."""
