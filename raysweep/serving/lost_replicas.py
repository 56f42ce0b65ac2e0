"""A request whose replica is lost is asked again, of another replica.

Ray Serve's proxy answers such a request with 500 and no reason.  No request changes anything, so each can be asked
twice; and none is answered in halves, since answers are sent whole.  The proxy calls `proxy_middlewares` by its name.
"""

from starlette.middleware import Middleware

from raysweep.serving.guard import TOO_LARGE, App, Message, Receive, Scope, Send, read_body, refused, replayed

_TRIES = 3
"""One replica may be lost, and the next one too; three in a row are no accident."""
_RETRY_AFTER_S = 5


def proxy_middlewares() -> list[Middleware]:
    """What Ray Serve's proxy wraps around itself."""
    return [Middleware(AskAgain)]


class AskAgain:
    """Wraps the proxy's app."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on until something is answered, or the client goes away."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        if body is None:
            await TOO_LARGE(scope, receive, send)
            return
        is_over = False

        async def receive_later() -> Message:
            nonlocal is_over
            message = await receive()
            is_over |= message["type"] == "http.disconnect"
            return message

        async def send_on(message: Message) -> None:
            nonlocal is_over
            is_over = True
            await send(message)

        for _ in range(_TRIES):
            again = {**scope, "headers": list(scope["headers"])}  # the proxy adds to them
            await self._app(again, replayed(body, receive_later), send_on)
            if is_over:
                return
        lost = refused(503, f"{_TRIES} replicas were lost while they answered; ask again", retry_after_s=_RETRY_AFTER_S)
        await lost(scope, receive, send)
