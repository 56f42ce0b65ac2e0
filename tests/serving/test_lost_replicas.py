"""What Ray Serve's proxy is given: only a request whose replica was lost is asked again."""

import asyncio
from types import SimpleNamespace

import pytest
from starlette.routing import Mount

from raysweep.serving.guard import MAX_BODY
from raysweep.serving.lost_replicas import AskAgain, is_ours, proxy_middlewares
from raysweep.serving.web_app import make_app


def post(app, body=b"text", *, leaves=False, path="/api/read"):
    """Return the messages that answer a request, as a server would send them."""
    coming, sent = [{"type": "http.request", "body": body}, *[{"type": "http.disconnect"}] * leaves], []

    async def receive():
        return coming.pop(0) if coming else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    (wrapped,) = proxy_middlewares()
    assert wrapped.cls is AskAgain
    scope = {"type": "http", "path": path, "headers": [(b"host", b"localhost")]}
    asyncio.run(asyncio.wait_for(AskAgain(app)(scope, receive, send), 60))
    return sent


class Proxy:
    """Answer with the body after losing some replicas; a loss returns only the start message, as in Ray Serve."""

    def __init__(self, lost):
        self.lost, self.asked, self.headers = lost, 0, []

    async def __call__(self, scope, receive, send):
        self.asked += 1
        self.headers.append(list(scope["headers"]))
        scope["headers"].append((b"x-request-id", b"1"))
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"try", str(self.asked).encode())]})
        if self.asked > self.lost:
            await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("lost", [0, 1])
def test_a_request_to_a_lost_replica_is_retried(lost):
    """It is asked again with its whole body, unchanged, and only until it is answered."""
    proxy = Proxy(lost)
    start, body = post(proxy)
    assert (start["status"], body["body"], proxy.asked) == (200, b"text", lost + 1)
    assert start["headers"] == [(b"try", str(lost + 1).encode())]
    assert proxy.headers == [[(b"host", b"localhost")]] * (lost + 1)


def test_a_request_that_loses_several_replicas_is_given_up():
    """The request may be what kills them; the client is told when to ask again."""
    proxy = Proxy(9)
    start, body = post(proxy)
    assert (start["status"], proxy.asked) == (503, 2)
    assert (b"retry-after", b"5") in start["headers"]
    assert b"2 replicas were lost while they answered" in body["body"]


def test_a_response_that_has_begun_is_not_retried():
    """The client already has a part of it; an error response from the app is an answer, too."""
    pieces = [
        {"type": "http.response.start", "status": 500, "headers": []},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b", "more_body": True},
    ]

    async def begin(_, receive, send):
        await receive()
        for piece in pieces:
            await send(piece)

    assert post(begin) == pieces


def test_requests_for_other_apps_of_the_same_serve_are_passed_on():
    """Their bodies may be large and their requests may have side effects; all of our paths are known."""
    proxy = Proxy(1)
    (start,) = post(proxy, b"x" * (MAX_BODY + 1), path="/theirs")
    assert (start["status"], proxy.asked) == (200, 1)
    served = SimpleNamespace(run=SimpleNamespace(folder=SimpleNamespace(report="report")))
    paths = [f"{route.path}/a" if isinstance(route, Mount) else route.path for route in make_app(served).routes]
    assert {"/", "/api/read", "/page/a", "/report/a", "/docs", "/openapi.json"} <= set(paths)
    assert all(map(is_ours, paths))


def test_nothing_is_retried_for_a_disconnected_client():
    """Its replica is not lost: the proxy cancelled the request."""
    asked = []

    async def wait(_, receive, __):
        asked.append([(await receive())["type"], (await receive())["type"]])

    assert post(wait, leaves=True) == []
    assert asked == [["http.request", "http.disconnect"]]


def test_an_oversized_body_is_refused_by_the_proxy():
    """Otherwise it would be kept in memory until it is answered."""
    proxy = Proxy(0)
    start, _ = post(proxy, b"x" * (MAX_BODY + 1))
    assert (start["status"], proxy.asked) == (413, 0)


def test_asgi_scopes_other_than_http_are_passed_on():
    """An example is the server's lifespan, which the proxy answers itself."""
    seen = []

    async def app(scope, *_):
        seen.append(scope["type"])

    asyncio.run(AskAgain(app)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
