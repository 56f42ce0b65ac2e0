"""Which token is drawn: by hand, for distributions small enough to add up in the head."""

import pytest
import torch

from raysweep.errors import InputError
from raysweep.evaluation.token_sampling import GREEDY, Sampling, choose_tokens

# Ids 0 … 4 with these probabilities: ranked 3, 1, 4, 0, 2.
PROBABILITIES = [0.10, 0.25, 0.05, 0.40, 0.20]


def reachable(sampling, probabilities=PROBABILITIES):
    """The ids that come for draws from 0 to 1, each with its share of the draws."""
    draws = torch.arange(0, 1, 1 / 1000, dtype=torch.float64)
    logits = torch.tensor(probabilities, dtype=torch.float64).log().expand(len(draws), -1)
    ids, counts = choose_tokens(logits, draws, sampling).unique(return_counts=True)
    return dict(zip(ids.tolist(), (counts / len(draws)).tolist(), strict=True))


def test_without_limits_tokens_are_drawn_with_their_probabilities():
    """The inverse of the cumulative distribution: no draw is wasted."""
    assert reachable(Sampling(top_p=None)) == pytest.approx(dict(enumerate(PROBABILITIES)), abs=0.002)


def test_the_token_that_crosses_top_p_is_kept():
    """0.40 + 0.25 reach 0.65, not 0.70: the third token crosses, and belongs to the nucleus."""
    kept = {3: 0.40 / 0.85, 1: 0.25 / 0.85, 4: 0.20 / 0.85}
    assert reachable(Sampling(top_p=0.70)) == pytest.approx(kept, abs=0.002)


def test_a_nucleus_that_reaches_top_p_exactly_takes_no_further_token():
    """Three quarters of four equal parts are three tokens."""
    assert set(reachable(Sampling(top_p=0.75), [0.25] * 4)) == {0, 1, 2}


def test_ties_at_the_edge_of_the_nucleus_are_broken_by_the_lower_id():
    """Equal probabilities are common in a fresh model; the original crashes on them."""
    assert set(reachable(Sampling(top_p=0.5), [0.1] * 10)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("top_p", [0.0, 1e-9])
def test_the_most_probable_token_is_always_in_the_nucleus(top_p):
    """However small top_p is, a token can be drawn."""
    assert reachable(Sampling(top_p=top_p)) == {3: 1.0}


def test_top_p_of_one_keeps_all_tokens():
    """Rounding of the sum drops no token."""
    assert set(reachable(Sampling(top_p=1.0))) == {0, 1, 2, 3, 4}


def test_top_k_keeps_the_k_most_probable_tokens():
    """The three most likely have 0.40, 0.25 and 0.20, which are scaled up to one."""
    kept = {3: 0.40 / 0.85, 1: 0.25 / 0.85, 4: 0.20 / 0.85}
    assert reachable(Sampling(top_k=3, top_p=None)) == pytest.approx(kept, abs=0.002)


def test_top_p_applies_to_the_tokens_left_by_top_k():
    """0.40 is 0.62 of the two likeliest tokens, so a nucleus of 0.6 is that token alone."""
    assert reachable(Sampling(top_k=2, top_p=0.6)) == {3: 1.0}


@pytest.mark.parametrize("top_p", [0.0, 0.5, 0.95, 1.0])
def test_the_partial_sort_gives_the_same_tokens_as_a_full_sort(top_p):
    """They agree to the bit for rows that are peaked, flat, full of ties, all equal, and with forbidden tokens."""
    rows = torch.randn(6, 9000, generator=torch.Generator().manual_seed(1))
    logits = torch.stack(
        [rows[0] * 6, rows[1] * 2, rows[2] * 0, rows[3] * 0.01, rows[4].round(), (rows[5] * 4).round()]
    )
    logits[1, ::3] = -torch.inf
    draws = torch.tensor([0.0, 0.3, 0.9, 0.5, 0.7, 0.999999], dtype=torch.float64)
    ranked, ids = torch.softmax(logits.double(), dim=-1).sort(dim=-1, descending=True, stable=True)
    is_out = ranked.cumsum(dim=-1) - ranked >= top_p
    is_out[:, 0] = False
    cumulative = ranked.masked_fill(is_out, 0.0).cumsum(dim=-1)
    for shift in range(6):
        targets = draws.roll(shift)[:, None] * cumulative[:, -1:]
        expected = ids.gather(-1, torch.searchsorted(cumulative, targets, right=True))[:, 0]
        assert choose_tokens(logits, draws.roll(shift), Sampling(top_p=top_p)).tolist() == expected.tolist()


def test_low_temperatures_sharpen_and_high_ones_flatten():
    """At a temperature of ½ probabilities are squared."""
    squares = [probability**2 for probability in PROBABILITIES]
    expected = {number: square / sum(squares) for number, square in enumerate(squares)}
    assert reachable(Sampling(temperature=0.5, top_p=None)) == pytest.approx(expected, abs=0.002)


def test_temperature_zero_takes_the_most_probable_token():
    """Among equal probabilities the lower id is chosen."""
    assert reachable(GREEDY) == {3: 1.0}
    assert reachable(GREEDY, [0.2, 0.4, 0.4]) == {1: 1.0}
    nearly = Sampling(temperature=1e-320)
    logits = torch.tensor([[1.0, 2.0, -torch.inf]])
    assert choose_tokens(logits, torch.tensor([0.3], dtype=torch.float64), nearly).tolist() == [1]


def test_forbidden_tokens_are_never_drawn():
    """They are not drawn even at the ends of the range of draws."""
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).expand(3, -1)
    draws = torch.tensor([0.0, 0.5, 1.0 - 2**-53], dtype=torch.float64)
    for sampling in (Sampling(top_p=None), Sampling(top_p=1.0), Sampling(top_k=4)):
        assert set(choose_tokens(logits, draws, sampling).tolist()) <= {1, 3}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("temperature", -0.1), ("temperature", float("nan")), ("temperature", float("inf")), ("top_k", 0), ("top_p", 1.1)],
)
def test_a_setting_out_of_range_is_refused_with_its_value(setting, value):
    """The message gives the value found."""
    with pytest.raises(InputError, match=rf"{setting}: found {value:g}; must be"):
        Sampling(**{setting: value})
