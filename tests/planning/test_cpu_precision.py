"""bfloat16 on a CPU is used if the processor has it and one test per run shows that it is faster."""

import subprocess

import pytest

from raysweep.config.loading import parse_config
from raysweep.errors import ResourceError
from raysweep.planning import cpu_precision
from raysweep.planning.cpu_precision import (
    LEAST_SPEEDUP,
    choose_precision,
    has_bf16,
    known_precision,
    refuse_onednn_here,
    with_precision,
)
from raysweep.scheduling.trials import expand_trials
from raysweep.training import bf16_speed

TRIALS = {"A1": {"levels": ["A1"]}, "A2": {"levels": ["A2"], "precision": "fp32"}}


@pytest.fixture
def tested(monkeypatch, tmp_path):
    """Simulate a CPU with AVX512-BF16 and no GPU; call the choice with a config and a speed-up, or an error's text."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n")
    monkeypatch.setattr(cpu_precision, "CPUINFO", cpuinfo)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    calls = []

    def choose(outcome, **changes):
        def run(command, **_):
            calls.append(command[3:])
            failed = isinstance(outcome, str)
            return subprocess.CompletedProcess(command, int(failed), "" if failed else f"{outcome}\n", outcome)

        monkeypatch.setattr(cpu_precision.subprocess, "run", run)
        values = {"model": {"size": "small"}, "resources": {"gpus_per_trial": 0}, "trials": TRIALS}
        return choose_precision(parse_config(values | changes))

    choose.calls = calls
    return choose


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx512_bf16 sse", True),
        ("flags : amx_tile amx_bf16", True),
        ("flags : avx512f avx512_bf16x", False),
        ("Features : fp asimd bf16", False),
        ("", False),
    ],
)
def test_cpu_features_are_read_from_cpuinfo(tmp_path, flags, expected):
    """Only a whole word counts as a flag; ARM has other names for flags, and is not considered."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    assert has_bf16(tmp_path / "cpuinfo") == expected
    assert not has_bf16(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("speedup", "expected"), [(LEAST_SPEEDUP - 0.01, "fp32"), (LEAST_SPEEDUP, "bf16"), (2.5, "bf16")]
)
def test_bf16_is_chosen_only_for_a_clear_speedup(tested, speedup, expected):
    """The test uses the model's width, its vocabulary and half the positions of a full batch."""
    choice = tested(speedup)
    assert (choice.precision, choice.speedup) == (expected, speedup)
    assert f"precision: {expected} on this CPU" in choice.describe()
    assert tested.calls == [["256", "50264", "1024", "1.0"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"size": "micro"}},
        {"training": {"precision": "fp32"}},
        {"resources": {"address": "10.0.0.1:6379"}},
    ],
)
def test_precision_is_not_benchmarked_if_there_is_no_choice(tested, changes):
    """Cases: narrow models, a type set by the user, and a cluster, whose nodes may differ."""
    assert tested("must not be called", **changes) is None
    assert not tested.calls


def test_a_failed_precision_benchmark_names_the_setting_that_avoids_it(tested):
    """The message quotes the error's last line."""
    with pytest.raises(ResourceError, match=r"of bfloat16 on this CPU failed \(boom\); set it to fp32 or bf16"):
        tested("Traceback\nboom")


def test_the_chosen_precision_applies_only_to_auto():
    """A trial with a precision of its own keeps it; without a choice, nothing changes."""
    config = parse_config({"trials": TRIALS})
    chosen = with_precision(config, "bf16")
    assert chosen.training.precision == "bf16"
    assert [chosen.trials[name].precision for name in TRIALS] == ["bf16", "fp32"]
    assert with_precision(config, None) is config


def test_the_benchmark_times_both_precisions(capsys):
    """The process prints a ratio of times, which is about one on any machine."""
    bf16_speed.main(["8", "16", "4", "0"])
    assert 0.01 < float(capsys.readouterr().out) < 100


