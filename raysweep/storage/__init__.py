"""Defines where the files of a run are, and how they are written."""
