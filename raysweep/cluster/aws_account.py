"""Creates in an AWS account what cluster.yaml needs: `raysweep cluster prepare`.

Four things are created if they are missing: a bucket for the runs (an existing one is not changed); an instance profile
for the head, which may start and terminate this cluster's workers; one for the workers, which may use the bucket and
nothing else; and the security group that Ray would otherwise create with ssh open to the world.  All but the bucket are
named after the cluster, so that clusters with other buckets keep their permissions.  Permissions and security group are
set to what is requested, whatever they were before.  The region and instance profiles in cluster.yaml are updated.
"""

import ipaddress
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raysweep.errors import ConfigError, ResourceError

IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""AWS's public parameter with the id of the newest image that has NVIDIA's driver, in each region."""
ADDRESS_SERVICE = "https://checkip.amazonaws.com"
_KNOWN_AFTER_S = 15.0
"""Seconds until a new role is known everywhere in EC2; Ray waits as long."""
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SSH = 22
_FORBIDDEN, _MOVED, _MISSING = 403, 301, 404


@dataclass(frozen=True, kw_only=True)
class AwsAccount:
    """An AWS account, reached with the usual credentials, in one region."""

    region: str
    client: Callable[[str, str], Any]
    """Makes a client of an AWS service, from its name and the region."""
    say: Callable[[str], None]
    wait: Callable[[float], object] = time.sleep

    def prepare(self, *, bucket: str, cluster: str, ssh_from: str) -> None:
        """Create what is missing, and report what was created.

        Args:
            cluster: `cluster_name` of cluster.yaml, after which security group, instance profiles and roles are named.
            ssh_from: the network that may use ssh, such as 203.0.113.7/32.

        Raises:
            ConfigError: the bucket's name or the network is not valid.
            ResourceError: the bucket is another account's, or lies in another region; there is no default VPC.
        """
        if not _BUCKET_NAME.fullmatch(bucket):
            raise ConfigError(f"--bucket: found '{bucket[:80]}'; a name has 3 to 63 of a-z, 0-9, '-' and '.'")
        network = _parse_network(ssh_from)
        self._make_bucket(bucket)
        made = [
            self._make_profile(name, policy)
            for name, policy in {
                name_profile(cluster, is_head=False): worker_policy(bucket),
                name_profile(cluster, is_head=True): head_policy(bucket, cluster, self.region),
            }.items()
        ]
        self._allow_ssh(f"ray-autoscaler-{cluster}", network)
        if any(made):
            self.say(f"waiting {_KNOWN_AFTER_S:.0f} s until all of AWS knows the new roles")
            self.wait(_KNOWN_AFTER_S)

    def _make_bucket(self, bucket: str) -> None:
        from botocore.exceptions import ClientError

        s3 = self.client("s3", self.region)
        try:
            existing = s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            code = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if code != _MISSING:
                why = {_FORBIDDEN: "is another account's, or closed to you", _MOVED: "lies in another region"}
                raise ResourceError(f"bucket {bucket}: {why.get(code, f'answer {code}')}; take another name") from error
        else:
            where = existing.get("BucketRegion", self.region)
            if where != self.region:
                raise ResourceError(
                    f"bucket {bucket}: lies in {where}, the cluster in {self.region}; every byte between them "
                    f"costs. Take another name, or --region {where}"
                )
            self.say(f"bucket {bucket}: is there")
            return
        place = {} if self.region == "us-east-1" else {"LocationConstraint": self.region}
        s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
        closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
        # The parts of an upload that was killed would be charged without being visible.
        rule = {
            "ID": "unfinished-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
        }
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
        self.say(f"bucket {bucket}: made in {self.region}, private")

    def _make_profile(self, name: str, policy: Mapping[str, Any]) -> bool:
        """Create a role and its instance profile, and set its permissions; return whether it is new."""
        iam = self.client("iam", self.region)
        trust = {
            "Version": "2012-10-17",
            "Statement": [_allow("sts:AssumeRole", Principal={"Service": "ec2.amazonaws.com"})],
        }
        is_new = False
        try:
            iam.get_role(RoleName=name)
        except iam.exceptions.NoSuchEntityException:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
            is_new = True
        self._put_rights(iam, name, policy)
        try:
            profile = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        except iam.exceptions.NoSuchEntityException:
            profile = iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
            is_new = True
        if not profile["Roles"]:
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        self.say(f"instance profile {name}: {'made' if is_new else 'is there'}")
        return is_new

    def _put_rights(self, iam: Any, role: str, policy: Mapping[str, Any]) -> None:
        """Replace the role's permissions by these."""
        try:
            before = iam.get_role_policy(RoleName=role, PolicyName="raysweep")["PolicyDocument"]
        except iam.exceptions.NoSuchEntityException:
            before = policy
        if before != policy:
            self.say(
                f"role {role}: had other rights; a cluster of the same name with another bucket or region loses them. "
                "Give this one a cluster_name of its own if you need both"
            )
        iam.put_role_policy(RoleName=role, PolicyName="raysweep", PolicyDocument=json.dumps(policy))

    def _allow_ssh(self, group_name: str, network: str) -> None:
        """Allow ssh from this network only; machines in the group can reach each other."""
        ec2 = self.client("ec2", self.region)
        networks = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not networks:
            raise ResourceError(
                f"{self.region} has no default VPC; `aws ec2 create-default-vpc --region {self.region}`"
            )
        vpc = networks[0]["VpcId"]
        named = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "group-name", "Values": [group_name]}]
        groups = ec2.describe_security_groups(Filters=named)["SecurityGroups"]
        if groups:
            group, known = groups[0]["GroupId"], groups[0]["IpPermissions"]
        else:
            about = "raysweep: ssh from one network"
            group, known = ec2.create_security_group(GroupName=group_name, Description=about, VpcId=vpc)["GroupId"], []
        inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
        if not any(rule["IpProtocol"] == "-1" and rule.get("UserIdGroupPairs") for rule in known):
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[inside])
        wanted, is_open = _ssh_from(network), False
        for opening in _openings(known):
            if opening == wanted:
                is_open = True
            else:
                ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[opening])
        if not is_open:
            ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[wanted])
        self.say(f"security group {group_name}: ssh from {network} only")


