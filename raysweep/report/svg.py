"""Draws plots as inline SVG: no library, no script, a few kilobytes each.

Colours are the page's own variables, so a plot follows the page's dark mode and its print style.  No
plot relies on colour alone: shapes, dashes, labels and numbers carry the same information.  Every plot has a title and
a description for screen readers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, floor, inf, log, log10

from markupsafe import Markup, escape

from raysweep.evidence import formats
from raysweep.report.tables import HasLimits, limits

LABELS = 134
_HALF_CHARACTER = 3.4
NUMBERS = 252
"""Width of the columns of numbers beside an interval plot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A row of an interval plot; without a value, `text` says why."""

    label: str
    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    style: str = "plain"
    """The class of a verdict, or 'plain'."""
    is_summary: bool = False
    """Whether it is drawn as a diamond, with bold text."""
    is_heading: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A vertical line at a value of the axis."""

    value: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A line of a curve panel."""

    label: str
    points: Sequence[Sequence[float]]
    style: str
    """A class: 'general', 'specialised' or 'transfer'."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatCell:
    """A cell of a heat map."""

    text: str
    shade: float
    """-1 … 1; a shade below 0 has the other colour, which its text also states."""
    is_best: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatRow:
    """A row of a heat map."""

    label: str
    note: str
    """Shown under the label."""
    cells: Sequence[HeatCell | None]
    reason: str
    """Why there are no cells."""


def percent_interval(label: str, estimate: HasLimits, *, is_summary: bool = False) -> Interval:
    """Make a row that shows a ratio as a change in per cent."""
    text = f"{formats.percent(estimate.value)} {limits(estimate, formats.percent)}".rstrip()
    return Interval(
        label=label, text=text, value=estimate.value, low=estimate.low, high=estimate.high, is_summary=is_summary
    )


def interval_plot(
    name: str, title: str, description: str, rows: Sequence[Interval], references: Sequence[Reference], axis: str
) -> Markup:
    """Draw values with their intervals on a logarithmic axis, one row each, with numbers beside them."""
    width, top, pitch = 760, 34, 24
    left, right = LABELS, width - NUMBERS
    height = top + pitch * len(rows) + 44
    low, high = _span(rows, references)

    def place(value: float) -> float:
        return left + (log(value) - log(low)) / (log(high) - log(low)) * (right - left)

    foot = top + pitch * len(rows)
    parts = [_line(left, foot, right, foot, "axis")]
    for tick in _ticks(low, high):
        parts.append(_line(place(tick), foot, place(tick), foot + 4, "axis"))
        parts.append(_text(place(tick), foot + 17, f"{tick:g}", "tick middle"))
    parts.append(_text((left + right) / 2, foot + 36, axis, "tick middle"))
    last = -inf
    for reference in sorted(references, key=lambda reference: reference.value):
        x = place(reference.value)
        # Labels that would overlap are placed at two heights.
        y = top - 22 if x - last < 7 * len(reference.label) + 8 else top - 8
        last = x if y == top - 8 else -inf
        parts.extend(_line(x, start, x, end, "reference") for start, end in _beside_headings(rows, y + 4, top, pitch))
        parts.append(_text(x, y, reference.label, "tick middle"))
    for index, row in enumerate(rows):
        parts.extend(_interval_row(row, top + pitch * index + pitch / 2, place, low, high, width))
    return _figure(name, title, description, width, height, parts)


def heat_map(name: str, title: str, description: str, columns: Sequence[str], rows: Sequence[HeatRow]) -> Markup:
    """Draw shaded cells with their numbers."""
    left, cell_width, cell_height, top = 150, 84, 38, 30
    width, height = left + cell_width * len(columns) + 4, top + cell_height * len(rows) + 4
    parts = [
        _text(left + cell_width * (index + 0.5), top - 10, column, "label middle strong")
        for index, column in enumerate(columns)
    ]
    for line, row in enumerate(rows):
        y = top + cell_height * line
        parts.append(_text(left - 12, y + (17 if row.note else 23), _cut(row.label, 18), "label end"))
        if row.note:
            parts.append(_text(left - 12, y + 31, _cut(row.note, 24), "tick end"))
        if row.reason:
            parts.append(_text(left + 8, y + 23, _cut(row.reason, 14 * len(columns)), "tick"))
        for index, cell in enumerate(row.cells):
            if cell is not None:
                parts.extend(_heat_cell(left + cell_width * index, y, cell_width, cell_height, cell))
    return _figure(name, title, description, width, height, parts)


