"""Collects everything the report says, as typed records."""
