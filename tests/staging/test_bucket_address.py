"""URIs of object storage, and what is refused in them."""

import http.server
import socket
import sys
import threading

import pytest

from raysweep.errors import ConfigError, StorageError
from raysweep.staging import bucket_address
from raysweep.staging.bucket_address import BucketAddress, open_store, parse_bucket_uri


@pytest.mark.parametrize(
    ("uri", "variables", "expected"),
    [
        ("s3://b", {}, BucketAddress(scheme="s3", bucket="b", prefix="")),
        ("s3://b/x//y/", {"AWS_REGION": "r"}, BucketAddress(scheme="s3", bucket="b", prefix="x/y", region="r")),
        (
            "s3://b/x?endpoint=http://h:1&region=q",
            {"AWS_REGION": "r", "AWS_ENDPOINT_URL": "https://e"},
            BucketAddress(scheme="s3", bucket="b", prefix="x", endpoint="http://h:1", region="q"),
        ),
        (
            "s3://b/x",
            {"AWS_ENDPOINT_URL": "https://e/", "AWS_ENDPOINT_URL_S3": "https://s/"},
            BucketAddress(scheme="s3", bucket="b", prefix="x", endpoint="https://s"),
        ),
        (
            "gs://b/x",
            {"STORAGE_EMULATOR_HOST": "localhost:9", "AWS_REGION": "r"},
            BucketAddress(scheme="gs", bucket="b", prefix="x", endpoint="http://localhost:9"),
        ),
    ],
)
def test_a_uri_names_bucket_folder_and_endpoint(uri, variables, expected):
    """The URI takes precedence over the environment."""
    assert parse_bucket_uri(uri, variables) == expected
    assert str(expected.at("run")) == f"{expected}/run"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://b/x", "found 'ftp://b/x'; must be a path, s3://bucket/folder or gs://bucket/folder"),
        ("s3:///x", "must name a bucket"),
        ("s3://h:9000/b", r"must name a bucket, as s3://bucket/folder\?endpoint=https://host:9000"),
        ("s3://b/../c", "folder names must be plain"),
        ("s3://b/x?regoin=q", "with 'regoin'; known settings are endpoint and region"),
        ("s3://b/x#y", "credentials come from the environment or a profile"),
    ],
)
def test_an_invalid_uri_is_refused_with_the_fix(uri, message):
    """Each message includes the fix."""
    with pytest.raises(ConfigError, match=message):
        parse_bucket_uri(uri, {})


def test_a_secret_in_a_uri_is_refused_and_not_printed():
    """It would be in the shell's history, and in the process list."""
    for uri in ("s3://AKIA:hush@b/x", "s3://b/x?secret_access_key=hush"):
        with pytest.raises(ConfigError) as refused:
            parse_bucket_uri(uri, {})
        assert "hush" not in str(refused.value)


def test_the_region_of_an_aws_bucket_is_discovered(monkeypatch, tmp_path):
    """AWS tells it without credentials, even in a refusal."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(403)
            self.send_header("x-amz-bucket-region", "eu-west-3")
            self.end_headers()

        def log_message(self, *_):
            """Quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(bucket_address, "_REGION_OF_BUCKET", f"http://127.0.0.1:{server.server_port}/{{bucket}}")
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store(BucketAddress(scheme="s3", bucket="b", prefix="x"))
    server.shutdown()
    server.server_close()
    assert store.config["region"] == "eu-west-3"
    monkeypatch.setattr(bucket_address, "_REGION_OF_BUCKET", "http://127.0.0.1:9/{bucket}")
    assert bucket_address._find_region("b") == ""


def test_profile_credentials_are_read_by_boto3_or_refused_with_the_fix(monkeypatch, tmp_path):
    """The client itself reads only the environment and instance profiles."""
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = from-profile\naws_secret_access_key = s\n")
    variables = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_CONFIG_FILE": str(tmp_path / "none")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    provider = bucket_address._profile_credentials(variables)
    assert provider()["access_key_id"] == "from-profile"
    assert bucket_address._profile_credentials({**variables, "AWS_ACCESS_KEY_ID": "x"}) is None
    monkeypatch.setitem(sys.modules, "obstore.auth.boto3", None)
    with pytest.raises(ConfigError, match="aws configure export-credentials"):
        bucket_address._profile_credentials(variables)
    file.unlink()
    assert bucket_address._profile_credentials(variables) is None


def test_a_machine_without_credentials_is_reported(monkeypatch, tmp_path):
    """A folder of profiles without any profile, and no instance profile: another node may have credentials."""
    (tmp_path / "config").write_text("[default]\nregion = eu-central-1\n")
    variables = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    for name, value in {**variables, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        StorageError, match=f"{socket.gethostname()} has no AWS credentials, although it has {tmp_path}"
    ):
        bucket_address._profile_credentials(variables)


def test_a_process_with_other_environment_variables_uses_the_same_endpoint():
    """A replica on another node receives the endpoint that this process found in its environment."""
    address = parse_bucket_uri("s3://bucket/runs", {"AWS_ENDPOINT_URL": "https://host:9000", "AWS_REGION": "eu-west-1"})
    assert parse_bucket_uri(address.at("paper").uri, {}) == address.at("paper")
    assert parse_bucket_uri("gs://bucket/runs", {}).uri == "gs://bucket/runs"
