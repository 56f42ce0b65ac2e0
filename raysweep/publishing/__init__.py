"""Bundles a run's evidence for publication, and verifies such a bundle."""
