"""Start the laboratory of `tests/support/lab`, and migrate domains in it without fastlib."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.lab.fleet import Fleet
    from tests.support.lab.host import Host

ROOT = Path(__file__).resolve().parents[1]


class NoLaboratoryError(Exception):
    """This machine cannot run a laboratory; the text has the reason and a remedy."""


def check() -> None:
    """Raise NoLaboratoryError if this machine cannot run a laboratory."""
    from tests.support.lab.requirements import missing

    absent = missing()
    if importlib.util.find_spec("libvirt") is None:
        absent.append(
            f"libvirt-python is not installed; as root: tests/support/lab/install {sys.executable}"
        )
    if absent:
        raise NoLaboratoryError("no laboratory on this machine: " + "; ".join(absent))


OPTIONS: Mapping[str, object] = {
    "migration": "peer-to-peer",
    "outgoing-migrations": 4,
    "incoming-migrations": 4,
}
"""The options of the daemons that differ from the defaults."""


@contextmanager
def fleet() -> Iterator["Fleet"]:
    """Bring up two hosts, a daemon on each, and a client outside.

    By default a daemon lets two domains leave and two arrive at once. Here it lets four, as virsh
    moves four at once, too. Other options have their defaults. Raises NoLaboratoryError.
    """
    check()
    from tests.support.lab.fleet import Fleet

    with (
        tempfile.TemporaryDirectory() as directory,
        Fleet(Path(directory), hosts=2, options=OPTIONS) as made,
    ):
        yield made


class Mover:
    """Moves domains away from a host without fastlib, by the process `movers` there."""

    def __init__(self, host: "Host", stack: ExitStack) -> None:
        self._process: subprocess.Popen[str] = stack.enter_context(
            host.popen(
                [sys.executable, "-m", f"{__package__}.movers"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert self._process.stdin is not None
        stack.callback(self._process.stdin.close)  # by which it ends
        if self._answer() != "ready":
            raise RuntimeError(f"nothing can be moved from {host.name}")

    def begin(
        self, how: str, destination: str, domains: Sequence[str], more: Sequence[str] = ()
    ) -> None:
        """Begin to move; `how` is a key of the table in `movers`, `more` are options of virsh."""
        order = json.dumps(
            {"how": how, "destination": destination, "domains": domains, "more": more}
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()

    def end(self) -> float:
        """Return the seconds, measured on the host."""
        seconds = self._answer()
        assert isinstance(seconds, float)
        return seconds

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a migration without fastlib failed; what it said is above")
        return json.loads(line)
