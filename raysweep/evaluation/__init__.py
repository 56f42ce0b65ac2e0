"""Evaluates models: their scores on test documents, infilling, and speed."""
