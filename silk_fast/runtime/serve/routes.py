"""HTTP: what each path answers."""

from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, BinaryIO, Literal

from anyio import fail_after
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from silk_fast.errors import SilkBusyError, SilkInputError, SilkLimitError
from silk_fast.runtime.serve.answers import SILK_TYPE, Sound, flac_file, silk_file, token_object
from silk_fast.runtime.serve.bodies import most_token_bytes, read_audio, read_tokens, received
from silk_fast.runtime.serve.connection import disconnected, drained, while_connected
from silk_fast.runtime.serve.service import Service


class BodyTimeout(Exception):
    """A body that does not come."""


async def _received(request: Request, service: Service, most: int) -> BinaryIO:
    try:
        with fail_after(service.limits.timeout):
            return await received(request, most)
    except SilkLimitError:
        await drained(request, service.limits.max_bytes)
        raise
    except TimeoutError as error:
        raise BodyTimeout(f"the body did not come within {service.limits.timeout:g} s") from error


def make_router(service: Service) -> APIRouter:
    """Make the paths of the codec; errors are raised, see ``app.py``."""
    router, codec, limits = APIRouter(), service.codec, service.limits

    @router.post("/v1/codec/encode")
    async def encode(request: Request, format: Literal["json", "silk"] | None = None) -> Response:
        wants_silk = format == "silk" or (format is None and SILK_TYPE in request.headers.get("accept", ""))
        if wants_silk and service.header is None:
            raise SilkInputError(f"{codec.name} has no .silk files, expected format=json")
        with ExitStack() as held:
            await _admit(request, held)
            file = await _received(request, service, limits.max_bytes)
            return await _answered(request, _encoded(file, wants_silk))

    async def _admit(request: Request, held: ExitStack) -> None:
        try:
            held.enter_context(service.place())
        except SilkBusyError:
            await drained(request, limits.max_bytes)
            raise

    async def _answered(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
        return await while_connected(disconnected(request.receive), work, limits.timeout)

    async def _encoded(file: BinaryIO, wants_silk: bool) -> Response:
        audio = await service.in_thread(read_audio, file, codec, limits.max_seconds)
        tokens, n_samples = await service.computed("encode", audio), audio.shape[1]
        service.metrics.audio.labels("encode").inc(n_samples / codec.sample_rate)
        if service.header is not None and wants_silk:
            return Response(silk_file(service.header, tokens, n_samples), media_type=SILK_TYPE)
        return JSONResponse(token_object(service.model, codec, tokens, n_samples))

    @router.post("/v1/codec/decode")
    async def decode(request: Request, response_format: Literal["wav", "pcm", "flac"] = "wav") -> Response:
        with ExitStack() as held:
            await _admit(request, held)
            file = await _received(request, service, min(limits.max_bytes, most_token_bytes(codec, limits.max_seconds)))
            answer = await _answered(request, _decoded(file, response_format, held))
            if isinstance(answer, Sound):
                answer.held = held.pop_all()  # the answer goes on while it is sent
            return answer

    async def _decoded(file: BinaryIO, response_format: str, held: ExitStack) -> Response:
        tokens = await service.in_thread(read_tokens, file, codec, service.header, limits.max_seconds)
        n_all = service.n_decoded(len(tokens.frames))
        n_samples = n_all if tokens.n_samples is None else tokens.n_samples
        if n_samples > n_all:
            raise SilkInputError(f"n_samples is {n_samples}, but its frames hold {n_all}")
        service.metrics.audio.labels("decode").inc(n_samples / codec.sample_rate)
        if response_format == "flac":
            audio = await service.computed("decode", tokens.frames)
            return Response(await service.in_thread(flac_file, codec, audio[:, :n_samples]), media_type="audio/flac")
        pieces = service.decoded_pieces(tokens.frames, held)
        return Sound(service, await service.result(pieces[0]), pieces[1:], n_samples, response_format == "wav")

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [service.description()]}

    @router.get("/health")
    async def health() -> Response:
        stats, is_open = service.engine.stats(), service.engine.is_open
        counts = {"slots": stats.n_slots, "slots_busy": stats.n_busy, "queued": stats.n_queued, "open": service.n_open}
        return JSONResponse({"status": "ok" if is_open else "failed", **counts}, 200 if is_open else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