def worker_policy(bucket: str) -> dict[str, Any]:
    """Return the workers' permissions: list the bucket, and read, write and delete its objects."""
    objects = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("s3:ListBucket", "s3:GetBucketLocation", Resource=f"arn:aws:s3:::{bucket}"),
            _allow(*objects, Resource=f"arn:aws:s3:::{bucket}/*"),
        ],
    }


def head_policy(bucket: str, cluster: str, region: str) -> dict[str, Any]:
    """Return the head's permissions: also start workers with their profile, tag and end this cluster's instances."""
    policy = worker_policy(bucket)
    here = {"aws:RequestedRegion": region}
    of_cluster = {"StringEquals": {**here, "ec2:ResourceTag/ray-cluster-name": cluster}}
    role = f"arn:aws:iam::*:role/{name_profile(cluster, is_head=False)}"
    policy["Statement"] += [
        _allow("ec2:Describe*", Resource="*"),
        _allow("ec2:RunInstances", Resource="*", Condition={"StringEquals": here}),
        # The tags that an instance starts with, and those with which Ray tracks its progress.
        _allow("ec2:CreateTags", Resource="*", Condition={"StringEquals": {"ec2:CreateAction": "RunInstances"}}),
        _allow("ec2:CreateTags", "ec2:TerminateInstances", Resource="*", Condition=of_cluster),
        _allow("iam:PassRole", Resource=role, Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
        _allow("ssm:GetParameters", Resource="arn:aws:ssm:*::parameter/aws/service/*"),
    ]
    return policy


def name_profile(cluster: str, *, is_head: bool) -> str:
    """Name the instance profile of a cluster's head or workers, and the role in it."""
    return f"{cluster}-{'head' if is_head else 'worker'}"


def _allow(*actions: str, **rest: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), **rest}


def _ssh_from(network: str) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": _SSH, "ToPort": _SSH, "IpRanges": [{"CidrIp": network}]}


def _openings(rules: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each network, or prefix list, that the rules let in, as a separate rule."""
    for rule in rules:
        what = {name: rule[name] for name in ("IpProtocol", "FromPort", "ToPort") if name in rule}
        for kind, key in {"IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6", "PrefixListIds": "PrefixListId"}.items():
            for source in rule.get(kind, []):
                yield {**what, kind: [{key: source[key]}]}


def _parse_network(text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text))
    except ValueError as error:
        raise ConfigError(
            f"--ssh-from: found '{text[:80]}'; must be an IPv4 network, such as 203.0.113.7/32 ({error})"
        ) from error


def find_own_network(url: str = ADDRESS_SERVICE) -> str:
    """Return this machine's public address, as a network of one address.

    Raises:
        ResourceError: the service does not answer, or not with an address.
    """
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return f"{ipaddress.IPv4Address(answer.read(64).decode().strip())}/32"
    except (OSError, ValueError) as error:
        raise ResourceError(f"{url} does not tell this machine's address ({error}); give --ssh-from") from error


def set_region(file: Path, region: str) -> bool:
    """Write the region into cluster.yaml, changing nothing else; return whether it was another.

    Raises:
        ConfigError: the region's name is not valid, or the file has not exactly one line for it.
    """
    if not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", region):
        raise ConfigError(f"--region: found '{region[:80]}'; must be one such as eu-central-1")
    text = file.read_text(encoding="utf-8")
    if yaml.safe_load(text)["provider"]["region"] == region:
        return False
    changed, count = re.subn(r"(?m)^(  region: *)[\w-]+", rf"\g<1>{region}", text)
    if count != 1:
        raise ConfigError(f"{file}: has {count} lines '  region: …'; write {region} there yourself")
    file.write_text(changed, encoding="utf-8")
    return True


def set_profiles(file: Path) -> list[str]:
    """Write the cluster's instance profiles into cluster.yaml, changing nothing else.

    Returns:
        The profiles that were changed.

    Raises:
        ConfigError: a node type names no profile, or not in a line of its own.
    """
    text = file.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    changed = []
    for node, settings in values["available_node_types"].items():
        wanted = name_profile(values["cluster_name"], is_head=node == values["head_node_type"])
        named = settings["node_config"].get("IamInstanceProfile", {}).get("Name")
        if named == wanted:
            continue
        line = f"IamInstanceProfile: {{Name: {named}}}"
        if named is None or line not in text:
            raise ConfigError(
                f"{file}: available_node_types.{node}.node_config: found no line '{line[:80]}'; "
                f"write 'IamInstanceProfile: {{Name: {wanted}}}' there yourself"
            )
        text = text.replace(line, f"IamInstanceProfile: {{Name: {wanted}}}")
        changed.append(wanted)
    if changed:
        file.write_text(text, encoding="utf-8")
    return changed
