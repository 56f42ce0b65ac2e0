"""The API of `raysweep try` gives the same answers as Python, and a clear answer to invalid requests."""

import json
import re
import shutil
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from justhtml import JustHTML

import raysweep
from raysweep.errors import InputError, TrainingError
from raysweep.scheduling.records import read_record
from raysweep.serving.request_batches import RequestBatches
from raysweep.serving.served_run import serve_run
from raysweep.serving.web_app import PAGE, make_app, open_app, render_docs
from tests.serving.conftest import running

HOSTILE = "<img src=x onerror=alert(1)> & \"'é😀\u202e 漢字 ﷺ"


def test_the_api_lists_the_level_models_and_the_general_one(client, run):
    """The answer includes what a page must know before it asks: limits, levels, and how often they were right."""
    info = client.get("/api/run").json()
    assert [(model["name"], model["level"]) for model in info["models"]] == [("A1", "A1"), ("C1", "C1"), ("all", None)]
    assert (info["run"], info["language"], info["is_synthetic"], info["has_report"]) == ("tiny", "en", True, True)
    assert info["levels"] == ["A1", "C1"]
    assert info["positions"] == 256
    assert info["level_accuracy"]["confidence"] == run.evidence.settings.confidence


def test_infill_requests_give_the_answers_of_the_python_api(client, run):
    """Blanks may be ranges of the text or written in it; positions count characters, not bytes or UTF-16 units."""
    text = "I like 😀 tea because it is hot."
    asked = {"blanks": [{"start": 21, "stop": 26, "kind": "word"}, {"start": 9, "stop": 12}], "samples": 1, "seed": 4}
    answer = client.post("/api/fill", json={"text": text, **asked, "max_words": 1}).json()
    spelled = "I like 😀 [word] because [word] hot."
    also = client.post("/api/fill", json={"text": spelled, "samples": 1, "seed": 4, "max_words": 1}).json()
    assert answer == also
    for model in answer["models"]:
        fillings = run[model["name"]].infill(spelled, 1, seed=4, max_words=1)
        assert [sample["text"] for sample in model["samples"]] == [filling.text for filling in fillings]
        first = model["samples"][0]["answers"][0]
        assert first["text"] == model["samples"][0]["text"][first["start"] : first["stop"]]
        assert first["probability"] == pytest.approx(fillings[0].answers[0].probability, rel=1e-3)


@pytest.mark.parametrize("text", ["I like tea.", HOSTILE, "a\n\nb  c", "x" * 3000])
def test_score_requests_give_the_answers_of_the_python_api(client, run, text):
    """Every model gives surprisals per token, their sums and the levels; the tokens join to the exact text."""
    answer = client.post("/api/read", json={"text": text}).json()
    assert "".join(answer["tokens"]) == text
    levels = run.levels.predict(text).iloc[0]
    assert answer["levels"] == pytest.approx({level: levels[level] for level in ("A1", "C1")})
    for model in answer["models"]:
        scores = run[model["name"]].score(text).iloc[0]
        assert [model[name] for name in ("nats", "tokens", "bytes")] == pytest.approx(
            list(scores[["nats", "tokens", "bytes"]])
        )
        assert model["surprisal"][0] is None or answer["tokens"][0] == "漢"
        assert np.nansum([value or 0.0 for value in model["surprisal"]]) == pytest.approx(model["nats"], rel=1e-5)


