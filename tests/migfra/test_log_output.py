"""Log lines whose output fails are counted, and raise no error in the program."""

import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from fastlib import Start
from fastlib.migfra.telemetry.log_output import FileOutput, LogOutput, StreamOutput
from fastlib.migfra.telemetry.logs import JsonFormatter
from fastlib.migfra.telemetry.safe_logger import SafeLogger, protect_loggers
from tests.support.migfra.bench import Bench, Play


class Log:
    """A logger with one output, and the warnings of the output."""

    def __init__(self, output: FileOutput | StreamOutput) -> None:
        self.warnings: list[str] = []
        self.handler = LogOutput(output, on_fault=self.warnings.append)
        self._logger = logging.Logger("test")
        self._logger.addHandler(self.handler)

    def say(self, text: str, *values: object) -> None:
        self._logger.warning(text, *values)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs" / "log"


@pytest.fixture
def log(file: Path) -> Iterator[Log]:
    log = Log(FileOutput(file))
    yield log
    log.handler.close()


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def test_lines_are_lost_while_the_directory_is_removed(file: Path, log: Log) -> None:
    log.say("before")
    shutil.rmtree(file.parent)
    log.say("first")
    log.say("second")
    assert log.handler.lost == 2
    assert log.warnings == [
        f"the log {file} cannot be written: No such file or directory; lines are lost until it can "
        "be written again"
    ]
    file.parent.mkdir()
    log.say("after")
    log.say("later")
    notice, after, later = lines(file)
    assert notice.startswith("2 lines of the log were lost since ")
    assert notice.endswith(": No such file or directory")
    assert (after, later) == ("after", "later")


def test_moved_file_is_opened_anew(file: Path, log: Log) -> None:
    log.say("old")
    file.rename(file.with_name("log.1"))
    log.say("new")
    assert lines(file.with_name("log.1")) == ["old"]
    assert lines(file) == ["new"]
    assert log.warnings == []


def test_lines_go_to_the_moved_file_while_no_new_one_can_be_made(file: Path, log: Log) -> None:
    log.say("old")
    moved = file.with_name("log.1")
    file.rename(moved)
    file.mkdir()  # root may write everywhere, but not into a directory
    log.say("first")
    log.say("second")
    assert lines(moved) == ["old", "first", "second"]
    assert log.warnings == [
        f"the log {file} cannot be opened: Is a directory; the daemon continues to write to the "
        "file that was moved away"
    ]
    file.rmdir()
    log.say("new")
    new, notice = lines(file)
    assert new == "new"
    assert notice.endswith("Is a directory; 2 lines are in the file that was moved away")
    assert log.handler.lost == 0


