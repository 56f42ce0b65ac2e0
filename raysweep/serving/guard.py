"""Checks every request before the app sees it, and adds security headers to every response.

The page is meant for the person at this machine.  A web page of another site that this person visits must not reach
it, so the Host header must name this server (DNS rebinding), and so must the Origin of any request that has one.  On
addresses other than loopback a token is required.  Bodies are measured as they arrive.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.responses import JSONResponse, RedirectResponse, Response

MAX_BODY = 1_000_000
"""Size in bytes of the largest request body that is accepted."""
_MOST_DRAINED = 64_000_000
"""Bytes of an oversized body that are received and discarded, so that its client gets to read the response."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
COOKIE = "raysweep_token"

_POLICY = "default-src 'none'; {}; base-uri 'none'; form-action 'none'; frame-ancestors {}"
PAGE_POLICY = _POLICY.format(
    "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; frame-src 'self'", "'none'"
)
REPORT_POLICY = _POLICY.format("style-src 'unsafe-inline'; img-src 'self' data:", "'self'")
"""The report contains its styles and has no scripts."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """Wraps an ASGI app with the checks and the headers."""

    def __init__(self, app: App, *, hosts: frozenset[str] | None = LOOPBACK, token: str | None = None) -> None:
        """Args: `hosts` are this server's accepted host names, without ports; None accepts any, given a token."""
        assert hosts is not None or token is not None
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that fails a check; pass any other on to the app."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        send = _with_headers(send, REPORT_POLICY if scope["path"].startswith("/report/") else PAGE_POLICY)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _drain(receive)
            await refusal(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            await TOO_LARGE(scope, receive, send)
            return
        await self._app(scope, replayed(body, receive), send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """Return the response to a request that must not reach the app; None if it may."""
        if self._hosts is not None and _host_name(headers.get("host", "")) not in self._hosts:
            return refused(421, "this server goes by another name: open the address that the terminal shows")
        if "origin" in headers and _host_of(headers["origin"]) != headers.get("host", ""):
            return refused(403, "requests from pages of others are not answered")
        if self._token is None or _is_same(_token_of(headers), self._token):
            return None
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] == "GET" and scope["path"] == "/" and _is_same(token, self._token):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        return refused(401, "the token is missing or wrong: open the address with the token, as the terminal shows it")


def refused(status: int, why: str, *, retry_after_s: int | None = None) -> Response:
    """Make the response to a request that is refused."""
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return JSONResponse({"detail": why}, status, headers)


TOO_LARGE = refused(413, f"the request is larger than {MAX_BODY:,} bytes; send less text")


def _host_name(host: str) -> str:
    """Return the Host header without its port, in lower case; '' if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _host_of(origin: str) -> str:
    """Return the host and port of an Origin header; '' if it is malformed."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _token_of(headers: dict[str, str]) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value


def _is_same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


async def read_body(receive: Receive) -> bytes | None:
    """Read the whole body; return None if it is larger than `MAX_BODY`, whatever its headers claim."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        is_whole = message["type"] != "http.request" or not message.get("more_body")
        if len(body) > MAX_BODY:
            if not is_whole:
                await _drain(receive)
            return None
        if is_whole:
            return bytes(body)


async def _drain(receive: Receive) -> None:
    """Receive and discard the rest of a body, up to `_MOST_DRAINED` bytes."""
    taken = 0
    while taken < _MOST_DRAINED:
        message = await receive()
        taken += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that yields the body read earlier, then whatever else arrives."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _with_headers(send: Send, policy: str) -> Send:
    added = {**_HEADERS, "content-security-policy": policy}
    extra = [(name.encode(), value.encode()) for name, value in added.items()]

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *extra]
        await send(message)

    return send_more
