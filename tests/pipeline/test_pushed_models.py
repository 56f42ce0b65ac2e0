"""`push`: which files of a model reach the hub, and which models are refused.  The hub is a small local server."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
from typer.testing import CliRunner

from raysweep.cli.app import app
from raysweep.config.loading import read_resolved_config
from raysweep.errors import ConfigError, DamagedError, InputError, StorageError
from raysweep.pipeline.model_check import refuse_unsound_model
from raysweep.publishing.hub import hub_card, prepare_model
from raysweep.training.card import NOT_FOR

TOKEN = "hf_secretsecretsecret"
ALLOWED = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


class Hub(ThreadingHTTPServer):
    """Holds repositories like the hub's API: created, queried, committed to."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.private, self.files, self.tokens, self.commits = {}, {}, set(), 0
        self.refuses = False


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Print nothing."""

    def do_GET(self):
        name = self.path.removeprefix("/api/models/").removesuffix("/revision/main")
        if name in self.server.private:
            self._answer({"id": name, "private": self.server.private[name], "sha": "0" * 40})
        else:
            self._answer({"error": "not found"}, 404)

    def do_POST(self):
        hub, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        hub.tokens.add(self.headers["Authorization"])
        name = "/".join(self.path.split("/")[3:5])
        if hub.refuses:
            self._answer({"error": "no"}, 403)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            known = name in hub.private
            hub.private.setdefault(name, asked["visibility"] == "private")
            self._answer({"url": f"https://huggingface.co/{name}"}, 409 if known else 200)
        elif self.path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\nlicense: ")
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self._answer({"files": [self._mode(name, file["path"]) for file in json.loads(body)["files"]]})
        else:
            lines = [json.loads(line) for line in body.splitlines()]
            added = (line["value"] for line in lines if line["key"] == "file")
            hub.files.setdefault(name, {}).update({file["path"]: base64.b64decode(file["content"]) for file in added})
            hub.commits += 1
            self._answer({"commitUrl": f"https://huggingface.co/{name}/commit/1", "commitOid": "1" * 40})

    def _mode(self, name, path):
        known = self.server.files.get(name, {}).get(path)
        oid = {} if known is None else {"oid": hashlib.sha1(b"blob %d\0" % len(known) + known).hexdigest()}
        return {"path": path, "uploadMode": "regular", "shouldIgnore": False, **oid}

    def _answer(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def push(finished_storage):
    """Push a model of the finished run, which is only read."""

    def run(*options, model="C1"):
        where = ["push", "--name", "tiny", "--storage", str(finished_storage), "--model", model, "--to", "ana/c1"]
        return CliRunner().invoke(app, [*where, "--licence", "cc-by-nc-4.0", *options])

    return run


def test_only_the_model_and_its_card_are_pushed_to_the_hub(hub, push, finished_storage):
    """Byte for byte what transformers loads, private; a second push sends nothing; the token is never printed."""
    result = push()
    assert result.exit_code == 0, result.exception
    assert "pushed: https://huggingface.co/ana/c1/commit/1" in result.stdout
    files = hub.files["ana/c1"]
    assert set(files) == ALLOWED
    assert hub.private == {"ana/c1": True}
    own = finished_storage / "tiny/trials/C1/model"
    for name in ALLOWED - {"README.md"}:
        assert files[name] == (own / name).read_bytes()
    assert hub.tokens == {f"Bearer {TOKEN}"}
    again = push()
    assert again.exit_code == 0
    assert hub.commits == 1
    assert TOKEN not in result.output + again.output


def test_the_card_states_the_models_scores_and_its_limits(push, finished_storage):
    """The numbers are those of matrix.csv; the code loads the repository; --dry-run does not contact the hub."""
    shown = push("--dry-run").stdout
    assert "model.safetensors: " in shown
    assert "nothing was sent; without --dry-run this goes to ana/c1, private" in shown
    matrix = (finished_storage / "tiny/evaluation/matrix.csv").read_text().splitlines()
    rows = {row.split(",")[0]: [float(cell) for cell in row.split(",")[1:]] for row in matrix[1:]}
    assert "|  | A1 | C1 |" in shown
    for title, name in [("**this model**", "C1"), ("the general model, `all`", "all"), ("the start", "start")]:
        (line,) = (line for line in shown.splitlines() if line.startswith(f"| {title}"))
        assert [f"{value:,.2f}" for value in rows[name]] == [cell.strip() for cell in line.split("|")[2:4]]
    assert "---\nlicense: cc-by-nc-4.0\nlibrary_name: transformers\n" in shown
    assert "under `cc-by-nc-4.0`" in shown
    assert "generated from word lists" in shown
    assert 'folder = "ana/c1"' in shown
    assert shown.count(NOT_FOR) == 1


def test_older_cards_state_the_limits_too_and_a_rewritten_card_is_refused():
    """A card that somebody rewrote is refused."""
    own = '---\nx: y\n---\n\n## Scores on validation examples\n\nfolder = "."  # where this file lies\n'
    options = {"repository": "ana/c1", "licence": "other", "evaluation": "## E\n", "is_synthetic": False}
    card = hub_card(own, **options)
    assert NOT_FOR in card
    assert card.startswith("---\nlicense: other\nlicense_name: of-the-training-data\nx: y\n")
    assert "word lists" not in card
    with pytest.raises(InputError, match="is not the card that raysweep wrote"):
        hub_card("# my model", **options)


def test_pushing_to_a_public_repository_requires_public(hub, push):
    """Nor to a private one as if it were public; a new one is public on request."""
    hub.private["ana/c1"] = False
    result = push()
    assert "ana/c1 is there already, and public; give --public" in str(result.exception)
    assert hub.files == {}
    assert push("--public").exit_code == 0
    hub.private["ana/c1"] = True
    assert "and private; leave out --public" in str(push("--public").exception)


def test_hub_errors_are_reported(hub, push, monkeypatch):
    """The same holds for a hub that is unreachable, and for a missing token, before any request."""
    hub.refuses = True
    result = push()
    assert isinstance(result.exception, StorageError)
    assert "the hub refuses, or does not answer (" in str(result.exception)
    assert TOKEN not in str(result.exception)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nowhere")
    hub.tokens.clear()
    assert "no token of the hub is here; do `hf auth login`" in str(push().exception)
    assert hub.tokens == set()


@pytest.mark.parametrize(
    ("repository", "licence", "message"),
    [
        ("c1", "mit", "--to: found 'c1'; must be USER/NAME"),
        ("ana/c1/x", "mit", "--to: found"),
        ("ana/../c1", "mit", "--to: found"),
        ("ana/c1", "Our own\nlicence", "--licence: found"),
    ],
)
def test_invalid_repository_names_and_licences_are_refused(finished_storage, tiny_run, repository, licence, message):
    """They are refused before anything of the model is read."""
    run = tiny_run()
    with pytest.raises(ConfigError, match=message):
        prepare_model(run.folder, run.config, "C1", repository, licence)


def test_models_that_do_not_match_the_runs_records_are_not_pushed(done_run, tiny_run):
    """Unknown or untrained models, models changed on disk, or with scores of another model."""

    def check(model):
        refuse_unsound_model(done_run.folder, read_resolved_config(done_run.folder), model)

    check("C1")
    with pytest.raises(InputError, match=r"--model: found 'B2'; the trials of 'tiny' are A1, C1, all, all-C1"):
        check("B2")
    tiny_run(forced=["all"], changes={"trials": _longer(done_run)}).do("train")
    with pytest.raises(InputError, match=r"scores 'all-C1' of 'tiny' is not up to date: its model changed"):
        check("all-C1")
    with (done_run.folder.trial("A1").model / "model.safetensors").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(DamagedError, match=r"make it again with `raysweep run --name tiny .*--force A1`"):
        check("A1")
    done_run.folder.trial("A1").record.unlink()
    with pytest.raises(InputError, match="trial 'A1' of 'tiny' is not up to date: it is not done"):
        check("A1")
    done_run.folder.record.unlink()
    with pytest.raises(InputError, match=r"is not evaluated; do `raysweep run --name tiny --storage .*` first"):
        check("C1")


def _longer(run):
    trials = {
        name: settings.model_dump(exclude_unset=True, by_alias=True) for name, settings in run.config.trials.items()
    }
    return {**trials, "all": {**trials["all"], "steps": 5}}
