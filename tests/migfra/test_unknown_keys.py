"""Unknown keys of orders: the daemon ignores them, and logs each of them once."""

import pytest

from fastlib.message import TaskContainer, load
from fastlib.migfra.tasks.unknown_keys import LONGEST_PATH, MOST_KEYS, UnknownKeyLog
from tests.support.migfra.bench import Bench, Play

ORDER = "task: start vm\nvm-configurations: [{vm-name: vm%d, memry: 3}]\nid: %d\n"
MIGRATE = "task: migrate vm\nvm-name: vm1\ndestination: b\nparameter: {migration-typ: offline}\n"


def report(log: UnknownKeyLog, text: str) -> None:
    ignored: list = []
    message = load(text, ignored=ignored)
    assert isinstance(message, TaskContainer)
    log.report(message, ignored)


def test_unknown_key_of_an_order_is_logged_once(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        for number in (1, 2):
            answer = await bench.ask(ORDER % (number, number))
            assert answer.results[0].status == "success"

    play(scene)
    found = [line for line in caplog.messages if "memry" in line]
    assert found == [
        "start vm has a key without an effect: line 2, column 36: vm-configurations[0].memry: "
        "unknown key, ignored by every peer (did you mean 'memory'?)"
    ]


def test_same_key_of_another_task_or_place_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = UnknownKeyLog()
    report(log, MIGRATE)
    report(log, MIGRATE)
    report(log, "migration-typ: offline\n" + MIGRATE)
    report(log, "{task: quit, migration-typ: offline}")
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "migrate vm has a key without an effect",
        "migrate vm has a key without an effect",
        "quit has a key without an effect",
    ]
    assert "(did you mean 'migration-type'?)" in caplog.messages[0]


def test_order_without_unknown_keys_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    report(UnknownKeyLog(), "{task: quit, id: x}")
    assert caplog.messages == []


def test_log_of_unknown_keys_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    log = UnknownKeyLog()
    for number in range(MOST_KEYS + 10):
        report(log, f"{{task: quit, key{number}: 1}}")
    assert len(caplog.messages) == MOST_KEYS
    caplog.clear()
    report(UnknownKeyLog(), f"{{task: quit, ? {'k' * 10_000} : 1}}")
    (line,) = caplog.messages
    assert len(line) < 2 * LONGEST_PATH
