"""Trials, their graph and order, their records, decisions: all pure."""