def curve_panel(name: str, title: str, description: str, series: Sequence[Series], *, across: str = "steps") -> Markup:
    """Draw loss by step (or by `across`), a line per model, with the smallest value of each marked."""
    width, height, left, right, top, foot = 320, 210, 42, 306, 14, 172
    points = [point for line in series for point in line.points]
    x_high = max(point[0] for point in points)
    y_low, y_high = min(point[1] for point in points), max(point[1] for point in points)
    margin = (y_high - y_low or 1.0) * 0.06
    y_low, y_high = y_low - margin, y_high + margin

    def at(point: Sequence[float]) -> tuple[float, float]:
        across = point[0] / x_high if x_high else 0.0
        return left + across * (right - left), foot - (point[1] - y_low) / (y_high - y_low) * (foot - top)

    parts = [_line(left, foot, right, foot, "axis")]
    for tick in _linear_ticks(y_low, y_high):
        y = at((0.0, tick))[1]
        parts.append(_line(left, y, right, y, "grid"))
        parts.append(_text(left - 6, y + 4, f"{tick:g}", "tick end"))
    for tick in _linear_ticks(0.0, x_high):
        label = f"{tick:,.10g}"
        # The last label may be wider than the space left in the panel.
        x = min(at((tick, y_low))[0], width - _HALF_CHARACTER * len(label))
        parts.append(_text(x, foot + 17, label, "tick middle"))
    parts.append(_text((left + right) / 2, foot + 34, across, "tick middle"))
    for line in series:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, line.points))
        parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(line.style, path))
        best = min(line.points, key=lambda point: point[1])
        x, y = at(best)
        parts.append(Markup('<circle class="dot {}" cx="{}" cy="{}" r="3.5"/>').format(line.style, _n(x), _n(y)))
    return _figure(name, title, description, width, height, parts, narrow=True)


def bar_plot(name: str, title: str, description: str, rows: Sequence[tuple[str, float | None, str, str]]) -> Markup:
    """Draw horizontal bars; a row has label, length (None: no bar), text beside the bar, and class."""
    width, pitch, left, right = 720, 24, LABELS + 46, 560
    longest = max((value for _, value, _, _ in rows if value), default=1.0) or 1.0
    parts = []
    for index, (label, value, text, style) in enumerate(rows):
        y = index * pitch + 4
        length = (right - left) * (value or 0.0) / longest
        parts.append(_text(left - 12, y + 14, _cut(label, 22), "label end"))
        if value is not None:
            bar = Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="14" rx="2"/>')
            parts.append(bar.format(style, left, y + 3, _n(max(length, 1.0))))
        parts.append(_text(left + length + 8, y + 14, _cut(text, 60), "tick"))
    return _figure(name, title, description, width, pitch * len(rows) + 8, parts)


def _beside_headings(rows: Sequence[Interval], first: float, top: float, pitch: float) -> list[tuple[float, float]]:
    """Return vertical ranges from a height to the foot of the rows, skipping headings so that no line crosses them."""
    headings = [top + pitch * index for index, row in enumerate(rows) if row.is_heading]
    starts, ends = [first, *(y + pitch for y in headings)], [*headings, top + pitch * len(rows)]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def _interval_row(
    row: Interval, y: float, place: Callable[[float], float], low: float, high: float, width: int
) -> list[Markup]:
    weight = " strong" if row.is_summary or row.is_heading else ""
    if row.is_heading:
        return [_line(0, y - 11, width, y - 11, "grid"), _text(0, y + 5, _cut(row.label, 110), "label halo" + weight)]
    parts = [
        _text(14, y + 4, _cut(row.label, 18), "label" + weight),
        _text(width - NUMBERS + 16, y + 4, _cut(row.text, 40), "tick" + weight),
    ]
    if row.value is None:
        return parts
    x = place(row.value)
    if row.low is not None and row.high is not None:
        x0, x1 = place(max(row.low, low)), place(min(row.high, high))
        if row.is_summary:
            points = f"{_n(x0)},{_n(y)} {_n(x)},{_n(y - 7)} {_n(x1)},{_n(y)} {_n(x)},{_n(y + 7)}"
            return [*parts, Markup('<polygon class="mark {}" points="{}"/>').format(row.style, points)]
        parts.append(_line(x0, y, x1, y, f"whisker {row.style}"))
        ends = [(x0, -4, row.low < low), (x1, 4, row.high > high)]
        parts.extend(_end(end, y, reach, is_cut, row.style) for end, reach, is_cut in ends)
    parts.append(Markup('<circle class="mark {}" cx="{}" cy="{}" r="4.5"/>').format(row.style, _n(x), _n(y)))
    return parts


