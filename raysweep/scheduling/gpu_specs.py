"""Peak speed and memory of GPUs by the name of their kind, from the manufacturers' data sheets."""

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One kind of GPU."""

    kind: str
    """A part of the device name that the driver reports."""
    peak_tflops: float
    """Dense matrix products, in 10^12 operations per second: in bf16, or in float32 on the two kinds without bf16."""
    memory_gib: int
    has_bf16: bool = True
    """Whether the hardware multiplies bfloat16."""


GPU_SPECS = (
    GpuSpec("H100 PCIe", 756.0, 80),
    GpuSpec("H200", 989.0, 141),
    GpuSpec("H100", 989.0, 80),
    GpuSpec("A100", 312.0, 40),
    GpuSpec("L40S", 362.0, 48),
    GpuSpec("A40", 149.7, 48),
    GpuSpec("A10G", 70.0, 24),
    GpuSpec("L4", 121.0, 24),
    GpuSpec("V100", 15.7, 16, has_bf16=False),
    GpuSpec("T4", 8.1, 16, has_bf16=False),
    GpuSpec("RTX 4090", 165.0, 24),
    GpuSpec("RTX 3090", 71.0, 24),
)


def find_gpu_spec(device: str) -> GpuSpec | None:
    """Find the data sheet of a GPU by its name; None for a CPU or a GPU that is not in the table."""
    return next((spec for spec in GPU_SPECS if spec.kind.lower() in device.lower()), None)
