"""`raysweep try` and `raysweep serve`: the page for trying a run's models, on this machine or on a Ray cluster."""

import ipaddress
import socket
import threading
import time
from types import FrameType
from typing import Annotated

import typer

from raysweep.cli.settings import Settings, new_group, with_settings
from raysweep.errors import ConfigError
from raysweep.storage.printable import say

app = new_group()
_SHORTEST_TOKEN = 16
_LOOK_S = 2.0

HostOption = Annotated[str, typer.Option("--host", help="Address to listen on; any but 127.0.0.1 needs --token.")]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="RAYSWEEP_TOKEN", help="Token that clients must send; better set in RAYSWEEP_TOKEN."
    ),
]


@app.command("try")
@with_settings(overrides=False, reads_config=False, fetches="no checkpoints", needs_run=True)
def try_models(
    settings: Settings,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free port.")] = 8642,
    token: TokenOption = None,
) -> None:
    """Try a run's models in a browser.

    Fill blanks, see which words surprise each model, and which level a text resembles.
    """
    try:
        import uvicorn

        from raysweep.model.heavy_imports import import_quickly

        import_quickly("raysweep.serving.web_app")
        from raysweep.serving.web_app import make_app
    except ModuleNotFoundError as error:
        raise _missing("try", error) from error
    import raysweep
    from raysweep.serving.served_run import serve_run

    hosts = allowed_hosts(host, token)
    with open_socket(host, port) as listener:
        served = serve_run(raysweep.load(settings.folder.root))
        say(f"loading {len(served.models)} models: {', '.join(served.models)}")
        served.load()
        say(f"open {shown_address(host, listener.getsockname()[1], token)}   (Ctrl-C ends it)")
        app = make_app(served, hosts=hosts, token=token)

        class Server(uvicorn.Server):
            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                """Stop at the first Ctrl-C, waiting for the current batch only; uvicorn would wait for all requests."""
                super().handle_exit(sig, frame)
                # In a thread, since the signal may have interrupted the holder of the queue's lock.
                threading.Thread(target=app.state.batches.give_up, daemon=True).start()

        server = Server(uvicorn.Config(app, log_level="warning", access_log=False))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # the usual end of a server; by then uvicorn has answered the requests
            say("ended")


@app.command("serve")
@with_settings(overrides=False, reads_config=False, fetches="no checkpoints", needs_run=True)
def serve_models(
    settings: Settings,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, help="Number of processes that answer, each with all models.")
    ] = 1,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port on the cluster's head.")] = 8642,
    token: TokenOption = None,
) -> None:
    """Serve the page of `try` to a team with Ray Serve.

    Runs on the cluster named by RAY_ADDRESS or the run's config, or else here, until Ctrl-C or `ray job stop`.
    """
    hosts = allowed_hosts(host, token)
    try:
        from raysweep.cluster.served_app import serving
        from raysweep.cluster.session import open_session
        from raysweep.serving.served_run import serve_run
    except ModuleNotFoundError as error:
        raise _missing("serve", error) from error
    import raysweep

    served = serve_run(raysweep.load(settings.folder.root, device="cpu"))
    resources = served.run.config.resources
    place = str(settings.folder.root.resolve())
    if settings.address is not None and resources.cluster_address is not None:
        place = settings.address.at(settings.folder.name).uri  # every replica fetches the run
    digests = {"digests": served.digests, "report_digest": served.report_digest}
    arguments = {"run": place, "hosts": hosts, "token": token, **digests}
    try:
        is_shared = settings.address is None
        with open_session(resources, scratch=settings.folder.serve, shares_folder=is_shared, trains=False) as session:
            say(session.describe())
            where = "1 replica" if replicas == 1 else f"{replicas} replicas"
            say(f"loading {len(served.models)} models in {where}: {', '.join(served.models)}")
            with serving(
                session,
                "raysweep.serving.web_app:open_app",
                arguments,
                replicas=replicas,
                host=host,
                port=port,
                proxy="raysweep.serving.lost_replicas:proxy_middlewares",
            ) as state:
                place = "" if session.local else " on the cluster's head"
                say(f"open {shown_address(host, port, token)}{place}   (Ctrl-C ends it)")
                reported = ""
                while True:
                    if (now := state()) != reported:
                        say(f"ray serve: {now}")
                    reported = now
                    time.sleep(_LOOK_S)
    except KeyboardInterrupt:  # the usual end of a server
        say("ended")


def _missing(command: str, error: ModuleNotFoundError) -> ConfigError:
    install = f"pip install -c constraints.txt -e '.[{command}]'"
    return ConfigError(f"{command}: needs '{error.name}', which is not installed: {install}")


def shown_address(host: str, port: int, token: str | None) -> str:
    """Return the URL to open in a browser, without the token itself."""
    from raysweep.serving.guard import LOOPBACK

    shown = f"[{host}]" if ":" in host else "localhost" if host in LOOPBACK else host
    return f"http://{shown}:{port}/{'?token= followed by your token' if token else ''}"


def allowed_hosts(host: str, token: str | None) -> frozenset[str] | None:
    """Return the accepted host names, None for any; ConfigError if others reach the server without a long token."""
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
    """Open a listening socket; raises ConfigError for an address of another machine, or a port that is taken."""
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
