"""`raysweep cluster check` finds what would show minutes after `ray up`, with instances that are paid for."""

import shutil
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

from raysweep.cluster.cluster_file import ClusterFile

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"


class Quotas:
    """Service Quotas of an account with 8 vCPUs of GPU instances."""

    def get_service_quota(self, ServiceCode, QuotaCode):
        return {"Quota": {"Value": 8.0}}


@pytest.fixture
def account(monkeypatch):
    """An AWS without machines, on this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield lambda service, region: Quotas() if service == "service-quotas" else boto3.client(service, region)


@pytest.fixture
def place(tmp_path, account):
    """cluster.yaml as a user has filled it in, and a token."""
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    image = account("ec2", REGION).describe_images()["Images"][0]["ImageId"]
    text = text.replace("ami-00000000000000000", image).replace("fs-00000000000000000", "fs-0123456789abcdef0")
    (tmp_path / "cluster.yaml").write_text(text, encoding="utf-8")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o600)
    return tmp_path


def examine(place, account, **options):
    file = ClusterFile(path=place / "cluster.yaml", token=place / "token", client=account, **options)
    return {finding.subject: finding for finding in file.examine()}


def change(place, edit):
    """Edit the file's values."""
    path = place / "cluster.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    edit(values)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def test_a_file_that_is_filled_in_passes(place, account):
    """Nothing is started."""
    found = examine(place, account)
    assert [finding.subject for finding in found.values() if not finding.is_fine] == []
    assert found["credentials"].text == "account 123456789012"
    assert account("ec2", REGION).describe_instances()["Reservations"] == []


def set_worker(**values):
    return lambda file: file["available_node_types"]["gpu_worker"]["node_config"].update(values)


def half_a_gpu(file):
    file["available_node_types"]["gpu_worker"]["resources"]["GPU"] = 0.5


@pytest.mark.parametrize(
    ("edit", "subject", "text"),
    [
        (half_a_gpu, "fields", "0.5 is not of type 'integer'"),
        (set_worker(ImageId="ami-00000000000000000"), "to fill in", "have placeholders"),
        (set_worker(InstanceType="g5.tiny"), "node_config", "gpu_worker: InstanceType: EC2 has no 'g5.tiny'"),
        (set_worker(Imageid="ami-1"), "node_config", "gpu_worker: Parameter validation failed|Unknown parameter"),
        (set_worker(ImageId="ami-0123456789abcdef0"), "images", "ami-0123456789abcdef0"),
    ],
)
def test_a_mistake_in_the_file_is_named(place, account, edit, subject, text):
    """And the rest is looked at all the same."""
    change(place, edit)
    found = examine(place, account)
    assert not found[subject].is_fine
    assert any(part in found[subject].text for part in text.split("|")), found[subject].text
    assert found["token"].is_fine


def test_a_token_that_others_can_read_or_that_is_not_there_is_named(place, account):
    """Whoever has it may run code on the cluster."""
    (place / "token").chmod(0o644)
    assert "others on this machine can read" in examine(place, account)["token"].text
    (place / "token").unlink()
    assert "ray get-auth-token --generate" in examine(place, account)["token"].text


def test_a_corpus_beside_the_code_is_named_before_a_job_is_refused(place, account):
    """Ray's own answer is '413'; what git ignores is not uploaded."""
    (place / "runs").mkdir()
    for name in ("runs/weights.bin", "efcamdat.csv"):
        with (place / name).open("wb") as file:
            file.truncate(120 * 2**20)
    found = examine(place, account)["uploads"]
    assert not found.is_fine
    assert "120 MiB, of which efcamdat.csv 120 MiB; `ray job submit` takes 100 MiB" in found.text


def test_workers_beyond_the_account_s_quota_are_named_if_asked(place, account):
    """Otherwise they are asked for, again and again, and never come."""
    assert "quota" not in examine(place, account)
    found = examine(place, account, asks_quota=True)["quota"]
    assert not found.is_fine
    assert (
        "4 workers take 16 vCPUs, the account has 8 of L-3819A6DF; ask AWS for more, or set max_workers: 2"
        in found.text
    )
    change(place, lambda file: file["available_node_types"]["gpu_worker"].update(max_workers=2))
    assert examine(place, account, asks_quota=True)["quota"].text == "gpu_worker: 8 of 8 vCPUs"


def test_the_command_ends_with_1_if_something_is_wrong(place, account, monkeypatch):
    """For scripts; a file that is not there is an error of the command's words."""
    from typer.testing import CliRunner

    from raysweep.cli.cluster_commands import app
    from raysweep.cluster import cluster_file, local_ray
    from raysweep.errors import ConfigError

    monkeypatch.setattr(cluster_file, "aws_client", account)
    monkeypatch.setattr(local_ray, "AUTH_TOKEN", place / "token")
    done = CliRunner().invoke(app, ["check", str(place / "cluster.yaml")])
    assert done.exit_code == 0, done.output
    assert "✔ token: " in done.output
    (place / "token").unlink()
    done = CliRunner().invoke(app, ["check", str(place / "cluster.yaml")])
    assert done.exit_code == 1
    assert "✘ token: " in done.output
    done = CliRunner().invoke(app, ["check", str(place / "none.yaml")])
    assert isinstance(done.exception, ConfigError)
