"""`fastlib broker`: run an MQTT broker for experiments."""

import argparse
import logging
import signal
from typing import Any

from fastlib.cli.errors import print_error
from fastlib.extras import MissingExtraError
from fastlib.transport import EmbeddedBroker, TransportError

_EPILOG = """\
examples:
  fastlib broker
  fastlib broker --port 0

It is for trying things out, not for production: it asks nobody for a password, speaks MQTT 3.1.1
without TLS, and forgets everything when it ends. So it listens on this machine only, and there is
no option to change that; docs/transport.md says what else it lacks beside a broker like mosquitto.

The first line on standard output, 'listening on HOST:PORT', comes when clients can connect. Ctrl-C
and SIGTERM end it, with exit status 0. The exit status is 2 if it cannot listen there.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument("--port", type=int, default=1883, help="0 is any free one (default: 1883)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="which loopback address (default: 127.0.0.1)"
    )
    parser.set_defaults(parser=parser)


def run(options: argparse.Namespace) -> int:
    _log_warnings()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    try:
        with EmbeddedBroker(options.host, options.port) as broker:
            print(f"listening on {broker.address}")
            print(
                "for trying things out, not for production: no passwords, nothing is kept, this "
                "machine only; Ctrl-C ends it",
                flush=True,
            )
            broker.wait()
    except KeyboardInterrupt:
        return 0
    except (TransportError, MissingExtraError) as error:
        print_error(options, str(error))
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _log_warnings() -> None:
    """Print the broker's warnings, such as that it refuses a client, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLineFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


class _OneLineFormatter(logging.Formatter):
    """Formats an exception as its name and text, without a traceback."""

    def formatException(self, ei: Any) -> str:
        return f"  {ei[0].__name__}: {ei[1]}"
