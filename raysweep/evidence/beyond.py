"""Evaluates the models on further corpora: the matrix and the hypotheses on documents that no model was trained on.

The statistics are the same as on the run's own test documents.  Controls are not judged, because they show what
explains a gain on the corpus that they were trained on.
"""

from collections.abc import Mapping

from raysweep.config.schema import Config
from raysweep.evidence.evidence_schema import FurtherCorpusScores, Matrix
from raysweep.evidence.guards import guard_findings
from raysweep.evidence.inputs import read_if_there
from raysweep.evidence.lineup import line_up
from raysweep.evidence.posing import pose_question, read_writers
from raysweep.evidence.robustness_schema import Leaks
from raysweep.evidence.scores import Scores
from raysweep.scheduling.records import TrialRecord
from raysweep.scheduling.trials import Roles, Trial
from raysweep.statistics.loss_table import read_losses
from raysweep.statistics.role_models import lack_of_writers
from raysweep.storage.run_folder import RunFolder

_NO_LEAKS = Leaks(is_leaky=False, is_refused=False, test_documents=None, leaky_documents=None, by_kind={}, effects=())
"""Texts of train and valid were set aside when the corpus was prepared."""


def describe_beyond(
    folder: RunFolder,
    config: Config,
    trials: Mapping[str, Trial],
    roles: Roles,
    records: Mapping[str, TrialRecord | None],
) -> tuple[FurtherCorpusScores, ...]:
    """Return matrix and findings on every further corpus that was scored; InputError if losses cannot be compared."""
    return tuple(
        _describe(folder.further(name), config, trials, roles, records)
        for name in config.corpora
        if folder.further(name).losses.exists()
    )


def _describe(
    place: RunFolder,
    config: Config,
    trials: Mapping[str, Trial],
    roles: Roles,
    records: Mapping[str, TrialRecord | None],
) -> FurtherCorpusScores:
    from raysweep.corpus.quarantine import NEAR_TRAINING  # numba, which a run of one corpus need not wait for

    levels, settings = config.data.levels, config.report
    table, summary = read_losses(place.losses, levels), read_if_there(place.splits)
    losses, writers = table.select(settings.metric), read_writers(place)
    lineup = [entrant for entrant in line_up(trials, roles, records, table.models) if not entrant.is_control]
    question, resamples = pose_question(config, table, losses, writers, lineup, summary)
    lacks = {level: lack_of_writers(resamples, level) for level in levels}
    target = settings.hypotheses.specialisation.target
    scored = [document for of_level in losses.values() for document in of_level.documents.tolist()]
    scores = Scores(lineup, levels, resamples, settings.confidence)
    return FurtherCorpusScores(
        name=place.name,
        rows=summary["rows"],
        documents=len(scored),
        set_aside=summary["bad_rows"],
        near_training=summary["bad_rows"].get(NEAR_TRAINING, 0),
        clusters="learner" if writers.learner_of else "document",
        without_learner=sum(document not in writers.learner_of for document in scored),
        missing_levels=tuple(level for level in levels if level not in losses),
        matrix=Matrix(rows=scores.matrix(), leaders=scores.leaders(), sizes=scores.sizes(), levels=scores.levels),
        findings=guard_findings(question.judge(resamples), question.hypotheses, _NO_LEAKS, (), target, lacks),
    )
