"""Draws when each trial would run, as bars in the terminal: one row per trial or entry, time from left to right.

The chain of trials that decides the total time is drawn with full blocks and the others with light ones, so
that the picture can be read without colours.
"""

from collections.abc import Mapping

from rich.text import Text

from raysweep.cli.seed_rows import rows_of
from raysweep.cli.terminal import duration
from raysweep.planning.forecast import Makespan
from raysweep.scheduling.trials import Trial

ON_CHAIN, BESIDE = "█", "▒"
LONGEST_NAME = 20


def draw_gantt(trials: Mapping[str, Trial], span: Makespan, *, width: int) -> Text:
    """Draw the trials in order of their start, under an axis from 0 to the makespan, `width` columns wide."""
    rows = {row: [name for name in names if name in span.start] for row, names in rows_of(trials).items()}
    start = {row: min(map(span.start.__getitem__, names)) for row, names in rows.items() if names}
    end = {row: max(map(span.end.__getitem__, rows[row])) for row in start}
    # `sorted` is stable, so trials with equal starts keep their order.
    order = sorted(start, key=start.__getitem__)
    label = min(LONGEST_NAME, max(map(len, order), default=0))
    last = duration(span.makespan_s)
    columns = max(10, width - label - 3)
    chain = critical_chain(trials, span)
    picture = Text(" " * (label + 1) + "0" + last.rjust(columns), style="dim")
    for name in order:
        begin = round(start[name] / span.makespan_s * columns) if span.makespan_s else 0
        finish = round(end[name] / span.makespan_s * columns) if span.makespan_s else 0
        begin = min(begin, columns - 1)
        is_on_chain = not chain.isdisjoint(rows[name])
        bar = (ON_CHAIN if is_on_chain else BESIDE) * max(1, finish - begin)
        row = Text(name)
        row.truncate(label, overflow="ellipsis", pad=True)
        picture.append(f"\n{row} │" + " " * begin)
        picture.append(bar, style="bold cyan" if is_on_chain else "cyan")
    seeds = "" if len(order) == len(span.start) else "   from the start of its first seed to the end of its last"
    picture.append(f"\n{ON_CHAIN} ends last, with what it waits for   {BESIDE} beside it{seeds}", style="dim")
    return picture


def critical_chain(trials: Mapping[str, Trial], span: Makespan) -> set[str]:
    """Return the trial that ends last, and its ancestors among the drawn trials."""
    chain: set[str] = set()
    name = max(span.end, key=lambda trial: span.end[trial], default=None)
    while name is not None and name in span.end:
        chain.add(name)
        name = trials[name].parent
    return chain
