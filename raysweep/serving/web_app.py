"""The web app: the page, its API, the run's report, and API documentation that works offline."""

import asyncio
import json
from collections.abc import AsyncIterator, Hashable, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

import raysweep
from raysweep.errors import InputError, RaysweepError
from raysweep.evaluation.answer_words import Constraints
from raysweep.evaluation.token_sampling import Sampling
from raysweep.serving.guard import LOOPBACK, Guard, refused
from raysweep.serving.request_batches import BusyError, RequestBatches
from raysweep.serving.served_run import MAX_BLANKS, MAX_CHARACTERS, DrawSettings, ServedRun, serve_run
from raysweep.storage.printable import SHOWN_CHARACTERS, printable, shorten_quotes

PAGE = Path(__file__).parent / "page"
_READ = "read"
RETRY_AFTER_S = 2


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Blank(_Body):
    """A range of characters (Unicode code points) to be filled in anew."""

    start: int = Field(ge=0)
    stop: int = Field(gt=0)
    kind: Literal["word", "ngram", "sentence", "paragraph", "document"] = "word"


class FillRequest(_Body):
    """A text with blanks, and how to fill them."""

    text: str = Field(max_length=MAX_CHARACTERS)
    blanks: list[Blank] | None = Field(
        None, max_length=MAX_BLANKS, description="if absent, the text spells them: [word], [ngram], [sentence] …"
    )
    samples: int = Field(3, ge=1, le=5)
    temperature: float = Field(1.0, ge=0.0, le=5.0, description="0: the likeliest token")
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(0.95, ge=0.0, le=1.0)
    seed: int = Field(0, ge=0, lt=2**63)
    first_word: str | None = Field(None, max_length=50)
    min_words: int = Field(0, ge=0, le=30)
    max_words: int | None = Field(None, ge=1)
    forbidden: list[Annotated[str, Field(max_length=50)]] = Field(default_factory=list, max_length=50)


class ReadRequest(_Body):
    """A text to score."""

    text: str = Field(min_length=1, max_length=MAX_CHARACTERS)


def make_app(
    served: ServedRun, *, hosts: frozenset[str] | None = LOOPBACK, token: str | None = None, most_waiting: int = 64
) -> FastAPI:
    """Make the app for a run whose models are loaded; `hosts` and `token` are those of `Guard`."""

    def work(key: Hashable, payloads: Sequence[Any]) -> Sequence[Any]:
        return served.fill(payloads, key) if isinstance(key, DrawSettings) else served.read(payloads)

    batches = RequestBatches(work, most_waiting=most_waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batches.start()
        yield
        await run_in_threadpool(batches.stop)

    app = FastAPI(
        title="raysweep try",
        version=raysweep.__version__,
        description="Fill blanks and read texts with the models of a run.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.batches = batches
    app.add_middleware(Guard, hosts=hosts, token=token)
    app.add_exception_handler(RaysweepError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)

    @app.get("/api/run")
    def describe_run() -> dict[str, Any]:
        """Return the models, and the limits of a request."""
        return served.describe()

    @app.get("/api/health")
    def report_health() -> dict[str, Any]:
        """Return how many requests are waiting, and how many may wait before the next one is refused with 503."""
        return {"status": "ok", "waiting": batches.waiting, "most_waiting": most_waiting}

    @app.post("/api/fill")
    async def fill(request: FillRequest, connection: Request) -> dict[str, Any]:
        """Return what every model writes into the blanks, and the probability that it gives to each answer."""
        draw = DrawSettings(
            samples=request.samples,
            sampling=Sampling(temperature=request.temperature, top_k=request.top_k, top_p=request.top_p),
            seed=request.seed,
            constraints=Constraints(
                first_word=request.first_word,
                min_words=request.min_words,
                max_words=request.max_words,
                forbidden=tuple(request.forbidden),
            ),
        )
        ranges = None if request.blanks is None else [(blank.start, blank.stop, blank.kind) for blank in request.blanks]
        template = await run_in_threadpool(served.check_template, request.text, ranges, draw.constraints)
        return await _answer(batches.ask(draw, template), connection)

    @app.post("/api/read")
    async def read(request: ReadRequest, connection: Request) -> dict[str, Any]:
        """Return every model's surprisal at each token in nats, and the probability of each level."""
        await run_in_threadpool(served.check_text, request.text)
        return await _answer(batches.ask(_READ, request.text), connection)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(render_docs(app.openapi()))

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/report", _Report(served))
    return app


def open_app(
    run: str, *, hosts: frozenset[str] | None, token: str | None, digests: Mapping[str, str], report_digest: str
) -> FastAPI:
    """Load the models of a run in a folder or in object storage, and make its app.

    Args:
        digests: `ServedRun.digests`; a replica restarted after a training must not serve models that differ from
            those of the other replicas.
        report_digest: `ServedRun.report_digest`; it must not show another report either.

    Raises:
        InputError: the run's models have changed.
    """
    served = serve_run(raysweep.load(run), report_digest=report_digest)
    served.load()
    now = served.digests
    if changed := sorted(name for name in digests.keys() | now.keys() if digests.get(name) != now.get(name)):
        what = f"run '{served.run.folder.name:.40}': {', '.join(changed)[:40]}"
        raise InputError(f"{what} changed since `raysweep serve` began; end it, and give the same command again")
    return make_app(served, hosts=hosts, token=token)


class _Report(StaticFiles):
    """Serves the files of the report, which may not be written yet; then every path gives 404."""

    def __init__(self, served: ServedRun) -> None:
        self._served = served
        super().__init__(directory=served.run.folder.report, check_dir=False)

    async def check_config(self) -> None:
        pass

    async def get_response(self, path: str, scope: MutableMapping[str, Any]) -> Response:
        """Return a file of the report that existed when the models were loaded; a later report may be of other models.

        A report without its evidence is incomplete and gives 404.
        """
        if await run_in_threadpool(self._served.has_same_report):
            if not self._served.report_digest:
                raise HTTPException(404)
            return await super().get_response(path, scope)
        return PlainTextResponse(
            "The report was written again since these models were loaded, and may be of others. Start raysweep again.",
            409,
        )


async def _answer(future: "Future[dict[str, Any]]", connection: Request) -> dict[str, Any]:
    """Wait for an answer; if the client disconnects first, cancel its request."""
    answer = asyncio.wrap_future(future)
    disconnect = asyncio.ensure_future(connection.receive())  # after the body, the only message left is the disconnect
    either: set[asyncio.Future[Any]] = {answer, disconnect}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(499, "the client went away")
        if answer.cancelled():
            raise BusyError("the server is being stopped; ask again when it is back")
        return answer.result()
    finally:
        disconnect.cancel()
        answer.cancel()


def render_docs(schema: dict[str, Any]) -> str:
    """Render the API's documentation as a page without scripts."""
    environment = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined)
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return environment.get_template("docs.html.j2").render(schema=schema)


async def _answer_error(_: Request, error: Exception) -> Response:
    status = 503 if isinstance(error, BusyError) else 422 if isinstance(error, InputError) else 500
    return refused(status, shorten_quotes(str(error)), retry_after_s=RETRY_AFTER_S if status == 503 else None)


async def _answer_invalid_request(_: Request, error: Exception) -> Response:
    """Report the first invalid field of a request, without quoting the text that was sent."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return refused(422, f"body: found no JSON at character {first['loc'][-1]}; must be an object with a text")
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return refused(422, f"{printable(place)[:SHOWN_CHARACTERS]}: {first['msg']}")
