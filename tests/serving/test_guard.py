"""Who may talk to the server: host names, origins, tokens and the size of requests."""

import asyncio

import pytest
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from raysweep.serving.guard import COOKIE, LOOPBACK, MAX_BODY, Guard

TOKEN = "0123456789abcdef"


async def echo(scope, receive, send):
    body = (await receive())["body"]
    await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8642", 200),
        ("127.0.0.1:8642", 200),
        ("[::1]:8642", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8642", 421),
        ("evil@localhost@evil", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_only_requests_for_this_servers_host_names_are_answered(host, status):
    """Another name that resolves to this address is DNS rebinding."""
    client = TestClient(Guard(echo), base_url="http://localhost")
    assert client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://localhost", 200),
        ("http://localhost:1", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_pages_of_other_origins_cannot_post(origin, status):
    """Browsers state the origin of a request."""
    client = TestClient(Guard(echo), base_url="http://localhost")
    assert client.post("/", headers={} if origin is None else {"origin": origin}).status_code == status


def test_a_token_is_required_on_any_address_but_loopback():
    """It is sent as a bearer token, or once in the page's address and then in a cookie that scripts cannot read."""
    app = Guard(echo, hosts=None, token=TOKEN)
    client = TestClient(app, base_url="http://lab.example", follow_redirects=False)
    assert client.get("/").status_code == 401
    assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get("/", headers={"authorization": f"Bearer {TOKEN}x"}).status_code == 401
    assert client.get("/", headers={"authorization": "Bearer é".encode()}).status_code == 401
    assert client.get("/", headers={"cookie": f"{COOKIE}=wrong"}).status_code == 401
    assert client.get("/", headers={"cookie": f"bad key\x01=1; {COOKIE}={TOKEN}x"}).status_code == 401
    assert client.get("/?token=wrong").status_code == 401
    assert client.get(f"/api/run?token={TOKEN}").status_code == 401
    opened = client.get(f"/?token={TOKEN}")
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=strict"} <= set(opened.headers["set-cookie"].replace("; ", ";").split(";"))
    assert client.get("/").text == "0 bytes"


def test_a_server_without_a_token_needs_host_names():
    """Otherwise anybody could talk to it."""
    with pytest.raises(AssertionError):
        Guard(echo, hosts=None)


def test_the_body_size_is_counted_while_it_is_received():
    """The size is counted whatever the headers say, and also without headers."""
    client = TestClient(Guard(echo), base_url="http://localhost")
    assert client.post("/", content=b"x" * MAX_BODY).text == f"{MAX_BODY} bytes"
    parts = (b"x" * 100_000 for _ in range(100))
    answer = client.post("/", content=parts)
    assert answer.status_code == 413
    assert "larger than 1,000,000 bytes" in answer.json()["detail"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_websockets_are_closed_and_an_endless_body_is_cut_off():
    """Nothing here uses WebSockets."""
    sent, taken = [], 0

    async def send(message):
        sent.append(message)

    async def receive():
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}

    asyncio.run(Guard(echo)({"type": "websocket"}, receive, send))
    assert sent.pop() == {"type": "websocket.close", "code": 1008}
    scope = {"type": "http", "path": "/", "method": "POST", "query_string": b"", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(echo)(scope, receive, send))
    assert sent[0]["status"] == 413
    assert 60 < taken < 70
    assert "localhost" in LOOPBACK
