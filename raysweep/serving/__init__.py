"""A local web page and its API, in which a person tries the models of a run; an extra (`raysweep[try]`)."""