@pytest.mark.parametrize(
    ("gpu", "resources", "flags", "expected"),
    [
        ("NVIDIA A100-SXM4-40GB", {}, "", "bf16"),
        ("Tesla V100-SXM2-16GB", {}, "", "fp32"),
        ("Tesla T4", {}, "", "fp32"),
        ("Quadro K600", {}, "", None),
        ("NVIDIA A100-SXM4-40GB", {"gpus_per_trial": 0}, "", "fp32"),
        (None, {"address": "10.0.0.1:6379", "gpus_per_trial": 0}, "avx512_bf16", "fp32"),
        (None, {"address": "10.0.0.1:6379"}, "", None),
        (None, {}, "", "fp32"),
        (None, {}, "avx512_bf16", None),
    ],
)
def test_auto_is_resolved_without_a_benchmark_where_possible(monkeypatch, tmp_path, gpu, resources, flags, expected):
    """A GPU is known by its name; one not in the table, a cluster's, and a CPU that must be tested stay unknown."""
    (tmp_path / "gpus" / "0").mkdir(parents=True)
    if gpu:
        (tmp_path / "gpus" / "0" / "information").write_text(f"Model: {gpu}\n")
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags}\n")
    monkeypatch.setattr("raysweep.planning.devices.DRIVER", tmp_path / "gpus")
    monkeypatch.setattr(cpu_precision, "CPUINFO", tmp_path / "cpuinfo")
    for name in ("CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert (
        known_precision(parse_config({"model": {"size": "small"}, "resources": resources, "trials": TRIALS}))
        == expected
    )


def search_of(precision):
    return {"space": {"precision": {"choices": ["fp32", precision]}}}


AVX512 = "avx512f avx512bw avx512dq avx512vl"


@pytest.mark.parametrize(
    ("has_gpu", "flags", "changes", "expected"),
    [
        (False, AVX512, {}, None),
        (False, "", {}, None),
        (
            False,
            "avx2 avx512f avx512bw",
            {},
            "A1: training.precision: found fp32_onednn, .* AVX-512.* a processor without it; set auto or fp32$",
        ),
        (False, "avx2", {"trial": {"precision": "fp32"}}, None),
        (True, AVX512, {}, r"A1: training.precision: .* on Tesla T4; set auto or fp32, or resources.gpus_per"),
        (True, AVX512, {"resources": {"gpus_per_trial": 0}}, None),
        (True, AVX512, {"trial": {"gpus": 0}}, None),
        (True, "avx2", {"resources": {"address": "10.0.0.1:6379"}}, None),
        (
            True,
            AVX512,
            {"trial": {"precision": "fp32", "search": search_of("fp32_onednn")}},
            "A1: search.space.precision: ",
        ),
        (True, AVX512, {"trial": {"search": search_of("bf16")}}, None),
    ],
)
def test_fp32_onednn_is_refused_where_it_is_not_supported(monkeypatch, tmp_path, has_gpu, flags, changes, expected):
    """They are refused before any start; trainings check what is unknown: a cluster's nodes, a CPU without flags."""
    (tmp_path / "gpus" / "0").mkdir(parents=True)
    if has_gpu:
        (tmp_path / "gpus" / "0" / "information").write_text("Model: Tesla T4\n")
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr("raysweep.planning.devices.DRIVER", tmp_path / "gpus")
    monkeypatch.setattr(cpu_precision, "CPUINFO", tmp_path / "cpuinfo")
    for name in ("CUDA_VISIBLE_DEVICES", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    trial = {"levels": ["A1"], "precision": "fp32_onednn"} | changes.get("trial", {})
    config = parse_config({"trials": {"A1": trial}, "resources": changes.get("resources", {})})
    trials = expand_trials(config)
    refuse_onednn_here(config, {})  # trainings elsewhere are not checked
    if expected is None:
        refuse_onednn_here(config, trials)
    else:
        with pytest.raises(ResourceError, match=expected):
            refuse_onednn_here(config, trials)
