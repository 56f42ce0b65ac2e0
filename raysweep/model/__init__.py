"""GPT-2: starts, the enlarged vocabulary, saving and loading."""