def _end(x: float, y: float, reach: int, is_cut: bool, style: str) -> Markup:
    """Draw the end of a whisker: a bar, or an arrow if the interval extends beyond the plot."""
    if not is_cut:
        return _line(x, y - 4, x, y + 4, f"whisker {style}")
    points = f"{_n(x - reach)},{_n(y - 4)} {_n(x)},{_n(y)} {_n(x - reach)},{_n(y + 4)}"
    return Markup('<polyline class="whisker {}" points="{}"/>').format(style, points)


def _heat_cell(x: float, y: float, width: float, height: float, cell: HeatCell) -> list[Markup]:
    rect = Markup('<rect class="heat{}" x="{}" y="{}" width="{}" height="{}" rx="3" fill-opacity="{}"/>')
    style = "label middle strong" if cell.is_best else "label middle"
    kind = (" worse" if cell.shade < 0.0 else "") + (" best" if cell.is_best else "")
    return [
        rect.format(kind, _n(x + 2), _n(y + 2), _n(width - 4), _n(height - 4), f"{abs(cell.shade):.2f}"),
        _text(x + width / 2, y + height / 2 + 5, cell.text, style),
    ]


def _span(rows: Sequence[Interval], references: Sequence[Reference]) -> tuple[float, float]:
    """Return the range of the axis: all estimates, and intervals except ends so far out that they flatten the rest."""
    points = [reference.value for reference in references]
    points += [row.value for row in rows if row.value is not None]
    ends = [end for row in rows for end in (row.low, row.high) if end is not None]
    low = min(*points, max(min(ends, default=inf), 0.2))
    high = max(*points, min(max(ends, default=-inf), 8.0))
    pad = max((log(high) - log(low)) * 0.06, 0.01)
    return low * exp(-pad), high * exp(pad)


def _ticks(low: float, high: float) -> list[float]:
    """Return at most seven round numbers in the range, for a logarithmic axis."""
    wide = [factor * 10.0**power for power in range(-2, 7) for factor in (1, 3)]
    for steps in ((0.25, 0.5, 1, 2, 4, 8), (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 8), wide, wide[::2]):
        ticks = [tick for tick in steps if low <= tick <= high]
        if 4 <= len(ticks) <= 7 and high < 4 * ticks[-1]:
            return ticks
    return _linear_ticks(low, high, most=7)


def _linear_ticks(low: float, high: float, most: int = 5) -> list[float]:
    span = (high - low) or 1.0
    step = 10.0 ** floor(log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10, 20) if span / (step * factor) <= most)
    first = -floor(-low / step)
    return [round(step * index, 10) for index in range(first, first + most + 2) if step * index <= high]


def _figure(
    name: str, title: str, description: str, width: float, height: float, parts: Sequence[Markup], narrow: bool = False
) -> Markup:
    opening = Markup(
        '<svg class="plot{}" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc" '
        'style="--natural-width:{}px"><title id="{}-title">{}</title><desc id="{}-desc">{}</desc>'
    ).format(" narrow" if narrow else "", _n(width), _n(height), name, name, _n(width), name, title, name, description)
    return opening + Markup("").join(parts) + Markup("</svg>")


def _line(x0: float, y0: float, x1: float, y1: float, style: str) -> Markup:
    line = Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>')
    return line.format(style, _n(x0), _n(y0), _n(x1), _n(y1))


def _text(x: float, y: float, text: str, style: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(style, _n(x), _n(y), escape(text))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _cut(text: str, characters: int) -> str:
    """Shorten a text to fit; the table beside the plot has the whole text."""
    return text if len(text) <= characters else text[: characters - 1] + "…"
