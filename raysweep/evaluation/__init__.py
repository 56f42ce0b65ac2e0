"""Scores of a model on a level's test documents, infilling, speed."""
