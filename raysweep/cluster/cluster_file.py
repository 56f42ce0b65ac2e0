"""Checks cluster.yaml before it costs anything: `raysweep cluster check`.

Ray checks the file's own fields when it is used, and passes `node_config` on to EC2 unread; a wrong image, a token that
others can read or a corpus beside the code would show only minutes later, when instances are already paid for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from raysweep.cluster.ray_internals import validate_cluster_file
from raysweep.errors import RaysweepError, ResourceError

_UPLOAD_BYTES = 100 * 2**20
"""Maximum size of a job's working directory that Ray accepts."""
_RESOLVED = "resolve:ssm:"
"""Prefix of a parameter's name that holds the image's id; EC2 resolves it when an instance starts."""
_PREPARE = "`raysweep cluster prepare` makes it"
_SPOT_QUOTA, _ON_DEMAND_QUOTA = "L-3819A6DF", "L-DB2E81BA"
"""EC2's quotas of vCPUs of running G and VT instances."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterFinding:
    """The result of one check."""

    subject: str
    text: str
    is_fine: bool = True


@dataclass(kw_only=True)
class ClusterFile:
    """cluster.yaml, and what it relies on."""

    path: Path
    token: Path
    """The file with Ray's token."""
    client: Callable[[str, str], Any]
    """Makes a client of an AWS service, from its name and the region."""
    bucket: str = ""
    """The bucket for runs; '' to skip its check."""
    asks_quota: bool = False
    values: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.values = yaml.safe_load(self.path.read_text(encoding="utf-8"))

    def examine(self) -> Iterator[ClusterFinding]:
        """Run all checks; a problem found by one does not prevent the others."""
        checks: dict[str, Callable[[], str]] = {
            "fields": self._check_fields,
            "node_config": self._check_node_configs,
            "token": self._check_token,
            "uploads": self._check_uploads,
            "credentials": self._check_credentials,
            "images": self._check_images,
            "rights": self._check_profiles,
            "firewall": self._check_firewall,
            **({"bucket": self._check_bucket} if self.bucket else {}),
            **({"quota": self._check_quota} if self.asks_quota else {}),
        }
        errors: tuple[type[Exception], ...] = (RaysweepError, OSError, *aws_errors())
        for subject, check in checks.items():
            try:
                yield ClusterFinding(subject=subject, text=check())
            except errors as error:
                yield ClusterFinding(subject=subject, text=describe_aws_error(error), is_fine=False)

    @cached_property
    def _region(self) -> str:
        return str(self.values["provider"].get("region", ""))

    @property
    def _nodes(self) -> Mapping[str, Any]:
        nodes: Mapping[str, Any] = self.values["available_node_types"]
        return nodes

    def _check_fields(self) -> str:
        validate_cluster_file(self.values)
        return f"{len(self._nodes)} node types, at most {self.values['max_workers']} workers, in {self._region}"

    def _check_node_configs(self) -> str:
        problems = [f"{name}: {problem}" for name, node in self._nodes.items() for problem in _ec2_problems(node)]
        if problems:
            raise ResourceError("; ".join(problems))
        return "as EC2 wants it"

    def _check_token(self) -> str:
        fix = f"ray get-auth-token --generate && chmod 600 {self.token}"
        if not self.token.exists():
            raise ResourceError(f"{self.token} is not there; {fix}")
        if self.token.stat().st_mode & 0o077:
            raise ResourceError(f"others on this machine can read {self.token}; chmod 600 {self.token}")
        return f"{self.token}, for you alone"

    def _check_uploads(self) -> str:
        root = self.path.resolve().parent
        ignored = root / ".gitignore"
        lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
        files = _files_below(root, [".git", *lines])
        sizes = {file.relative_to(root): file.stat().st_size for file in files}
        total = sum(sizes.values())
        if total > _UPLOAD_BYTES:
            largest = max(sizes, key=lambda file: sizes[file])
            what = f"{largest} {sizes[largest] / 2**20:,.0f} MiB"
            raise ResourceError(
                f"{root} has {total / 2**20:,.0f} MiB, of which {what}; `ray job submit` takes 100 MiB at most. "
                "Copy data with `ray rsync-up`, and keep it elsewhere"
            )
        return f"{total / 2**20:,.1f} MiB"

    def _check_credentials(self) -> str:
        who = self.client("sts", self._region).get_caller_identity()
        return f"account {who['Account']}"

    def _check_images(self) -> str:
        named = {node["node_config"].get("ImageId", "") for node in self._nodes.values()}
        wanted = {self._resolve_image(image) for image in named}
        images = self.client("ec2", self._region).describe_images(ImageIds=sorted(wanted))["Images"]
        missing = wanted - {image["ImageId"] for image in images if image["State"] == "available"}
        if missing:
            raise ResourceError(f"{', '.join(sorted(missing))}: {self._region} has no such image")
        return ", ".join(sorted(wanted))

    def _resolve_image(self, image: str) -> str:
        if not image.startswith(_RESOLVED):
            return image
        parameters = self.client("ssm", self._region)
        return str(parameters.get_parameter(Name=image.removeprefix(_RESOLVED))["Parameter"]["Value"])

    def _check_profiles(self) -> str:
        iam = self.client("iam", self._region)
        names = {node["node_config"].get("IamInstanceProfile", {}).get("Name", "") for node in self._nodes.values()}
        for name in sorted(names - {""}):
            try:
                iam.get_instance_profile(InstanceProfileName=name)
            except iam.exceptions.NoSuchEntityException as error:
                raise ResourceError(f"there is no instance profile {name}; {_PREPARE}") from error
        return ", ".join(sorted(names - {""})) or "no instance profile named"

    def _check_firewall(self) -> str:
        name = f"ray-autoscaler-{self.values['cluster_name']}"
        wanted = [{"Name": "group-name", "Values": [name]}]
        groups = self.client("ec2", self._region).describe_security_groups(Filters=wanted)["SecurityGroups"]
        if not groups:
            raise ResourceError(f"there is no security group {name}, so Ray opens ssh to the world; {_PREPARE}")
        rules = [rule for group in groups for rule in group["IpPermissions"]]
        kinds = {"IpRanges": "CidrIp", "Ipv6Ranges": "CidrIpv6"}
        networks = sorted(
            {network[key] for rule in rules for kind, key in kinds.items() for network in rule.get(kind, [])}
        )
        if not {"0.0.0.0/0", "::/0"}.isdisjoint(networks):
            raise ResourceError(f"{name} is open to the world; `raysweep cluster prepare` lets in this machine alone")
        return f"{name} lets in {', '.join(networks) or 'nobody'}"

    def _check_bucket(self) -> str:
        from botocore.exceptions import ClientError

        try:
            bucket = self.client("s3", self._region).head_bucket(Bucket=self.bucket)
        except ClientError as error:
            raise ResourceError(f"{self.bucket}: {error}; {_PREPARE}, if the name is free") from error
        if (where := bucket.get("BucketRegion", self._region)) != self._region:
            raise ResourceError(f"{self.bucket} lies in {where}, the cluster in {self._region}")
        return f"{self.bucket}, in {where}"

    def _check_quota(self) -> str:
        lines = []
        for name, node in self._nodes.items():
            if not node["resources"].get("GPU"):
                continue
            is_spot = node["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot"
            code = _SPOT_QUOTA if is_spot else _ON_DEMAND_QUOTA
            quotas = self.client("service-quotas", self._region)
            most = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
            needs = node["resources"]["CPU"] * node["max_workers"]
            if needs > most:
                raise ResourceError(
                    f"{name}: {node['max_workers']} workers take {needs} vCPUs, the account has {most:g} of {code}; "
                    f"ask AWS for more, or set max_workers: {int(most // node['resources']['CPU'])}"
                )
            lines.append(f"{name}: {needs} of {most:g} vCPUs")
        return "; ".join(lines)


def _ec2_problems(node: Mapping[str, Any]) -> Iterator[str]:
    """Validate a node's `node_config` against EC2's description of RunInstances, without a request."""
    from botocore.validate import ParamValidator

    shape = _shape_of_run_instances()
    config = node["node_config"]
    report = ParamValidator().validate({**config, "MinCount": 1, "MaxCount": 1}, shape)
    if report.has_errors():
        yield " ".join(report.generate_report().split())
    if (kind := config.get("InstanceType")) not in shape.members["InstanceType"].enum:
        yield f"InstanceType: EC2 has no {str(kind)[:40]!r}"


@cache
def _shape_of_run_instances() -> Any:
    """Return EC2's description of RunInstances, which takes a second to load."""
    import botocore.session

    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape


def _files_below(root: Path, ignored: Sequence[str]) -> Iterator[Path]:
    """Yield the files that Ray uploads; only plain names in .gitignore, such as `runs/` or `*.log`, are understood."""
    for path in root.iterdir():
        if any(fnmatch(path.name, name.rstrip("/")) for name in ignored):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files_below(path, ignored)
        elif path.is_file():
            yield path


def aws_errors() -> tuple[type[Exception], ...]:
    """Return the errors that a request to AWS may raise."""
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError)


def describe_aws_error(error: Exception) -> str:
    """Describe an AWS error, with the fix if credentials are missing."""
    from botocore.exceptions import NoCredentialsError

    is_unknown = isinstance(error, NoCredentialsError)
    return f"{error}; `aws configure`, or name a profile in AWS_PROFILE" if is_unknown else str(error)


def aws_client(service: str, region: str) -> Any:
    """Make a client with the usual credentials, which gives up within seconds."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=10, retries={"max_attempts": 1})
    return boto3.client(service, region_name=region, config=config)
