"""experiments.yaml: its schema, loading with exact errors, and fingerprints of settings."""
