"""`fastlib broker`: run an MQTT broker for experiments."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any, Final

from fastlib.cli.errors import print_error
from fastlib.cli.interrupts import interrupts_raised
from fastlib.display.text import printable
from fastlib.extras import MissingExtraError
from fastlib.transport import (
    EmbeddedBroker,
    MosquittoBroker,
    MosquittoMissingError,
    OptionsError,
    TransportError,
)

_EPILOG: Final = """\
examples:
  fastlib broker
  fastlib broker --port 0
  fastlib broker --directory ~/cluster/broker --host 192.168.1.5

It is mosquitto if that is installed: MQTT 3.1.1 and 5. Messages that wait for a client survive the
end of the broker, in the folder that the second line names. Otherwise it is amqtt, in Python: MQTT
3.1.1 only, and it loses all messages when it ends. docs/how-to/brokers.md compares the two.

It is for experiments, not for production: it requires no password, and has no TLS. So it listens
only on this machine, unless --host gives another address (with mosquitto).

The first line on standard output, 'listening on HOST:PORT', comes when clients can connect.
mosquitto's log goes to standard error. Ctrl-C and SIGTERM end the broker, with exit status 0. The
exit status is 2 if it cannot listen there, or if mosquitto ends otherwise.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--port", type=int, default=1883, help="0 is any free one (default: 1883)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address of this machine; 0.0.0.0 is all of them (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--directory",
        metavar="FOLDER",
        type=Path,
        help="where mosquitto keeps messages (default: fastlib/broker-PORT in XDG_STATE_HOME or "
        "~/.local/state; for --port 0 a temporary folder)",
    )
    parser.add_argument(
        "--server",
        choices=("mosquitto", "amqtt"),
        help="which broker (default: mosquitto if it is installed, else amqtt)",
    )
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    _log_warnings()
    try:
        with interrupts_raised(), _broker(options) as broker:
            print(f"listening on {broker.address}")
            print(_about(broker), flush=True)
            broker.wait()
    except KeyboardInterrupt:
        return 0
    except (TransportError, MissingExtraError) as error:
        print_error(options, printable(str(error)))
        return 2
    return 0


def _broker(options: argparse.Namespace) -> MosquittoBroker | EmbeddedBroker:
    """Return the broker. Raises OptionsError, MosquittoMissingError and MissingExtraError."""
    missing: MosquittoMissingError | None = None
    if options.server != "amqtt":
        try:
            return MosquittoBroker(
                options.host, options.port, directory=options.directory, on_log=_print_log
            )
        except MosquittoMissingError as error:
            if options.server == "mosquitto":
                raise
            missing = error
    if options.directory is not None:
        why = "" if missing is None else f", and {missing}"
        raise OptionsError(f"amqtt stores nothing, so it does not support --directory{why}")
    try:
        return EmbeddedBroker(options.host, options.port)
    except MissingExtraError as error:
        if missing is None:
            raise
        raise OptionsError(f"{missing}; or install amqtt: {error.install}") from error
    except OptionsError as error:
        if missing is None:
            raise
        raise OptionsError(f"{error} ({missing})") from error


def _about(broker: MosquittoBroker | EmbeddedBroker) -> str:
    """Return a line with the facts that a user must know about the broker."""
    if isinstance(broker, EmbeddedBroker):
        return (
            "amqtt, for experiments, not for production: MQTT 3.1.1 only, no passwords, this "
            "machine only; it forgets messages and sessions when it ends, and a message that its "
            "receiver has not acknowledged when a connection ends; Ctrl-C ends it"
        )
    place = printable(str(broker.directory))
    kept = f"messages are kept in {place}"
    if not broker.keeps_messages:
        kept = f"messages are in {place}, which is deleted at the end (--directory keeps them)"
    who = "this machine only"
    if broker.is_reachable_from_outside:
        who = "EVERY PROGRAM THAT REACHES THIS ADDRESS CAN SEND ORDERS"
    return f"mosquitto, for experiments, not for production: no passwords, {who}; {kept}; " + (
        "Ctrl-C ends it"
    )


def _print_log(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def _log_warnings() -> None:
    """Print the broker's warnings, such as that it refuses a client, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLineFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


class _OneLineFormatter(logging.Formatter):
    """Formats an exception as its name and text, without a traceback."""

    def formatException(self, ei: Any) -> str:
        return f"  {ei[0].__name__}: {ei[1]}"
