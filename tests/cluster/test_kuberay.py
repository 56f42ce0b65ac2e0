"""The KubeRay manifest: its fields match the schemas of KubeRay and Kubernetes, its values those of cluster.yaml."""

import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from raysweep.cli.cluster_commands import app
from raysweep.cluster.session import capacity_of

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "kuberay_schema.json").read_text(encoding="utf-8"))


def printed(*options):
    done = CliRunner().invoke(app, ["kuberay", *options])
    assert done.exit_code == 0, done.exception
    return done.output


@pytest.fixture
def documents():
    """Return the manifest's documents by kind."""
    options = ("--image", "registry.example/raysweep:1", "--workers", "6", "--storage", "50Gi", "--csv", "a/texts.csv")
    return {document["kind"]: document for document in yaml.safe_load_all(printed(*options))}


def ray_resources(group):
    """Return the resources that a group's pods declare to Ray besides CPUs and GPUs."""
    return json.loads(json.loads(group["rayStartParams"]["resources"].strip("'")))


def test_every_field_of_the_manifest_is_in_the_kuberay_schema(documents):
    """Others are refused, as by `kubectl apply --validate=strict`."""
    jsonschema.Draft202012Validator(SCHEMA).validate(documents["RayJob"])
    documents["RayJob"]["spec"]["rayClusterSpec"]["workerGroups"] = []
    with pytest.raises(jsonschema.ValidationError, match="workerGroups"):
        jsonschema.Draft202012Validator(SCHEMA).validate(documents["RayJob"])


def test_volumes_and_pods_are_valid_in_kubernetes(documents):
    """KubeRay's schema covers pods, but not what pods mount."""
    spec = documents["RayJob"]["spec"]["rayClusterSpec"]
    pods = [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    for pod in pods:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **pod}
        kubernetes_validate.validate(pod, "1.31", strict=True)
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"]]
        assert claims == [documents["PersistentVolumeClaim"]["metadata"]["name"]]
    kubernetes_validate.validate(documents["PersistentVolumeClaim"], "1.31", strict=True)
    assert documents["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_settings_are_rendered_into_the_manifest(documents):
    """Nothing is left to fill in."""
    spec = documents["RayJob"]["spec"]
    worker = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    assert worker["maxReplicas"] == 6
    assert worker["template"]["spec"]["containers"][0]["image"] == "registry.example/raysweep:1"
    assert documents["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"] == "50Gi"
    assert "--set data.csv=/mnt/raysweep/a/texts.csv" in spec["entrypoint"]
    assert not re.search(r"\$\w", printed())
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert spec["rayClusterSpec"]["rayVersion"] == pinned


def test_the_head_declares_the_resources_of_the_workers(documents):
    """As in cluster.yaml, a run plans by it, and is refused if no GPU can come."""
    spec = documents["RayJob"]["spec"]["rayClusterSpec"]
    capacity = capacity_of({"CPU": 8.0, **ray_resources(spec["headGroupSpec"])}, [])
    assert (capacity.cpus, capacity.gpus) == (8 + 6 * 4, 6)
    assert ray_resources(spec["workerGroupSpecs"][0]) == {"trial_gpu": 1}
    assert spec["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"


@pytest.mark.parametrize("option", ["--image", "--storage", "--profile", "--csv"])
def test_a_setting_that_would_inject_yaml_is_refused(option):
    """The manifest is YAML that someone applies, with a command line that pods run."""
    from raysweep.errors import ConfigError

    done = CliRunner().invoke(app, ["kuberay", option, "x\n  y: $(reboot)"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith(f"{option}: found 'x")


def test_the_dockerfile_installs_by_hash_from_existing_files():
    """Its version of ray must be the one that the manifest names."""
    text = printed("--dockerfile")
    files = re.findall(r"/opt/raysweep/([\w./]+)", text)
    assert {".ci/installer.lock", "requirements.lock", "constraints.txt"} <= set(files)
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert text.count("--require-hashes") == 2
