"""Peak speed and memory of GPUs by the name of their kind, from the makers' data sheets."""

from raysweep.errors import InputError

MIB = 1 << 20
GIB = 1 << 30

PEAK_TFLOPS = {
    "H100 PCIe": 756.0,
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "A40": 149.7,
    "A10G": 70.0,
    "L4": 121.0,
    "V100": 15.7,
    "T4": 8.1,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}
"""Dense matrix products, 10^12 operations a second, by the makers' data sheets: in bf16, as `precision: auto`
trains; in float32 for the two that have no bf16."""
MEMORY_GIB = {
    "H200": 141, "H100 PCIe": 80, "H100": 80, "A100": 40, "L40S": 48, "A40": 48, "A10G": 24, "L4": 24,
    "V100": 16, "T4": 16,
    "RTX 4090": 24, "RTX 3090": 24,
}  # fmt: skip


def is_known(device: str) -> bool:
    """Whether the table has this GPU."""
    return any(kind.lower() in device.lower() for kind in PEAK_TFLOPS)


def gpu_kind(device: str) -> str | None:
    """The entry of the table that a device's name stands for; None for a CPU.

    Raises:
        InputError: a GPU that is not in the table.
    """
    if device == "cpu":
        return None
    for kind in PEAK_TFLOPS:
        if kind.lower() in device.lower():
            return kind
    raise InputError(
        f"no assumed speed for the GPU '{device}'; known are {', '.join(PEAK_TFLOPS)}. "
        "Measure it instead: `raysweep plan --calibrate` on a machine that has one"
    )
