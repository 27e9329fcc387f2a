"""Ctrl-C and SIGTERM: raised between drawings, and once."""

import io
import signal
from datetime import datetime

import pyte
import pytest

from fastlib.cli.interrupts import Interrupted, drawing, interrupts_raised
from fastlib.cli.output.cluster_table import ClusterTable
from fastlib.client import ObservedMessage
from fastlib.display.cluster_state import ClusterState
from fastlib.message import TaskContainer

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handler_is_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_is_raised_with_its_name(number):
    with pytest.raises(Interrupted) as raised, interrupts_raised():
        signal.raise_signal(number)
    assert raised.value.signal_name == number.name


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_waits_for_the_end_of_the_outer_drawing(number):
    done = []

    def draw() -> None:
        with interrupts_raised():
            with drawing():
                with drawing():
                    signal.raise_signal(number)
                done.append("inner")
            done.append("after it")

    with pytest.raises(Interrupted) as raised:
        draw()
    assert raised.value.signal_name == number.name
    assert done == ["inner"]


def test_second_signal_ends_a_drawing_that_hangs():
    def draw() -> None:
        with interrupts_raised(), drawing():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("the second signal was held")

    with pytest.raises(Interrupted):
        draw()


def test_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_raised():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def observed(id: str) -> ObservedMessage[TaskContainer]:
    message = TaskContainer.from_yaml(f"{{task: stop vm, list: [{{vm-name: vm1}}], id: {id}}}")
    now = datetime.now().astimezone()
    return ObservedMessage(
        host="hostA", topic="fast/migfra/hostA/task", time=now, payload=b"-", message=message
    )


class Terminal(io.StringIO):
    """A terminal whose user presses Ctrl-C the moment it has shown a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._pressed = False

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        if self._text in self.getvalue() and not self._pressed:
            self._pressed = True
            signal.raise_signal(signal.SIGINT)

    def lines(self) -> list[str]:
        screen = pyte.Screen(80, 40)
        pyte.Stream(screen).feed(self.getvalue().replace("\n", "\r\n"))
        return [line.rstrip() for line in screen.display if line.strip()]


def test_frame_is_on_the_screen_once_after_interrupt(monkeypatch):
    terminal = Terminal("s2")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout", terminal)
    table = ClusterTable(ClusterState())

    def watch() -> None:
        with interrupts_raised(), table:
            for id in ("s1", "s2", "s3"):
                table.state.add(observed(id))
                table.show()

    with pytest.raises(Interrupted):
        watch()
    lines = terminal.lines()
    assert [line for line in lines if line == "hosts"] == ["hosts"]
    assert sum("s2" in line for line in lines) == 1
    assert not any("s3" in line for line in lines)
    assert terminal.getvalue().rindex("\033[?25h") > terminal.getvalue().rindex("\033[?25l")
