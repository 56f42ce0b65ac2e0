"""Collects everything that the report states, as typed records."""
