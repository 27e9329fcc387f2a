"""Print the library's log on standard error, in the form of the command's own messages."""

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastlib.cli.errors import print_error


class StderrHandler(logging.Handler):
    """Prints warnings and errors, one line each, without characters that control a terminal."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(logging.WARNING)
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        print_error(self._options, text, record.levelname.lower())


@contextmanager
def logs_on_stderr(
    options: argparse.Namespace, accept: Callable[[logging.LogRecord], bool]
) -> Iterator[None]:
    """In the block, print only those of the library's warnings that `accept` accepts."""
    logger = logging.getLogger("fastlib")
    handler = StderrHandler(options)
    handler.addFilter(accept)
    before = logger.propagate, logger.handlers[:]
    logger.propagate, logger.handlers[:] = False, [handler]
    try:
        yield
    finally:
        logger.propagate, logger.handlers[:] = before
