"""Parses `--storage s3://bucket/folder` and `gs://bucket/folder`, and opens the store named there.

The endpoint and the region come from the URI (`?endpoint=https://host:9000&region=eu-central-1`) or from the variables
that the cloud providers' own tools read (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION,
STORAGE_EMULATOR_HOST).  Credentials come only from the usual chain: environment, profile files, web identity,
container, instance profile; for gs:// the application default credentials.  A URI that contains a secret is refused.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from raysweep.errors import ConfigError, StorageError

SCHEMES = ("s3", "gs")
_ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("STORAGE_EMULATOR_HOST",)}
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_CLIENT = {"timeout": "120s", "connect_timeout": "10s"}
"""Timeouts of one request; transfers are split into requests of `bucket.PART_BYTES`."""
_REGION_OF_BUCKET = "https://{bucket}.s3.amazonaws.com"


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketAddress:
    """The location of a run's objects; contains no secret, so it can be sent to a worker and shown."""

    scheme: str
    bucket: str
    prefix: str
    """Folders in the bucket, without leading or trailing slash; '' for none."""
    endpoint: str = ""
    """'' for the cloud provider's own."""
    region: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (f"{self.scheme}://{self.bucket}", self.prefix) if part)

    @property
    def uri(self) -> str:
        """The address with its endpoint and region, for `parse_bucket_uri` in a process with other variables."""
        settings = {name: value for name, value in (("endpoint", self.endpoint), ("region", self.region)) if value}
        return f"{self}?{urlencode(settings)}" if settings else str(self)

    def at(self, name: str) -> "BucketAddress":
        """Return the address of a folder below this one."""
        return replace(self, prefix=f"{self.prefix}/{name}" if self.prefix else name)


def is_bucket_uri(storage: str) -> bool:
    """Return whether `--storage` names object storage rather than a path."""
    return "://" in storage


def parse_bucket_uri(
    storage: str, variables: Mapping[str, str] = os.environ, *, option: str = "--storage"
) -> BucketAddress:
    """Read a URI such as s3://bucket/folder?region=eu-central-1.

    Args:
        option: the option that it was given with, for messages.

    Raises:
        ConfigError: it has another scheme, no bucket, a secret or an unknown setting.
    """
    parts = urlsplit(storage)
    # The query may hold a key, so messages show only what precedes it.
    shown = f"{option}: found '{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}'"[:80]
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{shown}; must be a path, s3://bucket/folder or gs://bucket/folder")
    if "@" in parts.netloc or parts.fragment:
        raise ConfigError(f"{shown} with a user, a secret or a '#'; credentials come from the environment or a profile")
    if not parts.netloc or ":" in parts.netloc:
        raise ConfigError(f"{shown}; must name a bucket, as s3://bucket/folder?endpoint=https://host:9000")
    if any(name in {".", ".."} for name in parts.path.split("/")) or not parts.path.isprintable():
        raise ConfigError(f"{shown}; folder names must be plain")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    endpoint = query.pop("endpoint", "") or _first(variables, _ENDPOINTS[parts.scheme])
    region = query.pop("region", "") or (_first(variables, _REGIONS) if parts.scheme == "s3" else "")
    if query:
        raise ConfigError(f"{shown} with '{sorted(query)[0]:.20}'; known settings are endpoint and region")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        endpoint = f"http://{endpoint}" if parts.scheme == "gs" else f"https://{endpoint}"
    prefix = "/".join(part for part in parts.path.split("/") if part)
    return BucketAddress(
        scheme=parts.scheme, bucket=parts.netloc, prefix=prefix, endpoint=endpoint.rstrip("/"), region=region
    )


def open_store(address: BucketAddress) -> Any:
    """Make the client; the only request sent is for an AWS bucket's region, if none is given.

    Raises:
        ConfigError: the profile's credentials need boto3, which is not installed.
        StorageError: this machine has no credentials.
    """
    from obstore.store import GCSStore, S3Store

    client: Any = {**_CLIENT, "allow_http": address.endpoint.startswith("http://")}
    # `Bucket` retries requests itself and tells the user.
    how: Any = {"prefix": address.prefix or None, "client_options": client, "retry_config": {"max_retries": 0}}
    if address.scheme == "gs":
        emulated: Any = {"base_url": address.endpoint, "bearer_token": "emulator"} if address.endpoint else None
        return GCSStore(address.bucket, config=emulated, **how)
    region = address.region or ("us-east-1" if address.endpoint else _find_region(address.bucket))
    config: Any = {"region": region, "virtual_hosted_style_request": False}
    if address.endpoint:
        config["endpoint"] = address.endpoint
    return S3Store(address.bucket, config=config, credential_provider=_profile_credentials(os.environ), **how)


def _profile_credentials(variables: Mapping[str, str]) -> Any:
    """Make a provider for credentials in ~/.aws, which needs boto3; None if the client finds credentials itself."""
    if variables.get("AWS_ACCESS_KEY_ID"):
        return None
    places = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
    files = [Path(variables.get(name, default)).expanduser() for name, default in places.items()]
    if "AWS_PROFILE" not in variables and not any(file.is_file() for file in files):
        return None
    try:
        import boto3
        import botocore.session
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise ConfigError(
            "object storage: credentials of an AWS profile need boto3: `pip install boto3`, or give them by: "
            'eval "$(aws configure export-credentials --format env)"'
        ) from error
    session = botocore.session.Session()
    # By default, an instance's metadata is requested once with a timeout of a second; a busy node answers later.
    session.set_config_variable("metadata_service_timeout", 5)
    session.set_config_variable("metadata_service_num_attempts", 4)
    try:
        return Boto3CredentialProvider(boto3.Session(botocore_session=session))
    except ValueError as error:
        raise StorageError(
            f"object storage: {socket.gethostname()} has no AWS credentials, although it has {files[0].parent}; "
            "set them by the usual chain: environment, profile, instance profile"
        ) from error


def _find_region(bucket: str) -> str:
    """Ask AWS for a bucket's region, which needs no credentials; '' if it does not answer."""
    import urllib.error
    import urllib.request  # loads ssl, which commands on local paths do not need

    request = urllib.request.Request(_REGION_OF_BUCKET.format(bucket=bucket), method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(response.headers.get("x-amz-bucket-region", ""))
    except urllib.error.HTTPError as error:
        return str(error.headers.get("x-amz-bucket-region", ""))
    except OSError:
        return ""


def _first(variables: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((variables[name] for name in names if variables.get(name)), "")
