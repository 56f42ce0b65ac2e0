"""A request whose replica is lost is asked again, of another replica.

Ray Serve's proxy answers such a request with 500 and no reason.  No request changes anything, so each can be asked
twice, as long as nothing of its answer has been sent on.  The API's answers are one piece, so none is lost; a file that
is sent in pieces, as a long report, breaks off if its replica is lost after the first.  The proxy calls
`proxy_middlewares` by its name, and keeps them for all apps of this Serve: what is asked of other paths is left alone.
"""

from starlette.middleware import Middleware

from raysweep.serving.guard import TOO_LARGE, App, Message, Receive, Scope, Send, read_body, refused, replayed

_TRIES = 2
"""What is lost twice may be what kills the replicas, and must not end them all."""
_RETRY_AFTER_S = 5
_PATHS = ("/", "/docs", "/openapi.json")
_FOLDERS = ("/api/", "/page/", "/report/")
"""Those of `web_app`, which is not imported here: the proxy needs no torch."""


def proxy_middlewares() -> list[Middleware]:
    """What Ray Serve's proxy wraps around itself."""
    return [Middleware(AskAgain)]


class AskAgain:
    """Wraps the proxy's app."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on until something is answered, or the client goes away."""
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
                start = message  # with which a replica may be lost still
                return
            if start is not None:
                is_over = True
                await send(start)
                start = None
            await send(message)

        for _ in range(_TRIES):
            start = None
            again = {**scope, "headers": list(scope["headers"])}  # the proxy adds to them
            await self._app(again, replayed(body, receive_later), send_on)
            if is_over:
                return
        lost = refused(503, f"{_TRIES} replicas were lost while they answered; ask again", retry_after_s=_RETRY_AFTER_S)
        await lost(scope, receive, send)


def is_ours(path: str) -> bool:
    """Whether a request is for the web app, and not for another app of the same Serve."""
    return path in _PATHS or path.startswith(_FOLDERS)
