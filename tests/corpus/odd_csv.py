"""Writes odd rows as CSV."""

import csv
import io

LEVELS = ("A1", "A2", "B1", "B2", "C1")
HEADER = ("writing_id", "l1", "cefr_level", "text")


def csv_bytes(rows, header=HEADER) -> bytes:
    """Rows as a CSV file's bytes."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue().encode("utf-8")
