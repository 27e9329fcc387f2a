"""The state of a process that a test must leave as it was, or later tests depend on their order.

With `--compare-state`, `tests/conftest.py` compares it before and after the tests of each file.
"""

import gc
import locale
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from fastlib.codec import extensions
from fastlib.message.registry import REGISTRY

LIMITS = ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NOFILE")
PACKAGES = ("fastlib", "fastlib_plugins", "tests", "benchmarks", "tools")


class GlobalState:
    """The state at one moment."""

    def __init__(self) -> None:
        self._parts = dict(_parts())
        self._modules = {
            name: dict(vars(module)) for name, module in _modules() if _package(name) == "fastlib"
        }

    def changes(self, after: "GlobalState") -> list[str]:
        """Return a line for each difference to a later state. Imports are none."""
        names = self._parts.keys() | after._parts.keys()
        found = [
            _change(name, self._parts.get(name), after._parts.get(name))
            for name in sorted(names)
            if self._parts.get(name) != after._parts.get(name)
        ]
        for name, old in self._modules.items():
            if name not in after._modules:
                found.append(f"{name} is no longer imported")
                continue
            new = after._modules[name]
            for key, value in old.items():
                if new.get(key) is not value and _is_constant(key, value):
                    found.append(f"{name}.{key} was {value!r} and is {new.get(key)!r}"[:400])
        return found


def _change(name: str, old: object, new: object) -> str:
    """Return a line for a difference. For a list it has only the items that came or went."""
    if isinstance(old, list) and isinstance(new, list):
        more = [item for item in new if item not in old]
        less = [item for item in old if item not in new]
        if more or less:
            return f"{name} has {more!r} more and lacks {less!r}"[:400]
    return f"{name} was {old!r} and is {new!r}"[:400]


def _parts() -> Iterator[tuple[str, object]]:
    """Yield the parts of the state with the words that describe them."""
    yield "the working directory", os.getcwd()
    yield "the umask", _umask()
    yield "the niceness", os.getpriority(os.PRIO_PROCESS, 0)
    yield "the set of blocked signals", signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield "sys.path", list(sys.path)
    yield "sys.argv", list(sys.argv)
    # Without that of six, which it adds when a package such as amqtt imports it.
    yield "sys.meta_path", [each for each in sys.meta_path if type(each).__module__ != "six"]
    yield "sys.excepthook", sys.excepthook
    yield "threading.excepthook", threading.excepthook
    yield "the limit of recursion", sys.getrecursionlimit()
    yield "the switch interval", sys.getswitchinterval()
    yield "whether cyclic garbage is collected", (gc.isenabled(), gc.get_threshold())
    yield "whether memory is traced", tracemalloc.is_tracing()
    yield "the default timeout of sockets", socket.getdefaulttimeout()
    yield "the folder of temporary files", tempfile.tempdir
    yield "the time zone", time.tzname
    yield "the locale", locale.setlocale(locale.LC_ALL)
    yield "the level that logging.disable has set", logging.root.manager.disable
    yield "the registered messages of others", _others(REGISTRY.messages.values())
    yield "the registered titles of others", _others(REGISTRY.titles.values())
    yield (
        "the registered extensions",
        {cls: own for cls, (_, own) in extensions.snapshot().items() if own},
    )
    yield "the loaded entry points", dict(REGISTRY.loaded_entry_points)
    for name, value in os.environ.items():
        if name != "PYTEST_CURRENT_TEST":
            yield f"the variable {name}", value
    for number in signal.Signals:
        yield f"the handler of {number.name}", signal.getsignal(number)
    for name in LIMITS:
        yield name, resource.getrlimit(getattr(resource, name))
    for name, logger in _loggers():
        if (settings := _settings(logger)) is not None:
            yield f"the logger {name}", settings
    for name, module in _modules():
        place, _, child = name.rpartition(".")
        held = vars(sys.modules[place]).get(child) if place in sys.modules else None
        # Else two forms of an import find different classes.
        if isinstance(held, ModuleType) and held is not module:
            yield f"the attribute of {place}, which is another module than {name}", held


def _is_constant(name: str, value: object) -> bool:
    """Return whether a module never changes this itself, as it does a function that imports one."""
    if getattr(value, "__name__", "").startswith("_import_"):
        return False
    return name.isupper() or callable(value)


def _others(types: Iterable[type]) -> list[type]:
    """Return the types without those of fastlib, which some modules add when they are imported."""
    return [each for each in types if _package(each.__module__) != "fastlib"]


def _umask() -> str:
    """Return the umask. `os.umask` would change it for a moment, for all threads."""
    status = Path("/proc/self/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("Umask:"))


def _loggers() -> Iterator[tuple[str, logging.Logger]]:
    """Yield the loggers whose settings are not a matter of other packages."""
    yield "root", logging.root
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and _package(name) in PACKAGES:
            yield name, logger


def _settings(logger: logging.Logger) -> object:
    """Return the settings of a logger, or None if they are those of a new one."""
    handlers = [each for each in logger.handlers if _package(type(each).__module__) != "_pytest"]
    settings = logger.level, logger.propagate, logger.disabled, handlers, list(logger.filters)
    return None if settings == (logging.NOTSET, True, False, [], []) else settings


def _modules() -> Iterator[tuple[str, ModuleType]]:
    for name, module in list(sys.modules.items()):
        if _package(name) in PACKAGES and isinstance(module, ModuleType):
            yield name, module


def _package(module: str) -> str:
    return module.partition(".")[0]
