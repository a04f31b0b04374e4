"""The application: paths, the page, and what an error becomes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources

from fastapi import FastAPI, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from silk_fast.errors import SilkBusyError, SilkError, SilkLimitError, SilkTimeoutError
from silk_fast.runtime.serve.guard import Guard, error_body
from silk_fast.runtime.serve.routes import BodyTimeout, make_router
from silk_fast.runtime.serve.service import Service
from silk_fast.runtime.serve.stream import serve_stream

RETRY_SECONDS = 1
PAGE = {  # path: file of the package, and what it is
    "/": ("runtime/serve/page/index.html", "text/html; charset=utf-8"),
    "/style.css": ("runtime/serve/page/style.css", "text/css; charset=utf-8"),
    "/page.js": ("runtime/serve/page/page.js", "text/javascript; charset=utf-8"),
    "/sound.js": ("runtime/serve/page/sound.js", "text/javascript; charset=utf-8"),
    "/pictures.js": ("runtime/serve/page/pictures.js", "text/javascript; charset=utf-8"),
    "/recorder.js": ("runtime/serve/page/recorder.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("runtime/serve/page/icon.svg", "image/svg+xml"),
    "/example.flac": ("assets/speech.flac", "audio/flac"),
}


def make_app(service: Service) -> Guard:
    """Make the application of a server, which lets go of the service's threads when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="silk_fast", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(make_router(service))

    @app.websocket("/v1/codec/stream")
    async def stream(socket: WebSocket) -> None:
        await serve_stream(socket, service)

    for path, (name, media_type) in PAGE.items():
        _add_file(app, path, name, media_type)
    app.add_exception_handler(SilkError, _on_silk_error)
    app.add_exception_handler(RequestValidationError, _on_bad_query)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(BodyTimeout, _on_slow_body)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(Exception, _on_failure)
    app.add_exception_handler(TimeoutError, _on_timeout)
    return Guard(app, service)


def _add_file(app: FastAPI, path: str, name: str, media_type: str) -> None:
    content = resources.files("silk_fast").joinpath(name).read_bytes()

    @app.get(path)
    async def file() -> Response:
        return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})


def _answer(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(error_body(kind, message), status, headers)


def _busy(message: str) -> JSONResponse:
    return _answer(503, "SilkBusyError", message, {"retry-after": str(RETRY_SECONDS)})


async def _on_silk_error(_: Request, error: Exception) -> Response:
    kind, message = type(error).__name__, str(error)
    if isinstance(error, SilkTimeoutError):
        return await _on_timeout()
    if isinstance(error, SilkBusyError):
        return _busy(message)
    return _answer(413 if isinstance(error, SilkLimitError) else 422, kind, message)


async def _on_bad_query(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    parts = (f"{'.'.join(map(str, part['loc'][1:]))}: {part['msg']}" for part in error.errors())
    return _answer(422, "SilkInputError", "; ".join(parts))


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, "HTTPError", error.detail, dict(error.headers or {}))


async def _on_slow_body(_: Request, error: Exception) -> Response:
    return _answer(408, "Timeout", str(error), {"connection": "close"})


async def _on_timeout(*_: object) -> Response:
    return _busy("the answer was not there in time; try again later")


async def _on_gone(*_: object) -> Response:
    return Response(status_code=499)  # which nobody receives, but the metrics


async def _on_failure(*_: object) -> Response:
    return _answer(500, "Failure", "the server failed; its log says why")
