"""Finished models in use: a run loaded from its folder, scores of new texts, the level that a text sounds like."""
