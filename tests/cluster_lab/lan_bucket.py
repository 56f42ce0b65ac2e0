"""The runs' bucket in the lab's S3, as the test sees it: the S3 is on the LAN, and the test is not."""

import ctypes
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3

from tests.cluster_lab.namespaces import GATEWAY

REGION, BUCKET, S3 = "eu-central-1", "lab-runs", f"http://{GATEWAY}:5000"
STORAGE = f"s3://{BUCKET}/runs"
"""Nodes have AWS_ENDPOINT_URL and AWS_REGION."""
_CLONE_NEWNET = 0x40000000


class LanBucket:
    """Reads and writes its objects."""

    def __init__(self, lan):
        self.lan = lan
        self._thread, self._s3 = ThreadPoolExecutor(max_workers=1), None

    def close(self):
        """End the thread that is on the LAN."""
        self._thread.shutdown()

    def make(self):
        """Make it."""
        self._ask(lambda s3: s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}))

    def list(self, under=""):
        """The paths of all objects, without the empty ones by which Ray Train marks folders."""
        pages = self._ask(lambda s3: list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=under)))
        return [entry["Key"] for page in pages for entry in page.get("Contents", ()) if not entry["Key"].endswith("/")]

    def read(self, path):
        """One object."""
        return self._ask(lambda s3: s3.get_object(Bucket=BUCKET, Key=path)["Body"].read())

    def download(self, under, folder):
        """Copy what there is below a path."""

        def fetch(s3):
            for path in paths:
                file = folder / path.removeprefix(f"{under}/")
                file.parent.mkdir(parents=True, exist_ok=True)
                # Its own transfers run in threads that are not on the LAN.
                file.write_bytes(s3.get_object(Bucket=BUCKET, Key=path)["Body"].read())

        paths = self.list(f"{under}/")
        self._ask(fetch)

    def upload(self, folder, under):
        """Copy a folder's files to a path."""

        def send(s3):
            for file in (file for file in folder.rglob("*") if file.is_file()):
                s3.put_object(Bucket=BUCKET, Key=f"{under}/{file.relative_to(folder)}", Body=file.read_bytes())

        self._ask(send)

    def host_of(self, trial, run="runs/sweep"):
        """Where a training's last attempt is that has a checkpoint here; '' if none has."""
        stored = self.list(f"{run}/trials/{trial}/")
        if not any(path.endswith("/checkpoint.json") for path in stored):
            return ""
        # What its worker noted, or once the driver has merged them the driver.
        notes = [path for path in stored if path.rpartition("/")[2].startswith("attempts")]
        events = [json.loads(line) for path in notes for line in self.read(path).splitlines()]
        starts = sorted((event["at"], event["host"]) for event in events if event["what"] == "start")
        return starts[-1][1] if starts else ""

    def _ask(self, question):
        """Ask S3, in a thread that is on the LAN; a new client for every question would take a tenth of a second."""

        def ask():
            if self._s3 is None:
                with Path(f"/run/netns/{self.lan}").open("rb") as namespace:
                    assert ctypes.CDLL(None).setns(namespace.fileno(), _CLONE_NEWNET) == 0
                session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing")
                self._s3 = session.client("s3", region_name=REGION, endpoint_url=S3)
            return question(self._s3)

        return self._thread.submit(ask).result()


def digests(root):
    """SHA-256 of what a run is about: examples, weights, scores and their tables."""
    patterns = (
        "examples/*.examples",
        "trials/*/model/model.safetensors",
        "evaluation/cells/**/*.parquet",
        "evaluation/*.parquet",
        "*/matrix.csv",
    )
    files = sorted(file for pattern in patterns for file in root.glob(pattern))
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
