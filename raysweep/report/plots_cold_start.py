"""How new learners of unknown level fare, by length of the visible text."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from raysweep.evidence import formats
from raysweep.report.svg import Interval, Reference, interval_plot

Values = Mapping[str, Any]

_LABELS = {"general": "general", "chosen": "chosen", "mixture": "mixture"}


def cold_start(evidence: Values) -> list[tuple[str, Markup]]:
    """A plot per family: every way's perplexity against the oracle's, all levels together and by length."""
    return [(family["family"], _family(family)) for family in evidence["cold_start"]]


def _family(family: Values) -> Markup:
    rows: list[Interval] = []
    groups = [{"name": "all levels", "accuracy": family["accuracy"], **family["overall"]}]
    groups += [{**group, "name": f"{group['name']} visible tokens"} for group in family["by_length"]]
    for group in groups:
        found = group["accuracy"]
        said = f", level found for {formats.share(found['value'])}" if found else ""
        rows.append(Interval(label=f"{group['name']}{said}", text="", is_heading=True))
        rows += [_row(_LABELS[way], ratio, group["name"]) for way, ratio in group["over_oracle"].items()]
    return interval_plot(
        f"cold-start-{family['family']}",
        "Perplexity against the oracle, by who answers",
        "Ratio of each way's perplexity to that of the true level's model; every number is in the table.",
        rows,
        [Reference(value=1.0, label="oracle")],
        "PPL of the way ÷ PPL of the true level's model (logarithmic)",
    )


def _row(label: str, found: Values, group: str) -> Interval:
    bounds = f" [{formats.percent(found['low'])}, {formats.percent(found['high'])}]" if found["low"] is not None else ""
    return Interval(
        label=label,
        text=f"{formats.percent(found['value'])}{bounds}",
        value=found["value"],
        low=found["low"],
        high=found["high"],
        is_summary=group == "all levels",
    )
