"""raysweep: is it worth training a language model per CEFR level?

One CSV of learner texts becomes masked infilling examples, eleven GPT-2 models, a matrix of
test scores and a report that answers three hypotheses with intervals.  Importing the package
loads nothing heavy; the rooms are described in README.md.
"""

__version__ = "0.1.0"
