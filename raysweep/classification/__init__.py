"""Levels from perplexities: features, classifiers and their baselines, metrics.  No torch."""
