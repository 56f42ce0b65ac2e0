"""The hypotheses in plain sentences, and all comparisons in one direction."""

import pytest

from raysweep.evidence.claim_words import claim_reason, claim_sentence, compare, verdict_words
from raysweep.evidence.formats import SPACE, change, change_range
from raysweep.statistics.claims import Verdict
from tests.evidence.test_answer import finding

C, R, U, N = Verdict


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (1.963, 2.089, "96.3 % to 108.9 % higher"),
        (0.961, 0.988, "1.2 % to 3.9 % lower"),
        (0.961, 1.002, "3.9 % lower to 0.2 % higher"),
        (70.0, 73.7, "70.0 times to 73.7 times higher"),
        (0.5, 12.0, "50.0 % lower to 12.0 times higher"),
    ],
)
def test_a_range_of_ratios_is_worded_from_the_limit_nearer_to_one(low, high, sentence):
    """This is how people say it, on either side of equality."""
    assert change_range(low, high).replace(SPACE, " ") == sentence


def test_a_ratio_is_worded_as_higher_or_lower():
    """The sentence has no plus or minus sign."""
    assert [change(ratio).replace(SPACE, " ") for ratio in (2.024, 0.981, 1.0, 73.7)] == [
        "102.4 % higher",
        "1.9 % lower",
        "0.0 % higher",
        "73.7 times higher",
    ]


def test_every_ratio_has_the_more_adapted_model_as_denominator():
    """H3's ratio has the fine-tuned models on top, so it is shown inverted, with its limits and margin."""
    h1, h3 = (finding(code, C).model_copy(update={"margin": 0.98}) for code in ("H1", "H3"))
    assert (compare(h1).above, compare(h1).below) == ("general", "specialised")
    assert (compare(h1).value, compare(h1).low, compare(h1).high) == (1.05, 1.01, 1.09)
    turned = compare(h3)
    assert (turned.above, turned.below) == ("general", "transfer")
    assert (turned.value, turned.low, turned.high) == pytest.approx((1 / 1.05, 1 / 1.09, 1 / 1.01))
    assert turned.margin == pytest.approx(1 / 0.98)


def test_the_verdict_on_fine_tuning_states_its_steps():
    """Ten steps of fine-tuning say little about fine-tuning."""
    sentence = claim_reason(finding("H3", R), [10, 10], levels=0).text.replace(SPACE, " ")
    assert sentence.startswith(
        "Fine-tuning the general model on the texts of a level, as configured (10 steps), does not"
    )
    assert "as configured (10 to 50 steps)," in claim_reason(finding("H3", C), [50, 10], levels=0).text.replace(
        SPACE, " "
    )


@pytest.mark.parametrize("code", ["H1", "H2", "H3"])
@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_complete_sentence(code, verdict):
    """There is a sentence for each finding: decided, open, or not tested."""
    text = claim_reason(finding(code, verdict), levels=0).text
    assert text.endswith(".")
    assert "{" not in text
    assert claim_sentence(finding(code, verdict)).endswith(".")


def test_a_margin_is_part_of_the_claims_sentence():
    """A claim of more than a difference says so."""
    demanding = finding("H1", C).model_copy(update={"margin": 1.05})
    assert claim_sentence(demanding).replace(SPACE, " ").endswith("by 5.0 % higher perplexity or more.")


def test_a_refuted_margin_is_not_worded_as_no_difference():
    """Below a bound of 5 % a model may still be better, and the sentence must not deny it."""
    demanding = finding("H1", R).model_copy(update={"margin": 1.05})
    said = claim_reason(demanding, levels=0).text.replace(SPACE, " ")
    assert "does not predict them better than the general model by as much as was asked: " in said
    assert said.endswith("; 5.0 % higher or more was asked.")
    assert "by as much" not in claim_reason(finding("H1", R).model_copy(update={"margin": 1.0}), levels=0).text
    fine_tuned = claim_reason(finding("H3", R).model_copy(update={"margin": 0.98}), levels=0).text.replace(SPACE, " ")
    assert "does not give the best model by as much as was asked: " in fine_tuned
    assert fine_tuned.endswith("; 2.0 % higher or more was asked.")


def test_an_open_margin_is_not_worded_as_an_open_direction():
    """A model that is shown to be better may still be better by less than was asked."""
    for code, margin in (("H1", 1.05), ("H3", 0.98)):
        demanding = finding(code, U).model_copy(update={"margin": margin})
        assert " by as much as was asked: " in claim_reason(demanding, levels=0).text
    assert "by as much" not in claim_reason(finding("H2", U), levels=0).text


def test_an_overall_sentence_names_its_levels_if_some_were_not_tested():
    """A mean over two of three levels is not one over all of them."""
    tested = finding("H2", C).model_copy(update={"levels": ("A1", "A2", "B1")})
    assert ", over A1, A2 and B1 alone; less than" in claim_reason(tested, levels=4).text
    assert "alone" not in claim_reason(tested, levels=3).text


def test_too_few_learners_are_worded_as_not_tested():
    """Nothing was tested there, so nothing is undecided."""
    lacking = finding("H1", N).model_copy(update={"too_few": True})
    assert verdict_words(lacking) == "too few learners"
    assert verdict_words(finding("H1", N)) == "not tested"
    assert verdict_words(finding("H1", U)) == "undecided"
