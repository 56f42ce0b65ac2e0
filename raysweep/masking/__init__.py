"""Turns documents into examples: segmentation, tokens, masks, and the store that batches come from."""
