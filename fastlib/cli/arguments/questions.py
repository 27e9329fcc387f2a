"""Options of the commands that ask, watch and forget daemons: hosts, times and formats."""

from collections.abc import Sequence
from typing import Any

from .values import host_name, seconds


def add_hosts_option(group: Any, use: str, default: str = "all daemons with a presence") -> None:
    """Add `--host`, which may be repeated; `use` says what is done with a host."""
    group.add_argument(
        "--host",
        metavar="HOST",
        dest="hosts",
        action="append",
        type=host_name,
        help=f"{use} this host; may be repeated (default: {default})",
    )


def add_timeout_option(group: Any, use: str, default: float | None = None) -> None:
    """Add `--timeout` in seconds; `use` says what ends after this time."""
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=default,
        help=use if default is None else f"{use} (default: {default:g})",
    )


def add_format_option(group: Any, text: str, choices: Sequence[str] = ("text", "json")) -> None:
    """Add `--format`, whose first choice is the default; `text` describes the choices."""
    group.add_argument(
        "--format", choices=choices, default=choices[0], help=f"{text} (default: {choices[0]})"
    )
