"""The command line: `python -m det_core`."""
