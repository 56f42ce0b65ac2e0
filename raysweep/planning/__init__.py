"""What a run will take: calibration of this machine, forecasts, GPU sharing, budget."""
