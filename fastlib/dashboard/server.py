"""Serve the page by uvicorn."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from fastlib.codec.errors import FastlibError
from fastlib.extras import needs_extra

from .access import is_loopback
from .dashboard import Dashboard

with needs_extra("the dashboard", "uvicorn"):
    import uvicorn

    from .connections import BoundedProtocol

MAX_HEADERS: Final = 16 << 10
"""Maximum bytes of a request's headers."""
IDLE_SECONDS: Final = 5
CLOSE_SECONDS: Final = 2


class ServeError(FastlibError):
    """The server cannot listen, or its certificate cannot be used."""


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The address and the certificate of the server."""

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8073
    """The port; 0 means any free one."""
    certificate: Path | None = None
    """The server's certificate (PEM); without it, the page is served by HTTP."""
    key: Path | None = None
    """The certificate's key (PEM), if it is in a separate file."""

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine reach the server."""
        return is_loopback(self.host)


async def serve(
    dashboard: Dashboard,
    options: ServerOptions,
    *,
    on_listening: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve a dashboard until cancelled.

    `on_listening` gets the address of the page. Raises ServeError, and the errors of the client.
    """
    with _listen(options) as listening:
        server = _Server(_configuration(dashboard, options))
        port = listening.getsockname()[1]
        tasks = (
            asyncio.create_task(dashboard.run()),
            asyncio.create_task(server.serve(sockets=[listening])),
        )
        on_listening(_url(options, port))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            dashboard.close()
            server.should_exit = True
            tasks[0].cancel()
            await asyncio.wait(tasks)  # the server closes its connections
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise _first(error)


def _first(error: BaseException) -> BaseException:
    """Return the error that ended the others of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _listen(options: ServerOptions) -> socket.socket:
    try:
        family = socket.AF_INET
        with contextlib.suppress(ValueError):  # a name
            if ipaddress.ip_address(options.host).version == 6:
                family = socket.AF_INET6
        return socket.create_server((options.host, options.port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ServeError(
            f"cannot listen on {options.host} port {options.port}: {why}; choose another one by "
            "--listen ADDRESS:PORT"
        ) from error


def _configuration(dashboard: Dashboard, options: ServerOptions) -> uvicorn.Config:
    configuration = uvicorn.Config(
        dashboard.app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,  # the log must not have addresses of pages
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEADERS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=CLOSE_SECONDS,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )
    try:
        configuration.load()
    except (OSError, ssl.SSLError) as error:
        files = " and ".join(str(file) for file in (options.certificate, options.key) if file)
        raise ServeError(
            f"the certificate of the server, {files}, cannot be used: "
            f"{error.strerror or error}; expected PEM files of a certificate and its key"
        ) from error
    return configuration


def _url(options: ServerOptions, port: int) -> str:
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"{'https' if options.certificate else 'http'}://{host}:{port}/"


class _Server(uvicorn.Server):
    """Leaves signals to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
