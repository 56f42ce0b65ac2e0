"""Tables, plots, HTML and Markdown, from saved evidence alone."""
