"""A run from start to end: stages, what to skip, provenance, records."""
