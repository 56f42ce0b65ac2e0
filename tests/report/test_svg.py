"""The geometry of plots agrees with the numbers."""

import json
import re
from xml.etree import ElementTree

import pytest

from raysweep.evidence.evidence_schema import Evidence
from raysweep.report.sections.training_runs import training_section
from raysweep.report.svg import (
    LABELS,
    HeatCell,
    HeatRow,
    Interval,
    Reference,
    Series,
    bar_plot,
    curve_panel,
    heat_map,
    interval_plot,
)


def plot(rows, reference="equal"):
    return str(interval_plot("p", "title", "description", rows, [Reference(value=1.0, label=reference)], "ratio"))


def test_ratios_are_drawn_on_a_logarithmic_axis():
    """The axis is logarithmic: half and double are at the same distance from equality."""
    text = plot([Interval(label=str(v), text="", value=v) for v in (0.5, 1.0, 2.0)])
    half, equal, double = (float(x) for x in re.findall(r'<circle[^>]* cx="([\d.]+)"', text))
    # Coordinates are rounded to a tenth of a pixel.
    assert equal - half == pytest.approx(double - equal, abs=0.21)


def test_an_interval_beyond_the_plot_ends_in_an_arrow():
    """The end of the plot must not look like the end of the interval."""
    wide = plot([Interval(label="wide", text="", value=1.0, low=0.001, high=1.2)])
    assert wide.count("<polyline") == 1
    assert plot([Interval(label="fits", text="", value=1.0, low=0.9, high=1.2)]).count("<polyline") == 0


@pytest.mark.parametrize("value", [0.01, 9.0, 74.0])
def test_estimates_far_from_one_stay_within_the_axis(value):
    """Ratios of 70 occur between distant levels; they used to be drawn over the numbers beside the plot."""
    text = plot([Interval(label="far", text="", value=value, low=0.9 * value, high=1.1 * value)])
    foot = re.search(r'class="axis" x1="([\d.]+)"[^>]* x2="([\d.]+)"', text)
    assert foot is not None
    (x,) = re.findall(r'<circle[^>]* cx="([\d.]+)"', text)
    assert float(foot[1]) <= float(x) <= float(foot[2])
    assert len(re.findall(r"tick middle", text)) >= 4


def test_the_reference_line_does_not_cross_headings():
    """It stops above each heading, and continues below it to the axis."""
    heading, row = Interval(label="H1", text="", is_heading=True), Interval(label="A1", text="", value=1.1)
    text = plot([heading, row, row, heading, row])
    lines = [
        (float(y1), float(y2)) for y1, y2 in re.findall(r'class="reference"[^>]* y1="([^"]+)"[^>]* y2="([^"]+)"', text)
    ]
    words = [float(y) for y in re.findall(r'y="([\d.]+)">H1<', text)]
    assert len(words) == 2
    assert not [1 for y in words for first, last in lines if first < y and last > y - 10]
    assert lines[-1][1] == max(float(y) for y in re.findall(r'class="axis"[^>]* y1="([^"]+)"', text))


def test_decided_and_undecided_rows_differ_by_more_than_colour():
    """The summary is a diamond, and a level a dot; the verdict is written beside it."""
    text = plot([Interval(label="overall", text="? undecided", value=1.0, low=0.9, high=1.1, is_summary=True)])
    assert "<polygon" in text
    assert "? undecided" in text


def test_a_row_without_a_value_shows_its_reason():
    """ "Not tested" is not the same as zero."""
    text = plot([Interval(label="B1", text="– not tested")])
    assert "not tested" in text
    assert "<circle" not in text


def test_labels_are_escaped():
    """This holds in plots, too."""
    hostile = "<script>x</script>"
    cell = HeatCell(text=hostile, shade=0.5, is_best=True)
    row = HeatRow(label=hostile, note=hostile, cells=[cell], reason=hostile)
    for text in (
        plot([Interval(label=hostile, text=hostile, value=1.0)], hostile),
        str(heat_map("h", hostile, hostile, [hostile], [row])),
        str(curve_panel("c", hostile, hostile, [Series(label=hostile, points=[[1, 2.0]], style="general")])),
        str(bar_plot("b", hostile, hostile, [(hostile, 1.0, hostile, "general")])),
    ):
        assert "<script" not in text


@pytest.mark.parametrize("points", [[[0, 2.5]], [[10, 2.5], [20, 2.5]], [[1, 1e-9], [2, 1e6]]])
def test_curves_of_one_point_or_without_spread_can_be_drawn(points):
    """Cases: a training with one evaluation, a constant loss, and a loss that fell far."""
    text = str(curve_panel("c", "t", "d", [Series(label="x", points=points, style="general")]))
    assert "nan" not in text
    assert "inf" not in text


def _spans(plot):
    """Return where each text of a plot begins and ends, if all letters are as wide as the widest digits."""
    for text in ElementTree.fromstring(str(plot)).iter("text"):
        x, width = float(text.get("x")), 6.5 * len(text.text)
        left = {"middle": x - width / 2, "end": x - width}.get(text.get("class").split()[-1], x)
        yield text.text, left, left + width


@pytest.mark.parametrize("steps", [600_000, 1_000_000, 90_000, 40])
def test_the_last_axis_number_is_inside_its_panel(steps):
    """Long trainings have long numbers."""
    panel = curve_panel("c", "t", "d", [Series(label="all", points=[[1, 3.0], [steps, 2.0]], style="general")])
    assert [text for text, left, right in _spans(panel) if left < 0 or right > 320] == []


def test_row_labels_are_inside_the_plot_and_do_not_overlap():
    """Tested with the longest labels that are not cut."""
    bars = bar_plot("b", "t", "d", [("control-placebo-2-A1-ab", 1.0, "1 h", "general")])
    assert [text for text, left, _ in _spans(bars) if left < 0] == []
    assert (
        next(
            right
            for text, _, right in _spans(plot([Interval(label="other models here", text="")]))
            if text == "other models here"
        )
        < LABELS
    )


def test_bar_lengths_are_proportional_to_their_numbers():
    """Twice the hours are twice the length; a failed trial has no bar."""
    text = str(bar_plot("b", "t", "d", [("a", 2.0, "2 h", "x"), ("b", 4.0, "4 h", "x"), ("c", None, "failed", "x")]))
    short, long = (float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', text))
    assert long == pytest.approx(2 * short)


def test_an_exposure_panel_shows_each_kind_of_model_at_its_examples_seen(evidence):
    """Further right, more of the level was seen; the axis says so, and each level has a panel."""
    section = training_section(Evidence.model_validate_json(json.dumps(evidence)))
    panels = [figure for figure in section.figures if figure.name.startswith("exposure-")]
    assert [figure.caption for figure in panels] == evidence["levels"]
    text = str(panels[0].plot)
    assert "examples of the level" in text
    across = {
        style: float(re.search(rf'<circle class="dot {style}" cx="([\d.]+)"', text)[1])
        for style in ("general", "specialised", "transfer")
    }
    seen = {row["role"]: row["examples"] for row in evidence["exposure"] if row["level"] == "A1" and row["is_own"]}
    assert sorted(across, key=across.get) == sorted(across, key=lambda style: seen[style])
