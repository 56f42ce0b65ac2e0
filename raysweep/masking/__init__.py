"""From documents to masked examples: segmentation, sampling, encoding, the store."""
