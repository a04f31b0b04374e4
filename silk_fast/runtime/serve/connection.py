"""Clients that go away: what is done for them ends then."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

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
