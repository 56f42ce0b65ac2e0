"""Numbers for people: a limit far beyond useful values is only shown as such."""

import pytest

from raysweep.evidence.formats import change, change_range, counted, percent, ratio


@pytest.mark.parametrize(
    ("value", "as_ratio", "as_percent", "in_words"),
    [
        (1e-5, "< 0.001", "< −99.9 %", "more than 99.9 % lower"),
        (0.5, "0.500", "−50.0 %", "50.0 % lower"),
        (0.99999, "1.000", "+0.0 %", "0.0 % lower"),
        (1.25, "1.250", "+25.0 %", "25.0 % higher"),
        (73.7, "73.700", "×73.7", "73.7 times higher"),
        (312_954.0, "> 1,000", "> ×1,000", "more than 1,000 times higher"),
    ],
)
def test_a_ratio_is_formatted_with_few_digits_and_never_as_zero(value, as_ratio, as_percent, in_words):
    shown = [text.replace("\N{NO-BREAK SPACE}", " ") for text in (ratio(value), percent(value), change(value))]
    assert shown == [as_ratio, as_percent, in_words]


def test_a_range_of_extreme_ratios_is_worded_with_bounds():
    text = change_range(1e-5, 312_954.0).replace("\N{NO-BREAK SPACE}", " ")
    assert text == "more than 99.9 % lower to more than 1,000 times higher"


def test_counts_of_one_are_singular():
    assert [counted(number, "seed") for number in (0, 1, 1200)] == ["0 seeds", "1 seed", "1,200 seeds"]
