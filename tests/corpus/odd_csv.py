"""Writes odd rows as CSV."""

import csv
import io

from raysweep.corpus.quarantine import check_bad_rows

LEVELS = ("A1", "A2", "B1", "B2", "C1")
HEADER = ("writing_id", "l1", "cefr_level", "text")


def refuse_bad_rows(corpus, path, data, quarantine) -> None:
    """Raise if a corpus has too many bad rows."""
    check_bad_rows(
        corpus.bad_rows, rows=corpus.rows, documents=len(corpus.documents), what=path.name, data=data,
        quarantine=quarantine,
    )  # fmt: skip


def csv_bytes(rows, header=HEADER) -> bytes:
    """Rows as a CSV file's bytes."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([header, *rows])
    return out.getvalue().encode("utf-8")