def test_concurrent_requests_do_not_change_an_answer(client):
    """Requests share batches, but each is answered for its own text."""
    asked = [f"{'very ' * number}good [word] tea" for number in range(4)]
    alone = [client.post("/api/read", json={"text": text}).json() for text in asked]
    with ThreadPoolExecutor(8) as pool:
        filling = [pool.submit(client.post, "/api/fill", json={"text": text, "samples": 1}) for text in asked]
        together = list(pool.map(lambda text: client.post("/api/read", json={"text": text}).json(), asked))
    for text, first, again, filled in zip(asked, alone, together, filling, strict=True):
        assert again["tokens"] == first["tokens"]
        assert again["levels"] == pytest.approx(first["levels"], abs=1e-4)
        start, _, stop = text.partition("[word]")
        for model in filled.result().json()["models"]:
            assert model["samples"][0]["text"].startswith(start)
            assert model["samples"][0]["text"].endswith(stop)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("fill", {"text": "no blank"}, 422, "text: found no blank"),
        ("fill", {"text": "[wrod]"}, 422, "did you mean '[word]'?"),
        ("fill", {"text": "tea", "blanks": []}, 422, "blanks: found none"),
        (
            "fill",
            {"text": "tea", "blanks": [{"start": 2, "stop": 4}]},
            422,
            "blanks: found characters 2 to 4 of a text of 3",
        ),
        ("fill", {"text": "tea", "blanks": [{"start": 0, "stop": 2}, {"start": 1, "stop": 3}]}, 422, "and not overlap"),
        (
            "fill",
            {"text": "tea", "blanks": [{"start": 0, "stop": 1, "kind": "wrod"}]},
            422,
            "blanks.0.kind: Input should be",
        ),
        (
            "fill",
            {"text": "a b", "blanks": [{"start": 0, "stop": 1}] * 10_000},
            422,
            "blanks: List should have at most 100",
        ),
        ("fill", {"text": "[word] " * 101}, 422, "found 101 blanks; a request may have 100"),
        ("fill", {"text": f"{'a ' * 300}[word]"}, 422, "the model has 256 positions. Shorten it by"),
        ("fill", {"text": "[word]", "samples": 1000}, 422, "samples: Input should be less than or equal to 5"),
        ("fill", {"text": "[word]", "min_words": 2}, 422, "a [word] is one word"),
        ("fill", {"text": "[word]", "first_word": "two words"}, 422, "first_word: found 'two words'"),
        ("fill", {"text": "[word]", "forbidden": ["x" * 51]}, 422, "forbidden.0: String should have at most 50"),
        ("fill", {"text": "[word]", "samplse": 1}, 422, "samplse: Extra inputs are not permitted"),
        ("fill", {"text": "\ud800 [word]"}, 422, "unable to parse raw data as a unicode string"),
        ("fill", {"text": 7}, 422, "text: Input should be a valid string"),
        ("fill", [], 422, "body: Input should be"),
        ("read", {"text": ""}, 422, "text: String should have at least 1 character"),
        ("read", {"text": "a"}, 422, "text: found a single token"),
        ("read", {"text": "   \n\u3000 \t  "}, 422, "text: found white space alone, which has no level"),
        ("read", {"text": "a " * 20_000}, 422, "text: String should have at most 20000 characters"),
        ("read", {"text": "a \ud800"}, 422, "unable to parse raw data as a unicode string"),
        ("read", {"text": "a " * 5_000_000}, 413, "the request is larger than 1,000,000 bytes"),
    ],
)
def test_an_invalid_request_is_answered_with_the_reason(client, path, body, status, message):
    """The reason is one sentence, without the text that was sent."""
    answer = client.post(f"/api/{path}", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert message in answer.json()["detail"]
    assert len(answer.text) < 400


def test_a_body_that_is_not_json_is_refused(client):
    """A page of another site therefore cannot send it as a form."""
    json_type = {"content-type": "application/json"}
    answer = client.post("/api/read", content=b'{"text": "a b"', headers=json_type)
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "body: found no JSON at character 14; must be an object with a text",
    )
    assert client.post("/api/read", data={"text": "I go home"}).status_code == 422
    assert client.get("/api/read").status_code == 405
    assert client.get("/nothing").status_code == 404


