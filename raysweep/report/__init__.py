"""Makes tables, plots, HTML and Markdown, from the saved evidence alone."""
