"""Bootstrap, intervals, and the way from hypotheses to verdicts."""
