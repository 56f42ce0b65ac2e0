"""The configuration: the schema of experiments.yaml, loading it with exact errors, and fingerprints of settings."""