def test_the_api_documentation_needs_no_network(client):
    """Every path and body is described on /docs, valid HTML without scripts; programs read openapi.json."""
    page = client.get("/docs").text
    for expected in ("GET /api/run", "POST /api/fill", "POST /api/read", 'id="FillRequest"', "temperature"):
        assert expected in page
    assert JustHTML(page, strict=True)
    assert "<script" not in page
    assert set(client.get("/openapi.json").json()["paths"]) == {"/api/run", "/api/health", "/api/fill", "/api/read"}
    hostile = {"title": "<script>", "description": "<b>"}
    assert "<b>" not in render_docs({"info": hostile, "paths": {}, "components": {"schemas": {"<i>": {}}}})


def test_the_page_fetches_nothing_from_other_servers(client):
    """It has no address of another server and no inline script or style, which its policy forbids."""
    page = client.get("/")
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in page.headers["content-security-policy"]
    assert JustHTML(page.text, strict=True)
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! src)", page.text)
    for name in ("page.css", "page.js", "index.html"):
        text = client.get(f"/page/{name}").text
        assert not re.search(r"https?:|//[a-z]+\.", text), name
        assert "innerHTML" not in text
    assert client.get("/page/../web_app.py").status_code == 404


def test_the_report_is_served_with_its_own_content_security_policy(client, served):
    """The report is served as it was written; its own policy allows its inline styles, and no script."""
    answer = client.get("/report/report.html")
    assert answer.content == served.run.folder.report_html.read_bytes()
    assert "style-src 'unsafe-inline'" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]
    assert client.get("/report/..%2f..%2frun.json").status_code == 404


@pytest.fixture
def blocked_reads(served, monkeypatch):
    """Let every read wait; return an event that says that one waits, and an event that lets all go on."""
    begun, may_go_on = threading.Event(), threading.Event()
    read = served.__class__.read

    def wait_and_read(self, texts):
        begun.set()
        may_go_on.wait(60)
        return read(self, texts)

    monkeypatch.setattr(served.__class__, "read", wait_and_read)
    return begun, may_go_on


def test_a_busy_server_refuses_with_retry_after(served, blocked_reads):
    """The answer says when to ask again; requests that wait are still answered."""
    begun, may_go_on = blocked_reads
    with (
        TestClient(make_app(served, most_waiting=1), base_url="http://localhost") as client,
        ThreadPoolExecutor(4) as pool,
    ):
        asked = [pool.submit(client.post, "/api/read", json={"text": "I go."})]
        assert begun.wait(60)
        asked += [pool.submit(client.post, "/api/read", json={"text": "I go."}) for _ in range(3)]
        refused = list(islice(as_completed(asked, timeout=60), 2))
        may_go_on.set()
        answers = [request.result() for request in asked]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
    assert refused[0].result().headers["retry-after"] == "2"
    assert "busy: 1 requests wait already" in refused[0].result().json()["detail"]


def test_shutdown_refuses_queued_requests_and_answers_the_current_batch(served, blocked_reads):
    """The first Ctrl-C waits for one batch, not for the whole queue."""
    begun, may_go_on = blocked_reads
    app = make_app(served)
    with TestClient(app, base_url="http://localhost") as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/api/read", json={"text": "I go."})
        assert begun.wait(60)
        second = pool.submit(client.post, "/api/read", json={"text": "I went."})
        while not app.state.batches.waiting:
            time.sleep(0.01)
        app.state.batches.give_up()
        refused = second.result(60)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert "the server is being stopped" in refused.json()["detail"]
        assert client.post("/api/read", json={"text": "I go."}).status_code == 503
        may_go_on.set()
        assert first.result(60).status_code == 200


