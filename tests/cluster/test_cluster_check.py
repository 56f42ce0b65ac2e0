"""`raysweep cluster check` finds what would otherwise fail minutes after `ray up`, on paid instances."""

import shutil
from functools import cache
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.exceptions import NoCredentialsError
from moto import mock_aws

from raysweep.cluster.aws_account import IMAGE, AwsAccount
from raysweep.cluster.cluster_file import ClusterFile
from raysweep.errors import ConfigError, ResourceError

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"


class Quotas:
    """Service Quotas of an account with 8 vCPUs for GPU instances."""

    def get_service_quota(self, ServiceCode, QuotaCode):
        return {"Quota": {"Value": 8.0}}


@cache
def find_image():
    """Return the id of one of moto's hundreds of images; it takes a second, and is always the same."""
    return boto3.client("ec2", REGION).describe_images()["Images"][0]["ImageId"]


class Parameters:
    """AWS's public parameters, which contain the image's id."""

    def get_parameter(self, Name):
        assert Name == IMAGE
        return {"Parameter": {"Value": find_image()}}


@pytest.fixture
def account(monkeypatch):
    """Set up a simulated AWS in this process, without machines."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        own = {"service-quotas": Quotas(), "ssm": Parameters()}
        yield lambda service, region: own.get(service) or boto3.client(service, region)


@pytest.fixture
def place(tmp_path, account):
    """Provide the unchanged cluster.yaml, a prepared account, and a token."""
    shutil.copy(ROOT / "cluster.yaml", tmp_path)
    prepared = AwsAccount(region=REGION, client=account, say=print, wait=print)
    prepared.prepare(bucket="my-runs", cluster="raysweep", ssh_from="203.0.113.7/32")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o600)
    return tmp_path


def examine(place, account, **options):
    options = {"bucket": "my-runs", **options}
    file = ClusterFile(path=place / "cluster.yaml", token=place / "token", client=account, **options)
    return {finding.subject: finding for finding in file.examine()}


def change(place, edit):
    """Edit the values of the file."""
    path = place / "cluster.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    edit(values)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")


def test_the_shipped_cluster_yaml_passes(place, account):
    """No instance is started."""
    findings = examine(place, account)
    assert [finding.subject for finding in findings.values() if not finding.is_fine] == []
    assert findings["credentials"].text == "account 123456789012"
    assert findings["images"].text.startswith("ami-")
    assert findings["rights"].text == "raysweep-head, raysweep-worker"
    assert findings["firewall"].text == "ray-autoscaler-raysweep lets in 203.0.113.7/32"
    assert findings["bucket"].text == "my-runs, in eu-central-1"
    assert account("ec2", REGION).describe_instances()["Reservations"] == []


def set_worker(**values):
    return lambda file: file["available_node_types"]["gpu_worker"]["node_config"].update(values)


def half_a_gpu(file):
    file["available_node_types"]["gpu_worker"]["resources"]["GPU"] = 0.5


@pytest.mark.parametrize(
    ("edit", "subject", "text"),
    [
        (half_a_gpu, "fields", "0.5 is not of type 'integer'"),
        (
            set_worker(IamInstanceProfile={"Name": "other"}),
            "rights",
            "no instance profile other; `raysweep cluster pre",
        ),
        (lambda file: file.update(cluster_name="other"), "firewall", "no security group ray-autoscaler-other, so Ray"),
        (set_worker(InstanceType="g5.tiny"), "node_config", "gpu_worker: InstanceType: EC2 has no 'g5.tiny'"),
        (set_worker(Imageid="ami-1"), "node_config", "gpu_worker: Parameter validation failed|Unknown parameter"),
        (set_worker(ImageId="ami-0123456789abcdef0"), "images", "ami-0123456789abcdef0"),
    ],
)
def test_a_mistake_in_cluster_yaml_is_reported(place, account, edit, subject, text):
    """The other checks are still made."""
    change(place, edit)
    findings = examine(place, account)
    assert not findings[subject].is_fine
    assert any(part in findings[subject].text for part in text.split("|")), findings[subject].text
    assert findings["token"].is_fine


@pytest.mark.parametrize(
    "opening", [{"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, {"Ipv6Ranges": [{"CidrIpv6": "::/0"}]}], ids=["IPv4", "IPv6"]
)
def test_ssh_open_to_the_world_is_reported(place, account, opening):
    """Ray by itself opens it in this way."""
    group = account("ec2", REGION).describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["ray-autoscaler-raysweep"]}]
    )["SecurityGroups"][0]["GroupId"]
    world = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **opening}
    account("ec2", REGION).authorize_security_group_ingress(GroupId=group, IpPermissions=[world])
    assert "is open to the world" in examine(place, account)["firewall"].text


def test_a_missing_or_remote_bucket_is_reported(place, account):
    assert "404" in examine(place, account, bucket="no-such-runs")["bucket"].text
    change(place, lambda file: file["provider"].update(region="us-west-2"))
    assert "my-runs lies in eu-central-1, the cluster in us-west-2" in examine(place, account)["bucket"].text
    assert "bucket" not in examine(place, account, bucket="")


def test_a_missing_or_world_readable_token_is_reported(place, account):
    """Anyone who has the token may run code on the cluster."""
    (place / "token").chmod(0o644)
    assert "others on this machine can read" in examine(place, account)["token"].text
    (place / "token").unlink()
    assert "ray get-auth-token --generate" in examine(place, account)["token"].text


def test_a_corpus_in_the_code_folder_is_reported_before_the_job_is_submitted(place, account):
    """Ray's own answer is only '413'; files that git ignores are not uploaded."""
    (place / "runs").mkdir()
    for name in ("runs/weights.bin", "efcamdat.csv"):
        with (place / name).open("wb") as file:
            file.truncate(120 * 2**20)
    finding = examine(place, account)["uploads"]
    assert not finding.is_fine
    assert "120 MiB, of which efcamdat.csv 120 MiB; `ray job submit` takes 100 MiB" in finding.text


