"""What can be told of cluster.yaml before it costs anything: `raysweep cluster check`.

Ray checks the file's own fields when it is used, and passes `node_config` on to EC2 unread; a wrong image, a token that
others can read or a corpus beside the code show minutes later, with instances that are paid for.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from raysweep.cluster.ray_internals import validate_cluster_file
from raysweep.errors import RaysweepError, ResourceError

_UPLOAD_BYTES = 100 * 2**20
"""Ray refuses working directories of jobs that are larger."""
_PLACEHOLDER = re.compile(r"\b(?:ami|fs|sg|subnet|vpc)-0{8,}\b")
_SPOT_QUOTA, _ON_DEMAND_QUOTA = "L-3819A6DF", "L-DB2E81BA"
"""EC2's quotas of vCPUs of running G and VT instances."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterFinding:
    """One thing that was looked at."""

    subject: str
    text: str
    is_fine: bool = True


@dataclass(kw_only=True)
class ClusterFile:
    """cluster.yaml, and what it relies on."""

    path: Path
    token: Path
    """Ray's token."""
    client: Callable[[str, str], Any]
    """A client of an AWS service (its name, and the region)."""
    asks_quota: bool = False
    values: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.values = yaml.safe_load(self.path.read_text(encoding="utf-8"))

    def examine(self) -> Iterator[ClusterFinding]:
        """Look at everything; a problem does not keep the rest from being looked at."""
        checks: dict[str, Callable[[], str]] = {
            "fields": self._check_fields,
            "to fill in": self._check_placeholders,
            "node_config": self._check_node_configs,
            "token": self._check_token,
            "uploads": self._check_uploads,
            "credentials": self._check_credentials,
            "images": self._check_images,
            **({"quota": self._check_quota} if self.asks_quota else {}),
        }
        errors: tuple[type[Exception], ...] = (RaysweepError, OSError, *_aws_errors())
        for subject, check in checks.items():
            try:
                yield ClusterFinding(subject=subject, text=check())
            except errors as error:
                yield ClusterFinding(subject=subject, text=str(error), is_fine=False)

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

    def _check_placeholders(self) -> str:
        text = self.path.read_text(encoding="utf-8")
        lines = [number for number, line in enumerate(text.splitlines(), 1) if _PLACEHOLDER.search(line)]
        if lines:
            raise ResourceError(f"lines {', '.join(map(str, lines))} have placeholders; see EDIT beside them")
        return "nothing"

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
        wanted = {node["node_config"].get("ImageId", "") for node in self._nodes.values()}
        found = self.client("ec2", self._region).describe_images(ImageIds=sorted(wanted))["Images"]
        missing = wanted - {image["ImageId"] for image in found if image["State"] == "available"}
        if missing:
            raise ResourceError(f"{', '.join(sorted(missing))}: {self._region} has no such image")
        return ", ".join(sorted(wanted))

    def _check_quota(self) -> str:
        told = []
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
            told.append(f"{name}: {needs} of {most:g} vCPUs")
        return "; ".join(told)


def _ec2_problems(node: Mapping[str, Any]) -> Iterator[str]:
    """What EC2's own description of RunInstances says against a node's `node_config`; nothing is asked for."""
    import botocore.session
    from botocore.validate import ParamValidator

    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    config = node["node_config"]
    report = ParamValidator().validate({**config, "MinCount": 1, "MaxCount": 1}, shape)
    if report.has_errors():
        yield " ".join(report.generate_report().split())
    if (kind := config.get("InstanceType")) not in shape.members["InstanceType"].enum:
        yield f"InstanceType: EC2 has no {str(kind)[:40]!r}"


def _files_below(root: Path, ignored: Sequence[str]) -> Iterator[Path]:
    """The files that Ray uploads; of .gitignore only names are understood, such as `runs/` or `*.log`."""
    for path in root.iterdir():
        if any(fnmatch(path.name, name.rstrip("/")) for name in ignored):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _files_below(path, ignored)
        elif path.is_file():
            yield path


def _aws_errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError)


def aws_client(service: str, region: str) -> Any:
    """A client with the credentials of the usual chain, which gives up within seconds."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=10, retries={"max_attempts": 1})
    return boto3.client(service, region_name=region, config=config)
