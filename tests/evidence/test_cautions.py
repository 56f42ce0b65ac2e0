"""Cautions for reading an answer, and how they soften it."""

import pytest

from raysweep.evidence.advice import CANNOT_ANSWER, NOT_DECIDED
from raysweep.evidence.cautions import soften
from raysweep.evidence.evidence_schema import Caution, Recommendation
from raysweep.evidence.formats import SPACE
from raysweep.report.writing import write_report
from raysweep.storage.digests import read_sealed, write_sealed
from tests.simulated_run import make_config

THREE = {"seeds": (0, 1, 2)}


def codes(evidence):
    return [caution["code"] for caution in evidence["answer"]["cautions"]]


def test_a_run_lists_its_cautions(make_run):
    """One seed, unequal steps, no control and unknown learners have a phrase each."""
    evidence = write_report(*make_run(learners=False))
    assert codes(evidence) == ["one_seed", "unequal_steps", "no_controls", "learners_unknown"]
    texts = [caution["text"] for caution in evidence["answer"]["cautions"]]
    assert texts[1] == (
        "trainings were unequally long: the general model had 800 steps, a level's own model 400 steps, "
        "fine-tuning 100 steps more"
    )


def test_a_run_without_cautions_has_an_unqualified_headline(make_run):
    """It has three seeds, controls, equal steps and known learners."""
    trials = {level: {"levels": (level,), "steps": 400, **THREE} for level in ("A1", "C1")}
    trials["all"] = {"levels": ("A1", "C1"), "steps": 400, **THREE}
    controls = {"size_matched": True, "step_matched": True, "placebo": True}
    config = make_config(("A1", "C1"), controls=controls).model_copy(deep=True)
    config = type(config).model_validate({**config.model_dump(by_alias=True), "trials": trials})
    evidence = write_report(*make_run(config))
    assert codes(evidence) == []
    assert not evidence["answer"]["headline"].startswith("Leaning")


def test_lost_seeds_of_one_model_are_not_said_of_every_model(make_run):
    """A1 was trained once, since two of its three trainings failed; claims about C1 have intervals with all seeds."""
    lost = dict.fromkeys(("A1-seed1", "A1-seed2"), "failed: lost worker")
    answer = write_report(*make_run(make_config(seeds=(0, 1, 2)), failed=lost))["answer"]
    assert answer["cautions"][0]["text"] == "some models were trained once, so chance in training is not covered"
    assert answer["warnings"][0].startswith(
        "Some models were trained with one seed. The intervals of claims about them cover the choice of test documents"
    )


def test_lost_seeds_of_the_general_model_are_not_said_of_every_model(make_run):
    """Every claim compares with it, so each has one seed, but the levels' models were trained three times."""
    lost = dict.fromkeys(("all-seed1", "all-seed2"), "failed: lost worker")
    answer = write_report(*make_run(make_config(seeds=(0, 1, 2)), failed=lost))["answer"]
    assert answer["cautions"][0]["text"].startswith("some models were trained once")
    assert answer["warnings"][0].startswith("Some models were trained with one seed.")


def test_a_low_confidence_is_cautioned_against(make_run):
    """At 60 %, a fifth of claims that are just false would be printed as confirmed without a word."""
    folder, config, trials = make_run(make_config(report={"resamples": 100, "confidence": 0.6}))
    evidence = write_report(folder, config, trials)
    assert codes(evidence)[0] == "low_confidence"
    said = evidence["answer"]["cautions"][0]["text"].replace(SPACE, " ")
    assert said == "at 60.0 % confidence, up to about 20.0 % of claims that are just false are confirmed"
    assert "report: {confidence: 0.95}" in folder.report_html.read_text()


def test_trainings_whose_last_step_was_best_are_counted(make_run):
    """Such a model was still improving when its training ended."""
    folder, config, trials = make_run()
    evidence = write_report(folder, config, trials)
    assert "last_step" not in codes(evidence)
    for name in ("A1", "all"):
        change_best_step(folder.trial(name), trials[name].settings.steps)
    evidence = write_report(folder, config, trials)
    (caution_text,) = (caution["text"] for caution in evidence["answer"]["cautions"] if caution["code"] == "last_step")
    assert caution_text.startswith("the last step was the best in 2 of 11 trainings")


def change_best_step(trial, step):
    record = read_sealed(trial.record, fix="")
    write_sealed(trial.record, {**record, "result": {**record["result"], "best_step": step}})


@pytest.mark.parametrize(
    ("headline", "softened"),
    [
        ("Train a model of its own for each level.", "Leaning to: train a model of its own for each level."),
        (NOT_DECIDED, NOT_DECIDED),
        (CANNOT_ANSWER, CANNOT_ANSWER),
    ],
)
def test_only_a_recommendation_is_qualified_by_cautions(headline, softened):
    """`Leaning to: not decided` would not make sense."""
    answer = Recommendation(headline=headline, cautions=(), reasons=(), exceptions=(), warnings=())
    caution = Caution(code="no_controls", text="x")
    assert soften(answer, [caution]).headline == softened
    assert soften(answer, [caution]).cautions == (caution,)
    assert soften(answer, []).headline == headline


def test_a_run_without_tests_has_no_cautions(make_run):
    """A run without an answer has nothing to soften."""
    assert codes(write_report(*make_run(documents=9))) == []
