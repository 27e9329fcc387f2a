"""`fastlib dashboard`: serve a web page of the cluster."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastlib.cli.arguments.broker import add_broker_options, mqtt_options
from fastlib.cli.connection import exit_status_of, with_remedy
from fastlib.cli.output.logs import logs_on_stderr
from fastlib.cli.output.terminal import flush_output, is_terminal
from fastlib.display.text import printable
from fastlib.transport.broker_url import address_text

if TYPE_CHECKING:
    from fastlib.dashboard import Access, ServerOptions

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8073

_EPILOG: Final = """\
examples:
  fastlib dashboard
  fastlib dashboard --tasks --listen 127.0.0.1:8080
  fastlib dashboard --listen 10.0.0.5 --token-file /etc/fast/dashboard.token

The page shows the hosts with their load and their VMs, the running tasks with their progress, the
last results, and the history of each VM. It changes nothing. The first line on standard output is
its address. docs/how-to/dashboard.md has the access list that it needs at the broker.

On 127.0.0.1 every program of this machine may read the page. On every other address a token is
required: that of --token-file, or one that is printed if standard output is a terminal.

Ctrl-C and SIGTERM end it, with exit status 0. The exit status is 2 for wrong usage, no broker, or
an address on which it cannot listen.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s [--listen ADDRESS[:PORT]] [--token-file FILE] [OPTION ...]"
    server = parser.add_argument_group("the server")
    server.add_argument(
        "--listen",
        metavar="ADDRESS[:PORT]",
        type=_address,
        default=(DEFAULT_HOST, DEFAULT_PORT),
        help="address of this machine to listen on; port 0 is any free one (default: "
        f"{DEFAULT_HOST}:{DEFAULT_PORT})",
    )
    server.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help="file whose first line is the token that readers need; a missing file is created "
        "with a new token",
    )
    server.add_argument(
        "--name",
        metavar="NAME",
        dest="names",
        action="append",
        default=[],
        help="a further host name under which browsers reach the page; may be repeated",
    )
    server.add_argument(
        "--server-certificate",
        metavar="FILE",
        type=Path,
        help="certificate (PEM) to serve the page by HTTPS",
    )
    server.add_argument(
        "--server-key", metavar="FILE", type=Path, help="the key (PEM) of that certificate"
    )
    group = parser.add_argument_group("the cluster")
    group.add_argument(
        "--tasks",
        action="store_true",
        help="also read the tasks that schedulers send: they have the destinations of "
        "migrations and the tasks of C++ daemons; their XML, which the "
        "page does not show, may have passwords",
    )
    group.add_argument(
        "--no-queries",
        action="store_true",
        help="send nothing to daemons; then the page shows no load, VMs and histories",
    )
    add_broker_options(parser)


def _address(text: str) -> tuple[str, int]:
    """Return the host and the port of ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT."""
    host, colon, port = text, "", ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            host = ""
    elif text.count(":") == 1:
        host, colon, port = text.partition(":")
    number = DEFAULT_PORT if not colon else int(port) if port.isascii() and port.isdigit() else -1
    if not host or not 0 <= number < 65536:
        raise argparse.ArgumentTypeError(
            f"expected ADDRESS or ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080; got {text!r}"
        )
    return host, number


def run(options: argparse.Namespace) -> int:
    if options.server_key and not options.server_certificate:
        options.parser.error("--server-key belongs to --server-certificate, which is missing")

    def work() -> int:
        from fastlib.dashboard import ServerOptions

        server = ServerOptions(
            host=options.listen[0],
            port=options.listen[1],
            certificate=options.server_certificate,
            key=options.server_key,
        )
        access, generated = _access(options, server)
        with logs_on_stderr(options, lambda record: record.name.startswith("fastlib")):
            return asyncio.run(_serve(options, server, access, generated))

    return exit_status_of(options, work)


def _access(options: argparse.Namespace, server: "ServerOptions") -> "tuple[Access, str | None]":
    """Return the access rules of the page, and the token to print. Raises AccessError."""
    from fastlib.dashboard.access import Access, AccessError, new_token, read_token

    token = generated = None
    if options.token_file is not None:
        token = read_token(options.token_file)
    elif not server.is_loopback:
        if not is_terminal(sys.stdout):
            raise AccessError(
                f"a page on {server.host} needs a token: give --token-file FILE; a missing "
                "file is created with a new token"
            )
        token = generated = new_token()
    secure = server.certificate is not None
    return Access(token, names=[*options.names, server.host], secure=secure), generated


async def _serve(
    options: argparse.Namespace, server: "ServerOptions", access: "Access", generated: str | None
) -> int:
    from fastlib.client import AsyncMigfraClient
    from fastlib.dashboard import Dashboard, serve
    from fastlib.transport import ConnectError

    mqtt = mqtt_options(options)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    def announce(url: str) -> None:
        print(f"dashboard at {printable(url)}")
        if generated is not None:
            print(f"the token to log in: {generated}")
        flush_output()

    async def show() -> None:
        try:
            client = await AsyncMigfraClient.connect(mqtt, connect_timeout=options.connect_timeout)
        except ConnectError as error:
            raise with_remedy(error, mqtt, options) from error
        async with client:
            dashboard = Dashboard(
                client,
                access,
                title=" or ".join(address_text(*broker) for broker in mqtt.brokers),
                queries=not options.no_queries,
                tasks=options.tasks,
            )
            await serve(dashboard, server, on_listening=announce)

    showing = asyncio.create_task(show())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait((showing, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not showing.done():
        showing.cancel()
        await asyncio.wait((showing,))
    if not showing.cancelled():
        showing.result()
    return 0
