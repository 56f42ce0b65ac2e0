"""Defines what a section of the report consists of, and the blocks that its page may contain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from raysweep.report.infill_samples import Sample
from raysweep.report.tables import Table

Key = Sequence[tuple[str, str]]
"""Pairs of a line's class and its meaning."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with its caption; also written as `report/figures/<name>.svg` and `.pdf`."""

    name: str
    plot: Markup
    caption: str
    key: Key = ()
    """Meaning of the plot's lines, if the page states it once for several plots; the figure files repeat it."""


@dataclass(frozen=True, slots=True)
class Panels:
    """Small plots side by side with a common key; the figures' captions serve as their headings."""

    key: Markup
    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Folded:
    """Long content that the reader opens with a click."""

    summary: str
    content: Table[Any] | Figure | Markup


MOST_ROWS = 16
"""A table with more rows may be folded; in print, its CSV file is named instead."""


def folded_if_long(summary: str, table: Table[Any]) -> Table[Any] | Folded:
    """Return the table, folded if it would fill half a page."""
    return Folded(summary, table) if len(table.records) > MOST_ROWS else table


_LINES = {
    "general": "solid dark line",
    "specialised": "solid orange line",
    "transfer": "dashed blue line",
}

Block = Table[Any] | Figure | Panels | Folded | Sample | Markup


@dataclass(frozen=True, slots=True)
class ReportSection:
    """One section of the page, with its blocks in order; a section without blocks is left out.

    Its tables are also written as CSV and TeX, and shown in Markdown; for long folded tables, Markdown names the
    CSV file instead, and the longest are not written as TeX.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]
    alarm: str = ""
    """A sentence that Markdown shows in bold after the tables."""

    @property
    def tables(self) -> list[Table[Any]]:
        """The tables that are not folded."""
        return [block for block in self.blocks if isinstance(block, Table)]

    @property
    def figures(self) -> list[Figure]:
        """All plots."""
        panels = [figure for block in self.blocks if isinstance(block, Panels) for figure in block.figures]
        shown = [block.content if isinstance(block, Folded) else block for block in self.blocks]
        return [block for block in shown if isinstance(block, Figure)] + panels

    @property
    def folded_tables(self) -> list[Table[Any]]:
        """The folded tables, for the reader's own analysis."""
        return [table for _, table in self.summaries]

    @property
    def summaries(self) -> list[tuple[str, Table[Any]]]:
        """Each folded table, preceded by the words with which the page introduces it."""
        folded = [(block.summary, block.content) for block in self.blocks if isinstance(block, Folded)]
        return [(summary, content) for summary, content in folded if isinstance(content, Table)]


def paragraph(html: str, *values: object) -> Markup:
    """Make a paragraph; `html` is trusted, and the values for its braces are escaped."""
    return Markup(f"<p>{html}</p>").format(*values)


def key_of(key: Key) -> Markup:
    """Make the key of a plot's lines, as a list with a sample of each line."""
    items = (
        Markup(
            '<li><svg viewBox="0 0 32 10" role="img" aria-label="{0}"><title>{0}</title>'
            '<line class="curve {1}" x1="0" y1="5" x2="32" y2="5"/></svg>{2}</li>'
        ).format(_LINES[style], style, text)
        for style, text in key
    )
    return Markup('<ul class="key">{}</ul>').format(Markup("\n").join(items))


def heading(text: str) -> Markup:
    """Make a heading within a section."""
    return Markup("<h3>{}</h3>").format(text)


def absent(text: str) -> Markup:
    """Make a note that says why something is not shown."""
    return Markup('<p class="not-tested">{}</p>').format(text)


def alarm(text: str) -> Markup:
    """Make a warning that the results cannot be used as they are."""
    return Markup('<p class="refuted"><strong>{}</strong></p>').format(text)
