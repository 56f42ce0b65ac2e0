"""What is told at each evaluation: `evaluations.jsonl`, and TensorBoard's curves, over stops and resumes."""

import math
import struct
from collections import defaultdict

import numpy as np
import pytest
import torch
from tensorboardX.proto import event_pb2
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from raysweep.storage.run_folder import TrialFolder
from raysweep.training import hardware
from raysweep.training.distributed import DistributedGroup
from raysweep.training.hardware import flops_share, peak_flops
from raysweep.training.loop import train
from raysweep.training.metrics import read_metrics
from raysweep.training.progress import Progress
from raysweep.training.reporting import describe_throughput


def read_curves(folder):
    """Each curve's points as TensorBoard shows them: a start at step n voids what earlier files say of n and later."""
    curves = defaultdict(list)
    for event in _read_events(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            for tag, points in curves.items():
                curves[tag] = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            if not value.metadata.plugin_data.plugin_name:
                curves[value.tag].append((event.step, value.simple_value))
    return curves


def read_hyperparameters(folder):
    """Read what TensorBoard's HParams tab would show."""
    values = [value for event in _read_events(folder) for value in event.summary.value]
    return [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for value in values
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]


def _read_events(folder):
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            yield event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length


def stopped_at(steps):
    asked = iter([None] * (steps - 1) + ["the machine is needed"])
    return lambda: next(asked, None)


def test_an_evaluation_records_all_metrics_since_the_last_one(make_job):
    """Losses of both kinds, perplexities, rate, gradient norm, speed, padding, memory and what the time went into."""
    job = make_job()
    result = train(job, device="cpu")
    folder = TrialFolder(job.folder)
    lines = read_metrics(folder.evaluations)
    steps = [line for line in read_metrics(folder.metrics) if line["kind"] == "step"]
    plain = [line for line in read_metrics(folder.metrics) if line["kind"] == "evaluation"]
    assert [line["step"] for line in lines] == [4, 8, 12]
    for line, evaluation in zip(lines, plain, strict=True):
        assert line["valid"] == {part: evaluation[part] for part in ("context", "infill", "infill_textonly")}
        assert line["perplexity"] == pytest.approx({part: math.exp(nats) for part, nats in line["valid"].items()})
        stretch = steps[line["step"] - 4 : line["step"]]
        assert line["learning_rate"] == stretch[-1]["learning_rate"]
        assert line["gradient_norm"] == stretch[-1]["gradient_norm"]
        for part in ("context", "infill"):
            values = [step[part] for step in stretch]
            assert min(values) <= line["train"][part] <= max(values)
        assert line["tokens_per_second"] > 0
        assert 0 <= line["padding_share"] < 0.5
        assert line["peak_memory_bytes"] > 10_000_000
        assert sum(line["share_of_time"].values()) == pytest.approx(1)
        assert line["share_of_time"].keys() == {"data", "step", "evaluation", "checkpoint"}
        assert "mfu" not in line, "the peak of a CPU is not known"
    busy = result.seconds["data"] + result.seconds["step"]
    assert result.tokens_per_second == pytest.approx(result.tokens / busy)
    assert result.mfu is None


def test_a_resumed_training_has_each_curve_point_once(make_job):
    """Stopped after step 7, lost after step 9 without a checkpoint: TensorBoard shows 12 steps, none twice."""
    job = make_job(checkpoint_every=6)
    assert train(job, device="cpu", should_stop=stopped_at(7)).steps == 7

    def fail():
        raise RuntimeError("killed")

    asked = iter([None, fail])
    with pytest.raises(RuntimeError, match="killed"):
        train(job, device="cpu", should_stop=lambda: (next(asked) or (lambda: None))())
    train(job, device="cpu")
    folder = TrialFolder(job.folder)
    curves = read_curves(folder.root)
    assert [step for step, _ in curves["train/loss"]] == list(range(1, 13))
    assert curves["valid/loss"] == curves["valid/infill"]
    assert curves["train/loss"] == curves["train/infill"]
    minimised = [value for _, value in curves["train/objective"]]
    parts = [
        left + right for (_, left), (_, right) in zip(curves["train/context"], curves["train/infill"], strict=True)
    ]
    np.testing.assert_allclose(minimised, parts, rtol=1e-5)
    expected = [line["loss"] for line in read_metrics(folder.metrics) if line["kind"] == "step"]
    np.testing.assert_allclose([value for _, value in curves["train/loss"]], expected, rtol=1e-6)
    of_evaluations = (
        "valid/loss",
        "valid/infill",
        "perplexity/infill",
        "train_mean/loss",
        "speed/tokens_per_second",
        "time/step",
    )
    for name in of_evaluations:
        assert [step for step, _ in curves[name]] == [4, 8, 12], name
    assert [line["step"] for line in read_metrics(folder.evaluations)] == [4, 8, 12]


def test_mfu_counts_six_flops_per_parameter_and_real_token(monkeypatch, build_small_model):
    """On a GPU of the table, over all workers' GPUs; position embeddings are looked up, so they do not count."""
    model = build_small_model()
    monkeypatch.setattr(hardware, "device_name", lambda device: "NVIDIA A100-SXM4-80GB")
    multiplied = sum(parameter.numel() for parameter in model.parameters()) - model.transformer.wpe.weight.numel()
    gpu = torch.device("cuda")
    assert flops_share(model, 1000.0, gpu) == pytest.approx(6 * multiplied * 1000.0 / 312e12)
    assert flops_share(model, 1000.0, gpu, gpus=2) == pytest.approx(3 * multiplied * 1000.0 / 312e12)


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA A40", 149.7),
        ("cpu", None),
        ("GeForce GTX 970", None),
    ],
)
def test_a_gpus_peak_flops_are_found_by_name(name, teraflops):
    """The longest entry that fits wins: an L40S is no L4."""
    assert peak_flops(name) == (None if teraflops is None else teraflops * 1e12)


def test_throughput_covers_the_steps_since_the_last_evaluation(build_small_model):
    """Throughput is not averaged over the whole training."""
    group, model = DistributedGroup(device=torch.device("cpu")), build_small_model()
    progress = Progress(tokens=1000, share_tokens=1000, share_positions=2000)
    progress.seconds["step"] = 100.0
    earlier = progress.to_state()
    progress.count_step(examples=4, tokens=90, share_tokens=90, share_positions=100)
    progress.seconds["step"] += 2.0
    progress.seconds["data"] += 1.0
    progress.seconds["evaluation"] += 3.0
    described = describe_throughput(progress.since(earlier), model, group)
    assert (described["tokens_per_second"], described["padding_share"]) == pytest.approx((30.0, 0.1))
    shares = {"data": 1 / 6, "step": 1 / 3, "evaluation": 0.5, "checkpoint": 0.0}
    assert described["share_of_time"] == pytest.approx(shares)
    earlier = progress.to_state()
    progress.count_step(examples=4, tokens=50, share_tokens=50, share_positions=50)
    progress.seconds["step"] += 1.0
    described = describe_throughput(progress.since(earlier), model, group)
    assert described["tokens_per_second"] == pytest.approx(50.0)
