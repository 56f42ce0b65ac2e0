"""Trials with their graph, order, records and decisions; the decisions are pure functions."""