def test_a_disconnected_client_leaves_the_queue(served, monkeypatch):
    """Nothing is computed for it; the requests behind it are answered."""
    begun, may_go_on, cancelled, seen, asked = (*(threading.Event() for _ in range(3)), [], [])
    ask = RequestBatches.ask

    def wait_and_read(_, texts):
        seen.extend(texts)
        begun.set()
        may_go_on.wait(60)
        return [{} for _ in texts]

    def ask_and_watch(*request):
        future = ask(*request)
        future.add_done_callback(lambda request: cancelled.set() if request.cancelled() else None)
        asked.append(future)
        return future

    monkeypatch.setattr(served.__class__, "read", wait_and_read)
    monkeypatch.setattr(RequestBatches, "ask", ask_and_watch)
    with running(make_app(served)) as address, ThreadPoolExecutor(2) as pool:
        url, options = f"{address}/api/read", {"timeout": 60}
        answers = [pool.submit(httpx2.post, url, json={"text": "the first"}, **options)]
        assert begun.wait(60)
        body = b'{"text": "one who goes away"}'
        headers = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as client:
            client.sendall(b"POST /api/read HTTP/1.1\r\n" + headers + body)
            while len(asked) < 2:
                time.sleep(0.01)
        assert cancelled.wait(60)
        answers.append(pool.submit(httpx2.post, url, json={"text": "the last"}, **options))
        may_go_on.set()
        assert [answer.result().status_code for answer in answers] == [200, 200]
    assert seen == ["the first", "the last"]
    assert [future.cancelled() for future in asked] == [False, True, False]


def test_a_failing_model_fails_only_its_request(served, monkeypatch):
    """The waiting clients receive the error, and later requests are answered."""
    monkeypatch.setattr(served.__class__, "read", _diverge)
    with TestClient(make_app(served), base_url="http://localhost") as client:
        answer = client.post("/api/read", json={"text": "I go home."})
        assert (answer.status_code, answer.json()) == (500, {"detail": "model 'A1': its training diverged"})
        assert client.post("/api/fill", json={"text": "[word]", "max_words": 1, "samples": 1}).status_code == 200


def _diverge(*_):
    raise TrainingError("model 'A1': its training diverged")


def test_a_run_without_a_report_infills_but_predicts_no_levels(own_run):
    """It says why there are no levels; a run in which nothing is trained is refused."""
    own_run.folder.record.unlink()
    shutil.rmtree(own_run.folder.report)
    served = serve_run(own_run)
    assert served.predictor is None
    assert "not there; do `raysweep run --name tiny --storage" in served.no_levels
    assert served.read(["I go home."])[0]["levels"] is None
    with TestClient(make_app(served), base_url="http://localhost") as client:
        assert client.get("/report/report.html").status_code == 404
    for name in ("A1", "C1", "all"):
        own_run.folder.trial(name).record.unlink()
    with pytest.raises(InputError, match="has neither a level's own model nor a general one"):
        serve_run(raysweep.load(own_run.folder.root))


def test_a_replica_started_after_a_retraining_is_refused(own_run):
    """It would answer with other models than the other replicas, under the same names."""
    served = serve_run(own_run)
    arguments = {"run": str(own_run.folder.root), "hosts": None, "token": None, "digests": served.digests}
    arguments["report_digest"] = served.report_digest
    assert set(served.digests) >= {"A1", "C1"}
    assert open_app(**arguments).title == "raysweep try"
    shutil.copytree(own_run.folder.trial("C1").root, own_run.folder.trial("A1").root, dirs_exist_ok=True)
    shutil.rmtree(own_run.folder.report)  # depends on the earlier model
    with pytest.raises(
        InputError, match=r"'tiny': A1, what tells levels changed since `raysweep serve` began; end it, and give"
    ):
        open_app(**arguments)


def test_a_replica_started_after_a_new_report_serves_no_report(own_run):
    """Otherwise it would show what the others refuse; a report whose evidence is not written yet does not count."""
    served = serve_run(own_run)
    hosts = frozenset({"localhost"})
    arguments = {"run": str(own_run.folder.root), "hosts": hosts, "token": None, "digests": served.digests}

    def asked(report_digest):
        app = open_app(**arguments, report_digest=report_digest)
        return TestClient(app, base_url="http://localhost").get("/report/report.html").status_code

    assert [asked(digest) for digest in (served.report_digest, "0" * 32, "")] == [200, 409, 409]
    own_run.folder.evidence.unlink()
    later = serve_run(own_run)
    assert later.report_digest == ""
    client = TestClient(make_app(later), base_url="http://localhost")
    assert client.get("/report/report.html").status_code == 404


