"""Ctrl-C and SIGTERM in commands: SIGTERM acts like Ctrl-C, and neither cuts a drawing in two."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal has ended the command."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal_name = signal.Signals(number).name


class _Interrupts:
    """The handler of the signals, and the first one that waits for the end of a drawing."""

    def __init__(self) -> None:
        self.drawings = 0
        """Drawings that are open; one may contain another."""
        self.waiting: int | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.drawings and self.waiting is None:
            self.waiting = number  # a second one ends a drawing that hangs
        else:
            raise Interrupted(number)


_interrupts = _Interrupts()


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Raise `Interrupted` in the block on Ctrl-C and SIGTERM, but only between drawings.

    Works in the main thread only. A signal that the process ignores stays ignored.
    """
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, _interrupts.handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def drawing() -> Iterator[None]:
    """Let an interrupt wait until the block has ended.

    rich writes a frame and then empties its buffer: an interrupt between them writes it twice.
    """
    _interrupts.drawings += 1
    try:
        yield
    finally:
        _interrupts.drawings -= 1
        if not _interrupts.drawings and _interrupts.waiting is not None:
            number, _interrupts.waiting = _interrupts.waiting, None
            raise Interrupted(number)
