"""The comparison of the process before and after the tests of a file."""

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

import fastlib.transport
from fastlib.transport import backoff
from tests.support.declarations import declare
from tests.support.global_state import GlobalState


@contextlib.contextmanager
def umask() -> Iterator[None]:
    before = os.umask(0o123)
    yield
    os.umask(before)


@contextlib.contextmanager
def ignored_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def level_of_a_logger() -> Iterator[None]:
    logger = logging.getLogger("fastlib.transport")
    before = logger.level
    logger.setLevel(logging.DEBUG if before != logging.DEBUG else logging.INFO)
    yield
    logger.setLevel(before)


@contextlib.contextmanager
def default_timeout() -> Iterator[None]:
    socket.setdefaulttimeout(600)
    yield
    socket.setdefaulttimeout(None)


@contextlib.contextmanager
def garbage() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@contextlib.contextmanager
def patch(place: str | object, name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(place, name, value)
        yield


@contextlib.contextmanager
def variable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("FASTLIB_LEFT_BEHIND", "1")
        yield


@contextlib.contextmanager
def module_imported_anew() -> Iterator[None]:
    """The package holds the old module, `sys.modules` a new one."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(sys.modules, backoff.__name__, ModuleType(backoff.__name__))
        yield


CHANGES: list[tuple[str, Callable[[], contextlib.AbstractContextManager[object]]]] = [
    ("the working directory was", lambda: contextlib.chdir("/")),
    ("the umask was", umask),
    ("the variable FASTLIB_LEFT_BEHIND was None and is '1'", variable),
    ("the handler of SIGUSR1 was", ignored_signal),
    ("the logger fastlib.transport was", level_of_a_logger),
    ("the default timeout of sockets was None and is 600", default_timeout),
    ("whether cyclic garbage is collected was", garbage),
    ("sys.path has ['/left'] more and lacks []", lambda: patch(sys, "path", [*sys.path, "/left"])),
    ("sys.path was", lambda: patch(sys, "path", sys.path[::-1])),
    ("threading.excepthook was", lambda: patch(threading, "excepthook", print)),
    (
        "fastlib.transport.backoff.QUICK_RESETS was 10 and is 3",
        lambda: patch(backoff, "QUICK_RESETS", 3),
    ),
    ("fastlib.transport.connect was", lambda: patch(fastlib.transport, "connect", print)),
    (
        "the attribute of fastlib.transport, which is another module than "
        "fastlib.transport.backoff was",
        module_imported_anew,
    ),
]


@pytest.mark.parametrize(("words", "change"), CHANGES, ids=[words for words, _ in CHANGES])
def test_change_is_named(
    words: str, change: Callable[[], contextlib.AbstractContextManager[object]]
) -> None:
    before = GlobalState()
    assert before.changes(GlobalState()) == []
    with change():
        found = before.changes(GlobalState())
    assert any(line.startswith(words) for line in found), found
    assert before.changes(GlobalState()) == []


@pytest.mark.usefixtures("isolated_registry")
def test_declared_message_is_named() -> None:
    before = GlobalState()
    declare({"size": str}, task="left", result="left behind", layout="inline")
    found = before.changes(GlobalState())
    words = "the registered messages of others has [<class '"
    assert any(line.startswith(words) and "Broken" in line for line in found), found


class _SixMetaPathImporter:
    """As six has one."""

    __module__ = "six"


@pytest.mark.parametrize(("finder", "is_named"), [(_SixMetaPathImporter(), False), (print, True)])
def test_finder_is_named_unless_an_import_of_six_adds_it(finder: object, is_named: bool) -> None:
    before = GlobalState()
    with patch(sys, "meta_path", [*sys.meta_path, finder]):
        assert bool(before.changes(GlobalState())) is is_named
