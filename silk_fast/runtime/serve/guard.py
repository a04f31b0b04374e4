"""Around every request: who may ask, how a browser must treat the answer, and how long sending it may take."""

import json
import time
from typing import Any
from urllib.parse import urlsplit

from anyio import fail_after
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from silk_fast.arguments import shown
from silk_fast.runtime.serve.service import Service

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def error_body(kind: str, message: str) -> dict[str, Any]:
    """Lay out an error as every answer that is one has it."""
    return {"error": {"type": kind, "message": message}}


def refusal(headers: Headers, hosts: frozenset[str] | None) -> str:
    """Say why a request is not answered: it is another site's, or calls the server by a name that is not its own.

    A page of another site may send requests from the browser of whoever looks at it, under its own ``Origin``; and one
    whose name was made to point here would call this server by that name. Programs send no ``Origin``.

    Returns:
        Empty if it is answered.
    """
    host, origin = headers.get("host", "").lower(), headers.get("origin")
    if hosts is not None and (urlsplit(f"//{host}").hostname or "") not in hosts:
        return f"host is {shown(host)}, expected one of {', '.join(sorted(hosts))}; silk serve --allow-host adds others"
    if origin is not None and urlsplit(origin).netloc.lower() != host:
        return f"origin is {shown(origin)}, expected a page of this server, {shown(host)}"
    return ""


class Guard:
    """The outermost layer of a server. A request that is refused gets 403, or no WebSocket."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        start, status, is_stuck = time.perf_counter(), "none", False

        async def send_in_time(message: Message) -> None:
            nonlocal status, is_stuck
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            elif message["type"] == "websocket.close":
                status = str(message.get("code", 1000))
            try:
                with fail_after(self.service.limits.timeout):
                    await send(message)
            except TimeoutError:
                is_stuck = True
                raise

        try:
            if why := self._refusal(scope):
                await _refuse(scope, why, send_in_time)
            else:
                await self.app(scope, receive, send_in_time)
        except Exception:
            if not is_stuck:  # a client that takes no more of its answer is no fault of ours
                raise
        finally:
            route = getattr(scope.get("route"), "path", "other")  # paths that nothing answers are too many to count
            self.service.metrics.requests.labels(route, status).inc()
            self.service.metrics.seconds.labels(route).observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> str:
        try:
            return refusal(Headers(scope=scope), self.service.limits.hosts)
        except ValueError as error:  # no host or no URL at all
            return f"host or origin cannot be read: {error}"


async def _refuse(scope: Scope, why: str, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why[:100]})
        return
    body = json.dumps(error_body("Forbidden", why)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
