"""An app without models, imported by name in the replicas."""

import asyncio
import os
from pathlib import Path

from raysweep.errors import DamagedError


def make_app(*, word, gate):
    """Answers with the word and the process's number; to /wait when the file at `gate` is there."""

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
