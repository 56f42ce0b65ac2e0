"""Estimates what a run will cost: calibration of this machine, forecasts, GPU sharing, budget."""
