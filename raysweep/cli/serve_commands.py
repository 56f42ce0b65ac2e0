"""`raysweep try`: the local page in which a person tries the models of a run."""

import ipaddress
import socket
import threading
from types import FrameType
from typing import Annotated

import typer

from raysweep.cli.settings import Settings, new_group, with_settings
from raysweep.errors import ConfigError
from raysweep.storage.printable import say

app = new_group()
_SHORTEST_TOKEN = 16


@app.command("try")
@with_settings(overrides=False, reads_config=False, fetches="no checkpoints")
def try_models(
    settings: Settings,
    host: Annotated[str, typer.Option("--host", help="Address to listen on; another than 127.0.0.1 needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 8642,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", envvar="RAYSWEEP_TOKEN", help="What clients must know; better given in RAYSWEEP_TOKEN."
        ),
    ] = None,
) -> None:
    """Try a run's models in a browser.

    Fill blanks, see what surprises each model, and which level a text sounds like.
    """
    try:
        import uvicorn

        from raysweep.serving.web_app import make_app
    except ModuleNotFoundError as error:
        raise ConfigError(f"try: needs '{error.name}', which is not installed: pip install 'raysweep[try]'") from error
    import raysweep
    from raysweep.serving.guard import LOOPBACK
    from raysweep.serving.served_run import serve_run

    hosts = allowed_hosts(host, token)
    with open_socket(host, port) as listener:
        served = serve_run(raysweep.load(settings.folder.root))
        say(f"loading {len(served.models)} models: {', '.join(served.models)}")
        served.load()
        found = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else "localhost" if host in LOOPBACK else host
        secret = "?token= followed by your token" if token else ""
        say(f"open http://{shown}:{found}/{secret}   (Ctrl-C ends it)")
        app = make_app(served, hosts=hosts, token=token)

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                """End at the first Ctrl-C: uvicorn waits for all that was asked, and only a batch is worth that."""
                super().handle_exit(sig, frame)
                # In a thread, since the handler may have interrupted whoever holds the queue's lock.
                threading.Thread(target=app.state.batches.give_up, daemon=True).start()

        server = Server(uvicorn.Config(app, log_level="warning", access_log=False))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # the usual end of a server; uvicorn has answered what was asked by then
            say("ended")


def allowed_hosts(host: str, token: str | None) -> frozenset[str] | None:
    """The names that the server goes by; None for any, on an address that is not this machine's alone.

    Raises:
        ConfigError: others could reach it, and there is no token, or a short one.
    """
    from raysweep.serving.guard import LOOPBACK

    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isalnum()):
        raise ConfigError(
            f"--token: found one of {len(token)} characters; must be {_SHORTEST_TOKEN} letters and digits or more: "
            "`openssl rand -hex 16` prints one"
        )
    if host in LOOPBACK or _is_loopback(host):
        return LOOPBACK | {host}
    if token is None:
        raise ConfigError(f"--host {host[:80]}: others could reach the server; give it a --token, or leave --host out")
    return None


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(
            f"--host {host[:80]} --port {port}: cannot listen there ({error.strerror or error}); "
            "name another, or --port 0"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
