"""What the engine asks of the machine: times that count."""

import torch

from raysweep.training.hardware import DeviceStopwatch

CPU = torch.device("cpu")


def test_a_stopwatch_counts_wall_and_cpu_time(monkeypatch):
    """In seconds, of what lies between."""
    monkeypatch.setattr("time.perf_counter", iter([10.0, 13.5]).__next__)
    monkeypatch.setattr("time.process_time", iter([2.0, 4.0]).__next__)
    watch = DeviceStopwatch(CPU)
    watch.start()
    watch.stop()
    assert (watch.seconds, watch.cpu_seconds) == (3.5, 2.0)
