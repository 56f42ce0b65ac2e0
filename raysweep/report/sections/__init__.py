"""The report's sections, a file for each subject: its tables, its plots and its words."""
