"""``silk serve``: a codec as a server of HTTP and WebSocket, with a page to try it."""

import argparse
import errno
import ipaddress
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from silk_fast.cli.console import Commands, Console, model_of, positive, seconds
from silk_fast.cli.models import pick_device
from silk_fast.cli.transcode import add_codec_arguments, options_of_codec
from silk_fast.errors import SilkInputError

if TYPE_CHECKING:
    from silk_fast.runtime.codec import Codec
    from silk_fast.runtime.serve.service import Limits

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
GRACE_SECONDS = 5  # for what is being answered when the server ends


def run_serve(arguments: argparse.Namespace, console: Console) -> int:
    """Serve until SIGINT or SIGTERM; 0 then."""
    try:
        import uvicorn

        from silk_fast.runtime.serve.app import make_app
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "silk_fast":
            raise
        raise SilkInputError(f"silk serve needs more packages: pip install 'silk_fast[serve]' ({error})") from error
    from silk_fast.runtime.engine import Engine
    from silk_fast.runtime.serve.service import Service

    with _listening(arguments.host, arguments.port) as listener:  # before the model is loaded, which takes longer
        host, port = listener.getsockname()[:2]
        codec, model = _codec_of(arguments)
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        with Engine(codec, n_slots=arguments.slots, max_queue=arguments.queue) as engine:
            app = make_app(Service(codec, engine, _limits_of(arguments, host), model))
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws_max_size=2**20,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
            server = uvicorn.Server(config)
            signal.signal(signal.SIGHUP, lambda *_: server.handle_exit(signal.SIGTERM, None))
            console.notice(f"{model} is served at {url} ; Ctrl-C ends it")
            if console.json:
                console.result({"url": url, "model": model}, [])
                sys.stdout.flush()
            with suppress(KeyboardInterrupt):  # which uvicorn passes on after it has ended in good order
                server.run(sockets=[listener])
    return 0


def _listening(host: str, port: int) -> socket.socket:
    """Open the socket of the server.

    Raises:
        SilkInputError: the host or the port cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        why = os.strerror(errno.EADDRINUSE) if is_taken else error.strerror
        expected = "a free one; --port 0 takes any" if is_taken else "an address of this machine"
        raise SilkInputError(f"cannot listen at {host} port {port}: {why}, expected {expected}") from error


def _codec_of(arguments: argparse.Namespace) -> "tuple[Codec, str]":
    """Load the codec that the arguments ask for, and give the name under which it is served."""
    from silk_fast.runtime.codec import open_codec

    options = options_of_codec(arguments)
    name, weights = (arguments.codec, arguments.weights) if arguments.codec else ("silk", model_of(arguments))
    device = pick_device(arguments)
    codec = open_codec(name, weights, device=device, accelerate=arguments.accelerate, options=options)
    return codec, os.path.basename(os.path.abspath(weights)) if os.path.isdir(weights) else weights


def _limits_of(arguments: argparse.Namespace, host: str) -> "Limits":
    from silk_fast.runtime.serve.service import Limits

    is_loopback = ipaddress.ip_address(host.partition("%")[0]).is_loopback
    return Limits(
        max_bytes=arguments.max_bytes,
        max_seconds=arguments.max_seconds,
        max_queue=arguments.queue,
        timeout=arguments.timeout,
        hosts=LOOPBACK | {host, *map(str.lower, arguments.allow_host)} if is_loopback or arguments.allow_host else None,
    )


def _port(text: str) -> int:
    number = int(text) if text.isdecimal() and len(text) < 6 else -1
    if not 0 <= number < 2**16:
        raise argparse.ArgumentTypeError(f"expected a port, 0 .. 65535, got {text!r}")
    return number


def add_commands(commands: Commands) -> None:
    """Add ``serve`` to the command line."""
    description = "Serve a codec over HTTP and WebSocket, with a page to try it."
    serve = commands.add("serve", run_serve, description, [commands.runs, commands.common])
    add_codec_arguments(serve, "of another library, not Silk")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s, this machine)")
    serve.add_argument("--port", type=_port, default=8000, help="default: %(default)s; 0 takes a free one")
    serve.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="name it may be called by, too"
    )
    serve.add_argument("--slots", type=positive, default=8, metavar="N", help="of the engine (default: %(default)s)")
    serve.add_argument(
        "--queue", type=positive, default=64, metavar="N", help="requests to wait (default: %(default)s)"
    )
    serve.add_argument(
        "--max-seconds", type=seconds, default=600.0, metavar="S", help="of a request's sound (default: %(default)g)"
    )
    serve.add_argument(
        "--max-bytes", type=positive, default=64 * 2**20, metavar="N", help="of a body (default: 64 MiB)"
    )
    serve.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="S", help="for body, answer, silence (default: %(default)g)"
    )
