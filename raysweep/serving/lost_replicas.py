"""Repeats a request whose replica was lost, so that another replica answers it.

Ray Serve's proxy answers such a request with 500 and no reason.  No request changes anything, so each can be repeated
as long as no part of its response has been sent.  The API's responses are sent whole, so none is cut off; a file
sent in pieces, such as a long report, breaks off if its replica is lost after the first piece.  The proxy calls
`proxy_middlewares` by name and applies it to all apps of this Serve instance; requests for other paths pass unchanged.
"""

from starlette.middleware import Middleware

from raysweep.serving.guard import TOO_LARGE, App, Message, Receive, Scope, Send, read_body, refused, replayed

_TRIES = 2
"""A request that lost two replicas may itself kill replicas, and must not take down all of them."""
_RETRY_AFTER_S = 5
_PATHS = ("/", "/docs", "/openapi.json")
_FOLDERS = ("/api/", "/page/", "/report/")
"""The paths of `web_app`, which is not imported here, because the proxy does not need torch."""


def proxy_middlewares() -> list[Middleware]:
    """Return the middleware that Ray Serve's proxy wraps around itself."""
    return [Middleware(AskAgain)]


class AskAgain:
    """Wraps the proxy's app and repeats requests whose replica was lost."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, again if its replica is lost, until it is answered or the client disconnects."""
        if scope["type"] != "http" or not is_ours(scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            await TOO_LARGE(scope, receive, send)
            return
        is_over = False
        start: Message | None = None

        async def receive_later() -> Message:
            nonlocal is_over
            message = await receive()
            is_over |= message["type"] == "http.disconnect"
            return message

        async def send_on(message: Message) -> None:
            nonlocal is_over, start
            if message["type"] == "http.response.start":
                start = message  # held back: the replica may still be lost before the body
                return
            if start is not None:
                is_over = True
                await send(start)
                start = None
            await send(message)

        for _ in range(_TRIES):
            start = None
            again = {**scope, "headers": list(scope["headers"])}  # the proxy appends to the list
            await self._app(again, replayed(body, receive_later), send_on)
            if is_over:
                return
        lost = refused(503, f"{_TRIES} replicas were lost while they answered; ask again", retry_after_s=_RETRY_AFTER_S)
        await lost(scope, receive, send)


def is_ours(path: str) -> bool:
    """Return whether the path belongs to the web app rather than to another app of the same Serve instance."""
    return path in _PATHS or path.startswith(_FOLDERS)
