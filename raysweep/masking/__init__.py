"""Turns documents into examples: segmentation, tokens, masks, and the store from which batches are assembled."""
