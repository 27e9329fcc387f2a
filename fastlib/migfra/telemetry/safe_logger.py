"""Loggers that raise nothing, also if handlers of other packages fail.

A handler that raises would otherwise end the coroutine that logs, and with it the daemon.
"""

import logging
from logging import Handler, Logger, LogRecord
from weakref import WeakSet

from fastlib.migfra.failures import describe

_reported: "WeakSet[Handler]" = WeakSet()
"""Handlers whose failure was logged."""


class SafeLogger(Logger):
    """A logger that calls every handler, also those behind one that raises."""

    def callHandlers(self, record: LogRecord) -> None:
        """Pass a record to the handlers of this logger and of its parents."""
        logger: Logger | None = self
        found = False
        while logger is not None:
            for handler in tuple(logger.handlers):
                found = True
                if record.levelno >= handler.level:
                    self._handle(handler, record)
            logger = logger.parent if logger.propagate else None
        if not found and logging.lastResort is not None:
            self._handle(logging.lastResort, record)

    def _handle(self, handler: Handler, record: LogRecord) -> None:
        try:
            handler.handle(record)
        except Exception as error:
            if handler not in _reported:
                _reported.add(handler)  # first, because the handler may also fail with this line
                self.error(
                    "the log handler %s failed and may lose lines: %s",
                    type(handler).__name__,
                    describe(error),
                )


def protect_loggers(prefix: str = "") -> None:
    """Make the existing loggers whose names begin with `prefix` safe. Subclasses stay as they are.

    A logger is created when a module is imported, which may be long before.
    """
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if type(logger) is Logger and name.startswith(prefix):
            logger.__class__ = SafeLogger
