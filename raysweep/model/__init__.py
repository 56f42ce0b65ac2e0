"""GPT-2: initial weights, the extended vocabulary, forward passes and losses, checkpoints and exported models."""
