"""Keeps a run folder in object storage: fetches it, and sends what changed at task boundaries and in between."""
