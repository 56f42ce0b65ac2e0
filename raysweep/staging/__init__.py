"""A run folder in object storage: pulled, worked on and pushed at task boundaries."""
