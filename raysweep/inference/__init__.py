"""Uses finished models: loads a run from its folder, scores new texts, and predicts the level of a text."""
