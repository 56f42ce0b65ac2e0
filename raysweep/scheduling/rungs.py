"""Stores the losses of a search's sample at each rung: `rungs.json` in its folder.

A sample that was killed on its way to the second rung must not be judged at the first one by later losses,
so the losses at a rung are those of the evaluations up to it, and are written once.
"""

import json

from raysweep.config.scored_metrics import METRICS
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.run_folder import TrialFolder


def written_losses(folder: TrialFolder, fingerprint: str) -> dict[str, dict[str, float]]:
    """Read the best losses up to each rung that the same work has passed, by the rung's step as text."""
    written = read_json(folder.rungs) if folder.rungs.exists() else {}
    rungs: dict[str, dict[str, float]] = written["rungs"] if written.get("fingerprint") == fingerprint else {}
    return rungs


def losses_at(folder: TrialFolder, fingerprint: str, step: int) -> dict[str, float]:
    """Return the best losses up to the rung at this step, ignoring later ones; write them on the first call."""
    rungs = written_losses(folder, fingerprint)
    if str(step) not in rungs:
        lines = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
        evaluations = [line for line in lines if line["kind"] == "evaluation" and line["step"] <= step]
        best = next(line for line in reversed(evaluations) if line["is_best"])
        rungs = {**rungs, str(step): {name: float(best[name]) for name in METRICS if name in best}}
        write_json(folder.rungs, {"fingerprint": fingerprint, "rungs": rungs})
    return rungs[str(step)]
