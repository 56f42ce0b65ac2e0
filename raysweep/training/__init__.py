"""Trains a model: batches, loss, optimiser and schedule, and the one training loop."""
