"""Documents into examples: segmentation, tokens, masks, and the store that batches are assembled from."""