def test_line_that_was_cut_short_is_followed_by_a_new_one(file: Path, log: Log) -> None:
    """The limit of the size of files acts like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log.say("0123456789")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
        log.say("cut short, since the disk is full")
        log.say("lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.say("after")
    first, torn, notice, after = lines(file)
    assert (first, torn, after) == ("0123456789", "cut s", "after")
    assert notice.startswith("2 lines of the log were lost since ")
    assert notice.endswith("File too large")


@pytest.mark.parametrize("opened", [None, "closed", "/dev/full"])
def test_blocked_standard_error_raises_no_error(opened: str | None) -> None:
    stream: Any = None
    if opened is not None:
        stream = open(os.devnull if opened == "closed" else opened, "w")  # noqa: SIM115
    if opened == "closed":
        stream.close()
    log = Log(StreamOutput(stream))
    log.say("lost")
    log.say("lost")
    assert log.handler.lost == 2
    assert len(log.warnings) == 1
    if stream is not None:
        stream.close()


def test_pipe_without_a_reader_costs_lines_only() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        log = Log(StreamOutput(stream))
        log.say("lost")
    assert log.warnings == [
        "the log standard error cannot be written: Broken pipe; lines are lost until it can be "
        "written again"
    ]


def test_unread_pipe_does_not_block_the_command() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        log = Log(StreamOutput(stream))
        count = 0
        while log.handler.lost < 3:
            log.say("a line of the log, number %d", count)
            count += 1
        left = b""
        while not left.endswith(f"number {count - 4}\n".encode()):
            left += os.read(reading, 65536)
        log.say("after")
    after = os.read(reading, 65536).decode().splitlines()
    os.close(reading)
    assert after[0].startswith("3 lines of the log were lost since ")
    assert after[1:] == ["after"]


def test_line_that_cannot_be_formatted_is_reported_in_its_place(file: Path, log: Log) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    log.say("%d domains", "many")
    log.say("%s", Broken())
    log.say("after \udcff")
    first, second, after = lines(file)
    assert first.startswith("'%d domains' cannot be formatted: TypeError")
    assert second == "'%s' cannot be formatted: RuntimeError: no text"
    assert after == "after \\udcff"
    assert log.handler.lost == 0


def test_notice_of_lost_lines_is_json_like_all_others(file: Path, log: Log) -> None:
    log.handler.setFormatter(JsonFormatter())
    log.say("before")
    shutil.rmtree(file.parent)
    log.say("lost")
    file.parent.mkdir()
    log.say("after")
    notice, after = map(json.loads, lines(file))
    assert notice["message"].startswith("1 lines of the log were lost")
    assert after["message"] == "after"


def test_lost_lines_are_reported_at_the_end(file: Path, log: Log) -> None:
    shutil.rmtree(file.parent)
    log.say("lost")
    log.handler.close()
    assert log.warnings[-1].startswith("1 lines of the log were lost")


class Raising(logging.Handler):
    """A handler of another package that raises for each record."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ConnectionError("the log server is away")


def test_handler_that_raises_harms_neither_caller_nor_other_handlers() -> None:
    stream = StringIO()
    logger = SafeLogger("test")
    logger.addHandler(Raising())
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("first")
    logger.warning("second")
    assert stream.getvalue().splitlines() == [
        "the log handler Raising failed and may lose lines: ConnectionError: the log server is "
        "away",
        "first",
        "second",
    ]


def test_subclasses_of_loggers_are_left_alone() -> None:
    class Own(logging.Logger):
        pass

    manager = logging.Logger.manager
    own, plain, other = Own("fastlib.x.own"), logging.Logger("fastlib.x.p"), logging.Logger("y.z")
    for logger in (own, plain, other):
        manager.loggerDict[logger.name] = logger
    try:
        protect_loggers("fastlib.x.")
        assert (type(own), type(plain), type(other)) == (Own, SafeLogger, logging.Logger)
    finally:
        for logger in (own, plain, other):
            del manager.loggerDict[logger.name]


def test_daemon_works_on_while_a_log_handler_raises(play: Play) -> None:
    """This also holds for a daemon in another program that has set up the log."""
    handler, logger = Raising(), logging.getLogger("fastlib.migfra")

    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        answer = await bench.ask(Start(vm_name="vm1"), "1")
        assert answer.results[0].status == "success"
        await daemon.close()
        assert daemon.failure is None

    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        play(scene)
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


def test_output_without_a_descriptor_gets_text() -> None:
    stream = StringIO()
    log = Log(StreamOutput(stream))
    log.say("text")
    assert stream.getvalue() == "text\n"


FORGETS_TO_AWAIT = """
import sys
from fastlib.migfra.telemetry.logs import set_up

set_up("info", "text", sys.argv[1], "node01")

async def sleep(): ...

sleep()
"""


def test_coroutine_that_a_plugin_does_not_await_is_logged(file: Path) -> None:
    """The test uses a separate process, because the log of a process is set up once."""
    done = subprocess.run(
        [sys.executable, "-c", FORGETS_TO_AWAIT, file], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert lines(file)[0].partition(" ")[2] == (
        "WARNING [node01 - -] <string>:9: RuntimeWarning: coroutine 'sleep' was never awaited"
    )
