"""`./dev mutation`: mutation testing of the modules that decide."""

import argparse
import sys
from typing import Any


def mutation(_: argparse.Namespace) -> int:
    sys.exit("dev: mutation testing is not set up yet")


def add_commands(commands: Any) -> None:
    parser = commands.add_parser("mutation", help="mutation testing of the modules that decide")
    parser.add_argument("target", nargs="?")
    parser.set_defaults(run=mutation)
