"""experiments.yaml: its schema, loading with exact errors, fingerprints of what was asked for."""
