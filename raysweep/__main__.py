"""`python -m raysweep`: the same commands as the `raysweep` script."""

from raysweep.cli.app import main

if __name__ == "__main__":
    main()
