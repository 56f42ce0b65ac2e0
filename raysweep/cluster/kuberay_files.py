"""Renders a sweep on Kubernetes: a RayJob manifest for KubeRay, and the Dockerfile of its image."""

from importlib import metadata, resources
from string import Template

_WORKER_CPUS, _HEAD_CPUS = 4, 8
"""The same numbers as in the manifest."""


def render_manifest(*, image: str, workers: int, storage: str, profile: str, csv: str) -> str:
    """Render the manifest.

    Args:
        workers: maximum number of pods with a GPU.
        storage: size of the volume, such as '200Gi'.
        csv: file name of the corpus in the volume's top folder.
    """
    values = {"image": image, "workers": workers, "storage": storage, "profile": profile, "csv": csv}
    values |= {"ray": metadata.version("ray"), "max_cpu": _HEAD_CPUS + workers * _WORKER_CPUS}
    return Template(_read("rayjob.yaml")).substitute(values)


def dockerfile() -> str:
    """Return the Dockerfile of the image used by all pods."""
    return _read("Dockerfile")


def _read(name: str) -> str:
    return (resources.files("raysweep.cluster") / "kuberay" / name).read_text(encoding="utf-8")
