"""Bootstrap, intervals, and the tests that turn hypotheses into verdicts."""
