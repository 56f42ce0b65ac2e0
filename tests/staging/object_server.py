"""A local S3 for tests: moto behind a gate that counts requests, and answers 503 or ignores conditions when told to."""

import logging
import threading
import urllib.request
import uuid
from dataclasses import dataclass, field

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")


@dataclass
class Gate:
    """What is between the client and moto."""

    app: object
    is_down: bool = False
    """Answer 503 to everything."""
    refuses: str = ""
    """Answer 403 to requests whose path has this in it."""
    ignores_conditions: bool = False
    lacks_conditions: bool = False
    """Answer 501 to conditional writes."""
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and body size of each request."""
    on_request: object = None
    """Called with method and path before the request is carried out; a test stops the world here."""

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path, int(environ.get("CONTENT_LENGTH") or 0)))
        if self.on_request is not None:
            self.on_request(method, path)
        if self.is_down:
            return _answer(start_response, "503 Slow Down", "SlowDown")
        if self.refuses and self.refuses in path:
            return _answer(start_response, "403 Forbidden", "AccessDenied")
        has_condition = method == "PUT" and any(name in environ for name in CONDITIONS)
        if self.lacks_conditions and has_condition:
            return _answer(start_response, "501 Not Implemented", "NotImplemented")
        if self.ignores_conditions and method == "PUT":
            for name in CONDITIONS:
                environ.pop(name, None)
        return self.app(environ, start_response)

    def count(self, method=None):
        return sum(1 for each, _, _ in self.requests if method in (None, each))


def _answer(start_response, status, code):
    body = f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


class ObjectServer:
    """The server, in threads of this process."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.gate = Gate(DomainDispatcherApplication(create_backend_app))
        self._server = make_server("127.0.0.1", 0, self.gate, threaded=True)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def new_bucket(self):
        """An empty bucket; returns its name."""
        name = f"runs-{uuid.uuid4().hex[:12]}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")):
            return name

    def close(self):
        self._server.shutdown()
        self._server.server_close()
