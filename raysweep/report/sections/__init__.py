"""The report's sections, one file per subject, each with its tables, plots and texts."""
