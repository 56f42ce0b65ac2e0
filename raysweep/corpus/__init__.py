"""Turns the files of a corpus into documents: reading, quarantine, splits without leaks, and the synthetic sample."""
