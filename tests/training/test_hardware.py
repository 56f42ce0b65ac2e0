"""What the engine asks of the machine: times that count."""

import pytest
import torch

from raysweep.training.hardware import DeviceStopwatch, has_tf32

CPU = torch.device("cpu")


def test_a_stopwatch_measures_wall_and_cpu_time(monkeypatch):
    """In seconds, of what lies between."""
    monkeypatch.setattr("time.perf_counter", iter([10.0, 13.5]).__next__)
    monkeypatch.setattr("time.process_time", iter([2.0, 4.0]).__next__)
    watch = DeviceStopwatch(CPU)
    watch.start()
    watch.stop()
    assert (watch.seconds, watch.cpu_seconds) == (3.5, 2.0)


@pytest.mark.parametrize(
    ("device", "capability", "asked", "expected"),
    [
        ("cuda", (8, 0), "high", True),
        ("cuda", (9, 0), "high", True),
        ("cuda", (8, 0), "highest", False),
        ("cuda", (7, 5), "high", False),
        ("cpu", None, "high", False),
    ],
)
def test_tf32_is_used_for_float32_products_from_ampere_on(monkeypatch, device, capability, asked, expected):
    """Where torch may use it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: asked)
    assert has_tf32(torch.device(device)) is expected
