"""The table of what serving takes: one model against the levels' models together."""

from collections.abc import Mapping
from typing import Any

from raysweep.evidence import formats
from raysweep.report.tables import Column, Table, number, number_column, text_column, word

Values = Mapping[str, Any]


def speed_table(evidence: Values) -> Table:
    """Size, memory, latency and throughput of infilling."""
    rows = []
    for model, timed in (evidence["speed"] or {}).items():
        served = [(model, timed)]
        if timed.get("ensemble"):
            served.append((f"{timed['ensemble']['models']} levels' models, chosen by the text", timed["ensemble"]))
        for name, one in served:
            for size, timing in one["batches"].items():
                rows.append(
                    (
                        word(name, detail=timed["device"]),
                        number(one.get("parameters"), formats.count),
                        number(one.get("bytes"), formats.size),
                        number(one.get("memory_bytes"), formats.size),
                        number(_hours(one.get("load_seconds")), formats.hours),
                        word(size),
                        number(_hours(timing["latency_p50_s"]), formats.hours),
                        number(_hours(timing["latency_p95_s"]), formats.hours),
                        number(timing["tokens_per_second"], formats.count),
                    )
                )
    return Table(
        name="speed",
        caption="What serving takes (a prompt of 64 tokens, an answer of 16; of the levels' models the visible text "
        "chooses one, and all stay in memory)",
        columns=(
            text_column("Model", "model"),
            number_column("Parameters", "parameters"),
            number_column("On disk", "bytes"),
            number_column("In memory", "memory_bytes"),
            number_column("Loading", "load_hours"),
            Column(title="Texts at once", fields=("batch",)),
            number_column("Median time", "latency_p50_hours"),
            number_column("95th percentile", "latency_p95_hours"),
            number_column("Tokens/s", "tokens_per_second"),
        ),
        rows=tuple(rows),
    )


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600.0