def test_the_fingerprint_of_served_models_includes_window_and_language(own_run):
    """Examples: a longer window or another language, with the same models."""
    before, path = serve_run(own_run).digests, own_run.folder.config
    for field, value in (("max_tokens", 64), ("language", "de")):
        text = path.read_text()
        assert f"{field}: " in text
        path.write_text(re.sub(rf"(?m)^( *{field}: ).*$", rf"\g<1>{value}", text))
        now = serve_run(raysweep.load(own_run.folder.root)).digests
        path.write_text(text)
        assert {name for name in now if now[name] != before[name]} == {"what tells levels"}


def test_a_running_server_keeps_its_models_and_names_them(own_run):
    """This holds while models are trained again; the report, which is read from the disk, is not mixed in."""
    served = serve_run(own_run)
    served.load()
    digest = read_record(own_run.folder.trial("A1")).model_digest
    with TestClient(make_app(served), base_url="http://localhost") as client:
        before = client.post("/api/read", json={"text": "I go home."}).json()
        shutil.copytree(own_run.folder.trial("C1").root, own_run.folder.trial("A1").root, dirs_exist_ok=True)
        assert client.get("/report/report.html").status_code == 200
        own_run.folder.evidence.write_text("of other models")
        refused = client.get("/report/report.html")
        assert (refused.status_code, refused.text[:27]) == (409, "The report was written agai")
        assert client.post("/api/read", json={"text": "I go home."}).json() == before
        models = client.get("/api/run").json()["models"]
    assert [model["digest"] for model in before["models"]] == [model["digest"] for model in models]
    assert digest.startswith(models[0]["digest"])


def test_a_model_retrained_during_loading_is_refused(own_run):
    """Its weights would otherwise answer under another model's digest."""
    served = serve_run(own_run)
    assert served.digests["A1"] != served.digests["C1"]
    shutil.copytree(own_run.folder.trial("C1").root, own_run.folder.trial("A1").root, dirs_exist_ok=True)
    with pytest.raises(InputError, match="'A1' was trained again while its model was loaded; give the same command"):
        served.load()


def test_a_report_of_another_version_disables_only_level_predictions(own_run, monkeypatch):
    """The models still fill blanks, and the reason is reported."""
    text = own_run.folder.evidence.read_text(encoding="utf-8").replace('"confidence"', '"of_another_version"')
    own_run.folder.evidence.write_text(text, encoding="utf-8")
    monkeypatch.setattr(own_run.__class__, "_refuse_damage", lambda *_: None)
    assert "was written by another version of raysweep" in serve_run(own_run).no_levels
    with pytest.raises(InputError) as refused:
        _ = own_run.evidence
    assert len("".join(traceback.format_exception(refused.value))) < 3000, "pydantic names every number, in 5,000 lines"


@pytest.mark.parametrize("requests", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_requests_of_20_clients_are_all_answered(address, requests):
    """A real server answers from its queue; the 95th percentile of the times is printed."""

    def ask(number):
        began = time.perf_counter()
        path, body = ("fill", {"samples": 1}) if number % 4 == 0 else ("read", {})
        answer = client.post(f"/api/{path}", json={"text": f"I have {number} [word].", **body})
        return answer.status_code, time.perf_counter() - began

    # One client with a connection per thread: a new client for each request would take most of the time.
    limits = httpx2.Limits(max_connections=20)
    with httpx2.Client(base_url=address, timeout=200, limits=limits) as client, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(requests)))
    assert {status for status, _ in answers} == {200}
    print(f"p95 of {requests} requests: {np.quantile([seconds for _, seconds in answers], 0.95):.2f} s")


def test_the_package_contains_the_files_of_the_page():
    """A wheel without them would serve no page."""
    assert {path.name for path in PAGE.iterdir()} == {"index.html", "page.js", "page.css", "docs.html.j2"}
