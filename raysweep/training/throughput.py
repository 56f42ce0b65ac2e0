"""How fast a training goes and what its time goes into, from one evaluation to the next.

These numbers hold clocks, so they differ from run to run and stay out of `metrics.jsonl`.
"""

from typing import Any

from transformers import GPT2LMHeadModel

from raysweep.training.distributed import DistributedGroup
from raysweep.training.hardware import flops_share, peak_memory
from raysweep.training.progress import Progress


class ThroughputMeter:
    """Reads off what was done since it was last read."""

    def __init__(self, progress: Progress, model: GPT2LMHeadModel, group: DistributedGroup) -> None:
        self._progress, self._model, self._group = progress, model, group
        self._before = progress.to_state()

    def read(self) -> dict[str, Any]:
        """Of the stretch since the last reading, or since the training was started or resumed.

        Returns:
            `tokens_per_second` (real ones, of all workers), `padding_share`, `mfu` where the GPU's peak is known,
            `peak_memory_bytes` (so far), and `share_of_time` of `data`, `step`, `evaluation` and `checkpoint`.
        """
        now, before = self._progress.to_state(), self._before
        self._before = now
        done = {key: now[key] - before[key] for key in ("tokens", "share_tokens", "share_positions")}
        seconds = {part: now["seconds"][part] - before["seconds"][part] for part in now["seconds"]}
        rate = done["tokens"] / max(seconds["data"] + seconds["step"], 1e-9)
        mfu = flops_share(self._model, rate, self._group.device, self._group.world_size)
        whole = max(sum(seconds.values()), 1e-9)
        return {
            "tokens_per_second": rate,
            "padding_share": 1.0 - done["share_tokens"] / max(done["share_positions"], 1),
            **({} if mfu is None else {"mfu": mfu}),
            "peak_memory_bytes": peak_memory(self._group.device),
            "share_of_time": {part: spent / whole for part, spent in seconds.items()},
        }
