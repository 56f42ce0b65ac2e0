"""Schedule, batches, loss, and the one training loop."""
