"""`fastlib forget`: remove the presence of a dead host's daemon from the broker."""

import argparse
import shlex
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from fastlib.cli.arguments.broker import add_broker_options, broker_arguments
from fastlib.cli.arguments.questions import add_timeout_option
from fastlib.cli.arguments.values import host_name
from fastlib.cli.connection import exit_status_of, open_client
from fastlib.cli.errors import FAILED, print_error
from fastlib.cli.host_search import FoundHost, find_hosts
from fastlib.display.text import age, printable
from fastlib.message import Query
from fastlib.message.node import Presence
from fastlib.message.topics import PRESENCE
from fastlib.transport.errors import RefusedError

if TYPE_CHECKING:
    from fastlib.client import MigfraClient

_EPILOG: Final = """\
examples:
  fastlib forget node07
  fastlib forget node07 node08
  fastlib forget node07 --force

A daemon that ends leaves its presence at the broker, which says 'offline', so a client knows that
its orders wait. The presence of a host that never comes back stays there, and 'fastlib query',
'fastlib log' and 'fastlib watch' list the host. This command deletes the presence.

It refuses if the presence says 'online', because the daemon probably runs. --force also deletes
such a presence, for example of a daemon that was killed while the broker was down. A running daemon
reports its presence again at once. Orders that wait at the broker for the daemon stay there.

The exit status is 0 if the presence of each host is deleted, 1 if that of one is not, 2 for wrong
usage or no broker, 3 if the broker has not confirmed it in time.
"""

ANSWER_SECONDS: Final = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s HOST [HOST ...] [--force] [OPTION ...]"
    parser.add_argument(
        "hosts", metavar="HOST", nargs="+", type=host_name, help="a host that is dead"
    )
    parser.add_argument("--force", action="store_true", help="also if its presence says online")
    add_timeout_option(
        parser,
        "how long to wait for the answer of a daemon that says that it is online, and for the "
        "broker's confirmation",
        ANSWER_SECONDS,
    )
    add_broker_options(parser)


def run(options: argparse.Namespace) -> int:
    return exit_status_of(options, partial(_run, options))


def _run(options: argparse.Namespace) -> int:
    with open_client(options) as client:
        return max([_forget(options, client, *found) for found in _find(options, client)])


def _find(options: argparse.Namespace, client: "MigfraClient") -> list[FoundHost]:
    """Return the hosts in the order of the arguments."""
    found = {host.name: host for host in find_hosts(client, options.hosts)}
    return [found[host] for host in dict.fromkeys(options.hosts)]


def _forget(
    options: argparse.Namespace,
    client: "MigfraClient",
    host: str,
    presence: Presence | None,
    refusal: RefusedError | None,
) -> int:
    """Delete the presence of one host, or print why not. Return the exit status."""
    if refusal is not None:
        print_error(options, f"{host}: {refusal}")
        return FAILED
    if presence is None:
        print_error(
            options,
            f"{host}: the broker has no presence of it, so there is nothing to forget; 'fastlib "
            "query' lists the hosts that have one",
        )
        return FAILED
    if presence.status == "online" and not options.force:
        print_error(options, f"{host}: {_why_not(options, client, host)}")
        return FAILED
    delivery = client.communicator.send(b"", PRESENCE(host), retain=True)
    delivery.wait(options.timeout)
    was = " ".join(filter(None, (presence.status, _since(presence))))
    back = ". A running daemon reports its presence again" if presence.status == "online" else ""
    print(printable(f"{host}: its presence is deleted; it was {was}{back}"))
    return 0


def _why_not(options: argparse.Namespace, client: "MigfraClient", host: str) -> str:
    """Return why the presence of an online host stays."""
    from fastlib.client import ClientError, NoResultError

    try:
        client.submit(host, Query(), timeout=options.timeout, expires=None).result()
    except NoResultError:
        return (
            f"its presence says online, but it has not answered within {options.timeout:g} s. "
            "Nothing is deleted; if the host is gone, add --force"
        )
    except ClientError:  # it has answered, even with another answer
        pass
    command = shlex.join(["fastlib", "quit", "--host", host, *broker_arguments(options)])
    return f"its daemon is online and answers, so nothing is deleted; stop it first: {command}"


def _since(presence: Presence) -> str:
    """Return for example `for 3 days (qemu, 1.0)`."""
    known = ", ".join(filter(None, (presence.hypervisor, presence.version)))
    about = f"({known})" if known else ""
    if presence.time is None or presence.status == "online":
        return about
    ago = age((datetime.now(UTC) - presence.time).total_seconds())
    return f"for {ago} {about}".rstrip()
