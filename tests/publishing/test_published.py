"""What is published: no secret, path, host or user name of a run is on its page or in its bundle."""

import json
import shlex
import zipfile

import pytest

from raysweep.config.loading import dump_config
from raysweep.config.safe_yaml import parse_yaml
from raysweep.evidence.published import published_command, published_config
from raysweep.publishing.bundle import write_bundle
from raysweep.publishing.verify import verify_bundle
from raysweep.report.writing import write_report
from raysweep.storage.digests import read_sealed, write_sealed
from tests.simulated_run import make_config, make_run

SECRETS = (
    "hunter2",  # a password in a webhook's address
    "tok-8c1f",  # an argument of the notification's command
    "alice",  # the user name, in paths
    "secret-host",  # the cluster's address, and the machine that an error names
    "/home/",
)
SETTINGS = {
    "data": {"csv": "/home/alice/corpora/texts.csv"},
    "corpora": {
        "other": {"path": "/home/alice/corpora/other.csv"},
        "beside": {"path": ("alice/a.csv", "./alice/b.csv", "alice\\c.csv")},
    },
    "model": {"start": "/home/alice/models/start"},
    "resources": {"address": "ray://secret-host:10001"},
    "notify": {"webhook": "https://alice:hunter2@secret-host/hook?key=tok-8c1f", "command": ("curl", "-u", "tok-8c1f")},
}
COMMAND = (
    "python -m raysweep run --profile local --name pilot --config alice/experiments.yaml "
    "--storage /home/alice/runs --set data.csv=/home/alice/corpora/texts.csv "
    "--set notify.webhook=https://alice:hunter2@secret-host "
    "--set 'corpora={other: {path: /home/alice/corpora/other.csv}, beside: {path: [alice/a.csv]}}' "
    "--set 'corpora.third.path=\"/home/alice/corpora/third.csv\"' "
    "--set 'trials.plan={general: {steps: 400}}' "
    "--set 'report.resamples=200'"
)


@pytest.fixture(scope="module")
def secretive(tmp_path_factory):
    """Make a run whose settings, command and records contain many secrets."""
    config = make_config(**SETTINGS)
    folder, config, trials = make_run(
        tmp_path_factory.mktemp("secretive"), config, failed={"B1": "failed: lost worker"}
    )
    folder.config.write_text(dump_config(config), encoding="utf-8")
    record = json.loads(folder.record.read_text())
    folder.record.write_text(
        json.dumps({**record, "command": COMMAND, "working_folder": "/home/alice", "host": "secret-host"})
    )
    trial = read_sealed(folder.trial("B1").record, fix="")
    trial |= {"reason": "its worker on secret-host was lost (log: /home/alice/runs/pilot/trials/B1/worker.log)"}
    trial["identity"] |= {"model": {"start": "/home/alice/models/start"}}
    write_sealed(folder.trial("B1").record, trial)
    write_report(folder, config, trials)
    return folder


def secrets_in(name, content):
    return [(name, secret) for secret in SECRETS if secret.encode() in content]


def test_the_report_contains_no_secrets(secretive):
    """The page, Markdown, evidence and tables are made to be passed on."""
    files = [path for path in secretive.report.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [secret for path in files for secret in secrets_in(path.name, path.read_bytes())] == []


def test_the_bundle_contains_no_secrets_and_verifies(secretive, tmp_path):
    """The bundle's copies of run.json, config.yaml and trial.json hold only listed keys, and the report follows."""
    write_bundle(secretive, tmp_path / "evidence.zip")
    with zipfile.ZipFile(tmp_path / "evidence.zip") as archive:
        secret = [secret for name in archive.namelist() for secret in secrets_in(name, archive.read(name))]
    assert secret == []
    assert verify_bundle(tmp_path / "evidence.zip").is_verified


def test_a_setting_that_is_not_on_the_allow_list_is_not_published():
    """A new section is private until someone lists it."""
    published = published_config(make_config(**SETTINGS))
    assert set(published) == {
        "seed", "seeds", "data", "corpora", "masking", "model", "training", "trials", "controls", "evaluation",
        "report", "resources"
    }  # fmt: skip
    assert published["data"]["path"] == "texts.csv"
    assert published["corpora"]["other"]["path"] == "other.csv"
    assert published["corpora"]["beside"]["path"] == ["a.csv", "b.csv", "c.csv"]
    assert "address" not in published["resources"]


@pytest.mark.parametrize("name", ["b: c.csv", "2024", "true", "[a.csv"])
def test_a_published_path_is_quoted_where_yaml_would_read_something_else(name):
    """Without its quotes, `b: c.csv` is a mapping and `2024` a number."""
    command = shlex.join(["raysweep", "run", "--set", f"data.path={json.dumps('/home/alice/' + name)}"])
    _, _, setting = published_command(command).partition("--set ")
    assert parse_yaml(shlex.split(setting)[0].removeprefix("data.path=")) == name


def test_the_published_command_reproduces_the_run():
    """Anyone with the same files can paste it into a shell."""
    words = shlex.split(published_command(COMMAND))
    assert words[:4] == ["python", "-m", "raysweep", "run"]
    assert words[4:] == [
        "--profile", "local", "--name", "pilot", "--config", "experiments.yaml",
        "--set", "data.csv=texts.csv",
        "--set", 'corpora={"other": {"path": "other.csv"}, "beside": {"path": ["a.csv"]}}',
        "--set", "corpora.third.path=third.csv",
        "--set", "trials.plan={general: {steps: 400}}", "--set", "report.resamples=200",
    ]  # fmt: skip
