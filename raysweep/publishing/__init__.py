"""Bundles a run's evidence for publication, verifies such a bundle, and pushes models to a hub."""
