"""Clients that go away, for whom nothing more is done, and those that are refused while they send."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from anyio import move_on_after
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

LINGER_SECONDS = 1.0
T = TypeVar("T")


async def while_connected(
    gone: Coroutine[Any, Any, None], work: Coroutine[Any, Any, T], timeout: float | None = None
) -> T:
    """Do what takes time; cancel it if the client goes away.

    Args:
        gone: ends when it does, such as :func:`disconnected`.
        work: what is done.
        timeout: seconds that it may take; None for any.

    Raises:
        starlette.requests.ClientDisconnect: the client went away.
        TimeoutError: it took longer.
    """
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone)
    try:
        done, _ = await asyncio.wait((task, watch), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        raise ClientDisconnect if done else TimeoutError
    finally:
        task.cancel()
        watch.cancel()


async def disconnected(receive: Receive) -> None:
    """Wait until the client of a request goes away, whose body was received."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def drained(request: Request, most: int) -> None:
    """Discard a body that is refused, for a while: a client that is reset while it sends does not see the answer.

    Args:
        most: bytes that are discarded.
    """
    if "expect" in request.headers:  # a client that asks before it sends
        return
    n_bytes = 0
    with suppress(ClientDisconnect), move_on_after(LINGER_SECONDS):
        async for chunk in request.stream():
            n_bytes += len(chunk)
            if n_bytes > most:
                return
