"""Executes a run from start to end: its stages, what to skip, and the records of what was made from what."""
