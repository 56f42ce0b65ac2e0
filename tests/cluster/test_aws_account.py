"""`raysweep cluster prepare` creates what cluster.yaml names, once, and opens nothing to the world."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from moto import mock_aws

from raysweep.cluster.aws_account import AwsAccount, find_own_network, set_profiles, set_region
from raysweep.errors import ConfigError, ResourceError

ROOT = Path(__file__).parents[2]
REGION = "eu-central-1"


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield lambda service: boto3.client(service, REGION)


@pytest.fixture
def prepare(aws):
    """Prepare the account; return the messages."""

    def prepare(bucket="my-runs", ssh_from="203.0.113.7/32", client=None, cluster="raysweep"):
        messages = []
        account = AwsAccount(
            region=REGION, client=client or (lambda service, _: aws(service)), say=messages.append, wait=messages.append
        )
        account.prepare(bucket=bucket, cluster=cluster, ssh_from=ssh_from)
        return messages

    return prepare


def rules_of(aws, name="ray-autoscaler-raysweep"):
    (group,) = aws("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])["SecurityGroups"]
    return {
        (rule.get("FromPort", -1), source.get("CidrIp", source.get("GroupId")))
        for rule in group["IpPermissions"]
        for source in (*rule["IpRanges"], *rule["UserIdGroupPairs"])
    }, group["GroupId"]


def test_all_aws_resources_are_created_once(aws, prepare):
    """The second time, nothing is created, and nothing is waited for."""
    messages = prepare()
    assert 15.0 in messages
    assert aws("s3").get_bucket_location(Bucket="my-runs")["LocationConstraint"] == REGION
    closed = aws("s3").get_public_access_block(Bucket="my-runs")["PublicAccessBlockConfiguration"]
    assert all(closed.values())
    (rule,) = aws("s3").get_bucket_lifecycle_configuration(Bucket="my-runs")["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    before = rules_of(aws)
    again = prepare()
    assert 15.0 not in again
    assert [line for line in again if "made" in line] == []
    assert rules_of(aws) == before


def test_ssh_is_allowed_only_from_the_callers_current_address(aws, prepare):
    """The nodes can reach each other; a network that was allowed before is removed."""
    prepare()
    rules, group = rules_of(aws)
    assert rules == {(22, "203.0.113.7/32"), (-1, group)}
    prepare(ssh_from="198.51.100.0/24")
    assert rules_of(aws)[0] == {(22, "198.51.100.0/24"), (-1, group)}


def test_all_other_ingress_rules_are_removed(aws, prepare):
    """Rules for all protocols have no port, IPv6 networks have a field of their own, and port ranges are one rule."""
    prepare()
    rules, group = rules_of(aws)
    opened = [
        {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "198.51.100.1/32", "Description": "me"}]},
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]},
        {"IpProtocol": "tcp", "FromPort": 8000, "ToPort": 9000, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
    ]
    aws("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=opened)
    prepare()
    assert rules_of(aws) == (rules, group)
    (security_group,) = aws("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert [rule for rule in security_group["IpPermissions"] if rule.get("Ipv6Ranges")] == []


def statements(aws, name):
    profile = aws("iam").get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    (role,) = profile["Roles"]
    policy = aws("iam").get_role_policy(RoleName=role["RoleName"], PolicyName="raysweep")["PolicyDocument"]
    return (policy if isinstance(policy, dict) else json.loads(policy))["Statement"]


def test_each_cluster_has_its_own_permissions(aws, prepare):
    """With another name and bucket, the first cluster keeps its rights; with the same name, it says what is lost."""
    prepare()
    before = statements(aws, "raysweep-worker"), statements(aws, "raysweep-head")
    messages = prepare(bucket="other-runs", cluster="study")
    assert [line for line in messages if "loses" in str(line)] == []
    assert (statements(aws, "raysweep-worker"), statements(aws, "raysweep-head")) == before
    assert {statement["Resource"] for statement in statements(aws, "study-worker")} == {
        "arn:aws:s3:::other-runs",
        "arn:aws:s3:::other-runs/*",
    }
    warnings = [line for line in prepare(bucket="other-runs") if "loses" in str(line)]
    assert [line.partition(";")[0] for line in warnings] == [
        "role raysweep-worker: had other rights",
        "role raysweep-head: had other rights",
    ]
    assert warnings[0].endswith("Give this one a cluster_name of its own if you need both")


def test_workers_can_access_only_the_bucket(aws, prepare):
    """Code on a worker has the worker's rights; the head starts instances in its region and ends its cluster's own."""
    prepare()
    assert {statement["Resource"] for statement in statements(aws, "raysweep-worker")} == {
        "arn:aws:s3:::my-runs",
        "arn:aws:s3:::my-runs/*",
    }
    by_action = {action: statement for statement in statements(aws, "raysweep-head") for action in statement["Action"]}
    ours = {"aws:RequestedRegion": REGION, "ec2:ResourceTag/ray-cluster-name": "raysweep"}
    assert by_action["ec2:TerminateInstances"]["Condition"] == {"StringEquals": ours}
    assert by_action["ec2:RunInstances"]["Condition"] == {"StringEquals": {"aws:RequestedRegion": REGION}}
    tagging = [
        statement["Condition"]
        for statement in statements(aws, "raysweep-head")
        if "ec2:CreateTags" in statement["Action"]
    ]
    assert tagging == [{"StringEquals": {"ec2:CreateAction": "RunInstances"}}, {"StringEquals": ours}]
    assert by_action["iam:PassRole"]["Resource"] == "arn:aws:iam::*:role/raysweep-worker"


def test_cluster_yaml_names_the_instance_profiles_of_its_cluster(tmp_path):
    """The file may be unchanged or renamed in one place; a file that names none is told what to write."""
    file = tmp_path / "cluster.yaml"
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    assert set_profiles(file) == []
    file.write_text(text.replace("cluster_name: raysweep", "cluster_name: study"), encoding="utf-8")
    assert set_profiles(file) == ["study-head", "study-worker"]
    nodes = yaml.safe_load(file.read_text(encoding="utf-8"))["available_node_types"]
    named = {name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in nodes.items()}
    assert named == {"head": "study-head", "gpu_worker": "study-worker"}
    assert set_profiles(file) == []
    file.write_text(text.replace("IamInstanceProfile: {Name: raysweep-head}", "EbsOptimized: true"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"head\.node_config: found no line .*Name: raysweep-head}' there yourself"):
        set_profiles(file)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"bucket": "My_Runs"}, ConfigError, "--bucket: found 'My_Runs'"),
        ({"ssh_from": "everywhere"}, ConfigError, "--ssh-from: found 'everywhere'; must be an IPv4 network"),
    ],
)
def test_an_invalid_option_is_refused_before_anything_is_created(aws, prepare, options, error, text):
    with pytest.raises(error, match=text):
        prepare(**options)
    assert aws("s3").list_buckets()["Buckets"] == []


@pytest.mark.parametrize(
    ("code", "text"), [(403, "is another account's"), (301, "lies in another region"), (500, "answer 500")]
)
def test_an_unavailable_bucket_name_is_reported(aws, prepare, code, text):
    class UnavailableBuckets:
        def head_bucket(self, Bucket):
            raise ClientError({"ResponseMetadata": {"HTTPStatusCode": code}}, "HeadBucket")

    with pytest.raises(ResourceError, match=f"bucket my-runs: {text}.*take another name"):
        prepare(client=lambda service, _: UnavailableBuckets() if service == "s3" else aws(service))


def test_an_existing_bucket_in_another_region_is_refused(aws, prepare):
    """Traffic between regions is charged by the byte."""
    place = {"LocationConstraint": "us-west-2"}
    boto3.client("s3", "us-west-2").create_bucket(Bucket="my-runs", CreateBucketConfiguration=place)
    with pytest.raises(ResourceError, match=r"lies in us-west-2, the cluster in eu-central-1.*--region us-west-2"):
        prepare()


def test_a_region_without_a_default_vpc_is_refused(aws, prepare):
    client = aws("ec2")
    (network,) = client.describe_vpcs()["Vpcs"]
    for subnet in client.describe_subnets()["Subnets"]:
        client.delete_subnet(SubnetId=subnet["SubnetId"])
    client.delete_vpc(VpcId=network["VpcId"])
    with pytest.raises(ResourceError, match="aws ec2 create-default-vpc --region eu-central-1"):
        prepare()


def test_only_the_region_in_cluster_yaml_is_changed(tmp_path):
    file = tmp_path / "cluster.yaml"
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    assert not set_region(file, "eu-central-1")
    assert set_region(file, "us-west-2")
    assert file.read_text(encoding="utf-8") == text.replace("region: eu-central-1 ", "region: us-west-2 ")
    with pytest.raises(ConfigError, match="--region: found 'Frankfurt'"):
        set_region(file, "Frankfurt")
    file.write_text("provider: {region: us-east-1}")
    with pytest.raises(ConfigError, match="has 0 lines '  region: …'; write us-west-2 there yourself"):
        set_region(file, "us-west-2")


@pytest.mark.parametrize(("body", "network"), [(b"203.0.113.7\n", "203.0.113.7/32"), (b"<html>", None)])
def test_the_callers_public_address_is_discovered(body, network):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        if network:
            assert find_own_network(url) == network
        else:
            with pytest.raises(ResourceError, match="give --ssh-from"):
                find_own_network(url)
