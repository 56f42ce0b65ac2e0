"""Names of corpora and classifiers in the tables of a classification; a separate module, so that it needs no pandas."""

OWN = "data"
"""The name of the run's own corpus, after its section of the config."""
LOGISTIC = "logistic"
BASELINES = ("majority", "length", "words", "characters", "native")