def test_workers_beyond_the_vcpu_quota_are_reported_on_request(place, account):
    """Otherwise they are requested again and again, and never come."""
    assert "quota" not in examine(place, account)
    finding = examine(place, account, asks_quota=True)["quota"]
    assert not finding.is_fine
    assert (
        "4 workers take 16 vCPUs, the account has 8 of L-3819A6DF; ask AWS for more, or set max_workers: 2"
        in finding.text
    )
    change(place, lambda file: file["available_node_types"]["gpu_worker"].update(max_workers=2))
    assert examine(place, account, asks_quota=True)["quota"].text == "gpu_worker: 8 of 8 vCPUs"


def test_the_check_exits_with_1_if_something_is_wrong(place, account, monkeypatch):
    """Scripts rely on it; a missing file is an error in the command's arguments."""
    from typer.testing import CliRunner

    from raysweep.cli.cluster_commands import app
    from raysweep.cluster import cluster_file, local_ray

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


def test_the_account_is_prepared_from_two_flags_or_two_variables(place, account, monkeypatch):
    """Nothing in the file must be filled in by hand; another region is written into it."""
    from typer.testing import CliRunner

    from raysweep.cli.cluster_commands import app
    from raysweep.cluster import aws_account, cluster_file

    monkeypatch.setattr(cluster_file, "aws_client", account)
    monkeypatch.setattr(aws_account, "_KNOWN_AFTER_S", 0.0)
    monkeypatch.setattr(aws_account, "find_own_network", lambda: "198.51.100.9/32")
    file = place / "cluster.yaml"
    done = CliRunner().invoke(
        app, ["prepare", str(file)], env={"AWS_REGION": "us-west-2", "RAYSWEEP_BUCKET": "west-runs"}
    )
    assert done.exit_code == 0, done.output
    assert "security group ray-autoscaler-raysweep: ssh from 198.51.100.9/32 only" in done.output
    assert "--storage s3://west-runs/runs" in done.output
    assert yaml.safe_load(file.read_text())["provider"]["region"] == "us-west-2"
    assert account("s3", "us-west-2").head_bucket(Bucket="west-runs")["BucketRegion"] == "us-west-2"
    assert CliRunner().invoke(app, ["prepare", str(file)], env={"RAYSWEEP_BUCKET": None}).exit_code == 2
    done = CliRunner().invoke(app, ["prepare", str(place / "none.yaml"), "--bucket", "my-runs"])
    assert isinstance(done.exception, ConfigError)

    def refuse(service, region):
        raise NoCredentialsError

    monkeypatch.setattr(cluster_file, "aws_client", refuse)
    done = CliRunner().invoke(app, ["prepare", str(file), "--bucket", "my-runs"])
    assert isinstance(done.exception, ResourceError), done.output
    assert str(done.exception).startswith("AWS: Unable to locate credentials; `aws configure`")
    looked = ClusterFile(path=file, token=place / "token", client=refuse).examine()
    assert {finding.subject for finding in looked if "aws configure" in finding.text} == {
        "credentials",
        "images",
        "rights",
        "firewall",
    }


@pytest.mark.parametrize("text", ["a: [", "provider: {type: aws}", "- a list", "", "cluster_name: a\nprovider: none"])
def test_a_file_that_is_not_a_cluster_config_is_refused(tmp_path, text):
    """The message names the file, before any request to AWS."""
    from raysweep.cli.cluster_commands import _read_cluster_file

    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml: is no YAML with cluster_name and provider\.region"):
        _read_cluster_file(tmp_path / "odd.yaml")
