"""How a sample of a search stood at each rung, on disk: `rungs.json` in its folder.

A sample that was killed on its way to the second rung must not be judged at the first one by what it
learned since; so the losses at a rung are those of the evaluations up to it, noted once.
"""

import json

from raysweep.config.scored_metrics import METRICS
from raysweep.storage.atomic_files import read_json, write_json
from raysweep.storage.run_folder import TrialFolder


def standing_at(folder: TrialFolder, fingerprint: str, step: int) -> dict[str, float] | None:
    """The best losses up to the rung at this step, as noted for the same work; None if they were not."""
    if not folder.rungs.exists():
        return None
    noted = read_json(folder.rungs)
    if noted["fingerprint"] != fingerprint:
        return None
    losses: dict[str, float] | None = noted["rungs"].get(str(step))
    return losses


def note_standing(folder: TrialFolder, fingerprint: str, step: int) -> dict[str, float]:
    """Note the best losses up to the rung's evaluation, whatever came after it; returns them."""
    lines = [json.loads(line) for line in folder.metrics.read_text(encoding="utf-8").splitlines()]
    evaluations = [line for line in lines if line["kind"] == "evaluation" and line["step"] <= step]
    best = next(line for line in reversed(evaluations) if line["is_best"])
    losses = {name: float(best[name]) for name in METRICS if name in best}
    noted = read_json(folder.rungs) if folder.rungs.exists() else {}
    earlier = noted["rungs"] if noted.get("fingerprint") == fingerprint else {}
    write_json(folder.rungs, {"fingerprint": fingerprint, "rungs": {**earlier, str(step): losses}})
    return losses
