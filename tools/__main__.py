"""The command line of `./dev`."""

import argparse
import sys

from . import audit, checks, docs, environment, mutation, pictures, release, tiers

DESCRIPTION = """\
Check and test fastlib. It uses the active virtual environment, else .venv.

  ./dev check               style, types, import contracts, pages, wording; about one minute
  ./dev fix                 format all files and apply ruff's automatic corrections
  ./dev test [ARGS]         the fast tests in parallel; ARGS go to pytest
  ./dev test --compiled     the tests of codec and messages with a compiled fast reader
  ./dev test --all          what CI runs: the checks and all tests
  ./dev test --long         the nightly run: long series, random order, all interpreters,
                            coverage, mutation, vulnerabilities of packages
  ./dev coverage            coverage of the fast tests, compared with the floors
  ./dev mutation [TARGET]   mutation testing of the modules that decide
  ./dev docs                the site of the documents, in .cache/site
  ./dev docs serve          the site on a port of this host
  ./dev docs --write        renew the parts of docs/reference/ that are derived from declarations
  ./dev pictures            draw the pictures of the documents
  ./dev audit               known vulnerabilities of the locked packages, by pip-audit
  ./dev lab ARGS            the laboratory of several libvirt hosts
  ./dev lock                renew constraints.txt
  ./dev release VERSION     prepare a release: version, changelog, schemas, checks, packages

Set up an environment with: tests/run --install-only
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="./dev",
        usage="./dev COMMAND [ARGS]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (checks, tiers, docs, pictures, mutation, audit, environment, release):
        module.add_commands(commands)
    return parser


def main(arguments: list[str]) -> int:
    parser = make_parser()
    known, others = parser.parse_known_args(arguments)
    if others and not getattr(known, "takes_more", False):
        parser.error(f"unknown arguments: {' '.join(others)}")
    known.others = others
    status: int = known.run(known)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
