"""Takes a look at every claim after scoring, if seeds are sequential, and decides which seeds are trained next."""

from collections.abc import Mapping
from typing import Any

from raysweep.config.schema import Config
from raysweep.evidence.collect import ask_question
from raysweep.scheduling.records import State, read_record
from raysweep.scheduling.sequential_seeds import OpenClaim, release_seeds
from raysweep.scheduling.trials import Trial
from raysweep.statistics.claims import OVERALL, Finding, is_settled
from raysweep.storage.atomic_files import write_json
from raysweep.storage.run_folder import RunFolder


def take_look(folder: RunFolder, config: Config, trials: Mapping[str, Trial]) -> list[str]:
    """Judge the claims on all scored models, and record what may be trained; do nothing if seeds are fixed.

    Returns:
        Sentences for the waiting user.
    """
    if config.sequential_seeds is None:
        folder.looks.unlink(missing_ok=True)
        return []
    question, resamples = ask_question(folder, config, trials)
    findings = question.judge(resamples)
    compared = {claim.code: (claim.numerator, *claim.against) for claim in question.hypotheses}
    claims = [finding for finding in findings if not is_settled(finding)]
    records = {name: read_record(folder.trial(name)) for name in trials}
    done = [name for name, record in records.items() if record is not None and record.state is State.DONE]
    released = release_seeds(
        config,
        trials,
        [OpenClaim(roles=compared[claim.hypothesis], levels=_levels_of(claim, config)) for claim in claims],
        done,
    )
    waiting = [name for name in released if name not in done]
    spared = [name for name in trials if name not in released]
    values: dict[str, Any] = {
        "claims": [
            {
                "hypothesis": finding.hypothesis,
                "scope": finding.scope,
                "verdict": finding.verdict.value,
                "seeds": finding.seeds,
                "seed_power": finding.seed_power,
                "is_settled": is_settled(finding),
            }
            for finding in findings
        ],
        "released": released,
        # Until all claims are settled, waiting trials may still be trained.
        "not_needed": [] if waiting else spared,
    }
    write_json(folder.looks, values)
    settled = f"seeds: {len(findings) - len(claims)} of {len(findings)} claims are settled"
    if waiting:
        return [f"{settled}; next are {', '.join(waiting)}"]
    return [f"{settled}; {len(spared)} of {len(trials)} trainings are not needed"] if spared else [settled]


def _levels_of(claim: Finding, config: Config) -> tuple[str, ...]:
    return (claim.levels or config.data.levels) if claim.scope == OVERALL else (claim.scope,)
