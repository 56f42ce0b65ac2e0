"""`raysweep cluster`: what cluster.yaml needs beyond Ray's own commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

from raysweep.errors import ConfigError, ResourceError
from raysweep.storage.printable import say

app = typer.Typer(help="Set up and check what a Ray cluster needs.", no_args_is_help=True, rich_markup_mode=None)


@app.command("watch-spot")
def watch_spot() -> None:
    """Watch for EC2's notice that it will take this spot instance, and tell Ray; cluster.yaml starts it on workers."""
    from raysweep.cluster.spot_watch import drain_this_node, watch_spot_notices

    watch_spot_notices(drain_this_node, say)


@app.command("check")
def check_cluster(
    file: Annotated[Path, typer.Argument(help="The cluster file.")] = Path("cluster.yaml"),
    quota: Annotated[
        bool, typer.Option("--quota", help="Also ask AWS for the account's quota of GPU instances.")
    ] = False,
    bucket: Annotated[str, typer.Option("--bucket", envvar="RAYSWEEP_BUCKET", help="The bucket for runs.")] = "",
) -> None:
    """Check cluster.yaml, its image, your credentials and Ray's token, without starting anything."""
    _read_cluster_file(file)
    _require_boto3()
    from raysweep.cluster.cluster_file import ClusterFile, aws_client
    from raysweep.cluster.local_ray import AUTH_TOKEN

    is_fine = True
    checked = ClusterFile(path=file, token=AUTH_TOKEN, client=aws_client, bucket=bucket, asks_quota=quota)
    for finding in checked.examine():
        say(f"{'✔' if finding.is_fine else '✘'} {finding.subject}: {finding.text}")
        is_fine = is_fine and finding.is_fine
    if not is_fine:
        raise typer.Exit(1)


@app.command("prepare")
def prepare_account(
    bucket: Annotated[
        str, typer.Option("--bucket", envvar="RAYSWEEP_BUCKET", help="The bucket for runs; created if it is missing.")
    ],
    region: Annotated[
        str,
        typer.Option(
            "--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], help="AWS region [default: that in the file]."
        ),
    ] = "",
    ssh_from: Annotated[
        str,
        typer.Option("--ssh-from", help="Network that may use ssh, such as 203.0.113.7/32 [default: this machine]."),
    ] = "",
    file: Annotated[Path, typer.Argument(help="The cluster file.")] = Path("cluster.yaml"),
) -> None:
    """Create the bucket, permissions and firewall that cluster.yaml needs if they are missing, and set its region."""
    values = _read_cluster_file(file)
    _require_boto3()
    from raysweep.cluster.aws_account import AwsAccount, find_own_network, set_profiles, set_region
    from raysweep.cluster.cluster_file import aws_client, aws_errors, describe_aws_error

    if region and set_region(file, region):
        say(f"{file}: region {region}")
    for profile in set_profiles(file):
        say(f"{file}: instance profile {profile}")
    account = AwsAccount(region=region or values["provider"]["region"], client=aws_client, say=say)
    try:
        account.prepare(bucket=bucket, cluster=values["cluster_name"], ssh_from=ssh_from or find_own_network())
    except aws_errors() as error:
        raise ResourceError(f"AWS: {describe_aws_error(error)}") from error
    say(f"next: ray up {file}; then run with --storage s3://{bucket}/runs")


@app.command("kuberay")
def print_kuberay(
    image: Annotated[str, typer.Option("--image", help="Image of the pods.")] = "raysweep:latest",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Maximum number of pods with a GPU.")] = 4,
    storage: Annotated[str, typer.Option("--storage", help="Size of the shared volume.")] = "200Gi",
    profile: Annotated[str, typer.Option("--profile", help="Profile of experiments.yaml.")] = "efcamdat",
    csv: Annotated[
        str, typer.Option("--csv", help="File name of the corpus in the volume's top folder.")
    ] = "efcamdat.csv",
    dockerfile: Annotated[bool, typer.Option("--dockerfile", help="Print the image's Dockerfile instead.")] = False,
) -> None:
    """Print a sweep as a RayJob for KubeRay, or the Dockerfile of its image."""
    import re

    from raysweep.cluster import kuberay_files

    if dockerfile:
        say(kuberay_files.dockerfile().rstrip())
        return
    patterns = {"--image": r"[\w./:@-]+", "--storage": r"\d+(Gi|Ti|Mi)", "--profile": r"[\w-]+", "--csv": r"[\w./-]+"}
    for option, value in {"--image": image, "--storage": storage, "--profile": profile, "--csv": csv}.items():
        if not re.fullmatch(patterns[option], value):
            raise ConfigError(f"{option}: found '{value[:80]}'; must match {patterns[option]}")
    say(kuberay_files.render_manifest(image=image, workers=workers, storage=storage, profile=profile, csv=csv).rstrip())


def _read_cluster_file(file: Path) -> Any:
    """Read a cluster's file; raises ConfigError without `cluster_name` and `provider.region`."""
    import yaml

    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        _ = values["cluster_name"], values["provider"]["region"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file}: is no YAML with cluster_name and provider.region ({type(error).__name__}); must be such as "
            "cluster.yaml"
        ) from error
    return values


def _require_boto3() -> None:
    try:
        import boto3  # noqa: F401 - only on the machine that starts clusters
    except ImportError as error:
        raise ConfigError("boto3 is not installed: pip install -c constraints.txt -e '.[aws]'") from error
