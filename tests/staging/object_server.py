"""A local S3 for tests: moto behind a gate that counts requests, and answers 503 or ignores conditions on request."""

import logging
import threading
import urllib.request
import uuid
from dataclasses import dataclass, field
from urllib.parse import quote

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")


@dataclass
class Gate:
    """Stands between the client and moto."""

    app: object
    is_down: bool = False
    """Answer 503 to everything."""
    refuses: str = ""
    """Answer 403 to requests whose path has this in it."""
    ignores_conditions: bool = False
    lacks_conditions: bool = False
    """Answer 501 to conditional writes."""
    speaks_gs: bool = False
    """Be Google's Cloud Storage, as far as its XML API differs in what raysweep sends."""
    _etags: dict = field(default_factory=dict)
    _generations: dict = field(default_factory=dict)
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
        return self.app(environ, start_response) if not self.speaks_gs else self._answer_as_gs(environ, start_response)

    def _answer_as_gs(self, environ, start_response):
        """Imitate Google's XML API: like S3, but with conditions on generations, numbers that grow with each write."""
        environ["RAW_URI"] = environ["REQUEST_URI"] = f"{quote(environ['PATH_INFO'])}?{environ['QUERY_STRING']}"
        path, wanted = environ["PATH_INFO"], environ.pop("HTTP_X_GOOG_IF_GENERATION_MATCH", None)
        if wanted == "0":
            environ["HTTP_IF_NONE_MATCH"] = "*"
        elif wanted is not None:
            environ["HTTP_IF_MATCH"] = self._etags.get((path, wanted), '"none"')

        def start(status, headers, *rest):
            etag = next((value for name, value in headers if name.lower() == "etag"), None)
            if etag is not None and status.startswith("2"):
                if environ["REQUEST_METHOD"] == "PUT":
                    self._generations[path] = str(len(self._etags) + 1000)
                    self._etags[path, self._generations[path]] = etag
                headers = [*headers, ("x-goog-generation", self._generations.get(path, "1"))]
            return start_response(status, headers, *rest)

        return self.app(environ, start)

    def count(self, method=None):
        return sum(1 for request, _, _ in self.requests if method in (None, request))


def _answer(start_response, status, code):
    body = f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


class ObjectServer:
    """The server, in threads of this process."""

    def __init__(self, host="127.0.0.1", port=0):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.gate = Gate(DomainDispatcherApplication(create_backend_app))
        self._server = make_server(host, port, self.gate, threaded=True)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://{host}:{self._server.server_port}"

    def new_bucket(self):
        """Create an empty bucket; return its name."""
        name = f"runs-{uuid.uuid4().hex[:12]}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")):
            return name

    def close(self):
        self._server.shutdown()
        self._server.server_close()
