"""An app without models, which the replicas import by name."""

import asyncio
import os
from pathlib import Path

from raysweep.errors import DamagedError


def make_app(*, word, gate):
    """Make an app that answers with the word and the process id; /wait answers once the file `gate` exists."""

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        while scope["path"] == "/wait" and not Path(gate).exists():
            await asyncio.sleep(0.02)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{word} {os.getpid()}".encode()})

    return app


def refuse(**_):
    raise DamagedError("model.safetensors is damaged; train it again with --force A1")
