"""Predicts levels from perplexities: features, classifiers and their baselines, metrics; without torch."""
