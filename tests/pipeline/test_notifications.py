"""Notifications of how a run ended: a real command, a real server, and what happens when they fail."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from raysweep.config.budget_settings import NotifyConfig
from raysweep.pipeline.notifications import Message, notify

NASTY = """$(touch owned) `touch owned`; "quoted" 'text'\nsecond line"""
MESSAGE = Message(run="pilot", state="failed", done=9, trials=11, verdict="Train one model.", reason=NASTY)


@pytest.fixture
def server():
    """A server that records what is posted; /broken answers 500."""
    posts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posts.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_):
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", posts
        running.shutdown()


def test_a_webhook_receives_the_message_as_json(server):
    """It includes the message as one line, which chat programs show as it is."""
    url, posts = server
    assert notify(NotifyConfig(webhook=f"{url}/hook"), MESSAGE) == []
    ((path, kind, body),) = posts
    assert (path, kind) == ("/hook", "application/json; charset=utf-8")
    assert body["state"] == "failed"
    assert body["verdict"] == "Train one model."
    assert body["text"].startswith("pilot: failed, 9 of 11 trials are done. $(touch owned)")


def test_a_notification_command_gets_the_message_without_a_shell(tmp_path, monkeypatch):
    """Names and reasons come from files; a quote in them must not run anything."""
    monkeypatch.chdir(tmp_path)
    script = "import json, os, sys; json.dump([sys.argv[1:], os.environ['RAYSWEEP_REASON']], open('told', 'w'))"
    assert notify(NotifyConfig(command=(sys.executable, "-c", script, "--to")), MESSAGE) == []
    arguments, reason = json.loads((tmp_path / "told").read_text())
    assert arguments == ["--to", MESSAGE.text]
    assert reason == NASTY
    assert [path.name for path in tmp_path.iterdir()] == ["told"]


def test_only_configured_events_are_notified(server):
    """With `on: [budget]`, other states send nothing."""
    url, posts = server
    assert notify(NotifyConfig(webhook=url, on=("budget", "done")), MESSAGE) == []
    assert notify(None, MESSAGE) == []
    assert posts == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"command": ("no-such-program-at-all",)}, "notify.command: no-such-program-at-all: "),
        ({"command": (sys.executable, "-c", "raise SystemExit('no network')")}, "ended with 1: no network"),
        ({"command": (sys.executable, "-c", "import time; time.sleep(60)"), "timeout_s": 0.2}, "timed out"),
        ({"webhook": "http://127.0.0.1:1/secret"}, "notify.webhook: 127.0.0.1:1: "),
    ],
    ids=["no program", "command fails", "command hangs", "connection refused"],
)
def test_a_failed_notification_is_logged_without_affecting_the_run(settings, problem, caplog):
    """The run is over by then, and its exit code is unaffected."""
    (reported,) = notify(NotifyConfig(**settings), MESSAGE)
    assert problem in reported
    assert reported in caplog.text
    assert "secret" not in reported


def test_a_webhook_that_answers_with_an_error_is_a_problem(server):
    """A webhook that was removed answers 404, which nobody would notice otherwise."""
    url, _ = server
    (problem,) = notify(NotifyConfig(webhook=f"{url}/broken"), MESSAGE)
    assert "500" in problem
