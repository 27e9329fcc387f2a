"""The daemon ignores unknown keys and further documents of orders, and logs them."""

import pytest

from fastlib.message import TaskContainer, load
from fastlib.migfra.tasks.ignored_parts import LONGEST_PATH, MOST_KEYS, IgnoredPartsLog
from tests.support.migfra.bench import Bench, Play

ORDER = "task: start vm\nvm-configurations: [{vm-name: vm%d, memry: 3}]\nid: %d\n"
MIGRATE = "task: migrate vm\nvm-name: vm1\ndestination: b\nparameter: {migration-typ: offline}\n"


def report(log: IgnoredPartsLog, text: str) -> None:
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
    log = IgnoredPartsLog()
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
    report(IgnoredPartsLog(), "{task: quit, id: x}")
    assert caplog.messages == []


def test_log_of_unknown_keys_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    log = IgnoredPartsLog()
    for number in range(MOST_KEYS + 10):
        report(log, f"{{task: quit, key{number}: 1}}")
    assert len(caplog.messages) == MOST_KEYS
    caplog.clear()
    report(IgnoredPartsLog(), f"{{task: quit, ? {'k' * 10_000} : 1}}")
    (line,) = caplog.messages
    assert len(line) < 2 * LONGEST_PATH


def test_second_document_of_an_order_is_logged_each_time(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    order = "---\ntask: query node\nid: first%d\n---\ntask: query node\nid: second\n---"

    async def scene(bench: Bench) -> None:
        await bench.daemon()
        for number in (1, 2):
            answer = await bench.ask(order % number)
            assert answer.id == f"first{number}"

    play(scene)
    assert [line for line in caplog.messages if "document" in line] == 2 * [
        "the message of query node has more than one document: line 5, column 1: a second document "
        "begins here, which every peer ignores; send each message separately"
    ]


def test_second_document_is_logged_beside_unknown_keys(caplog: pytest.LogCaptureFixture) -> None:
    log = IgnoredPartsLog()
    for _ in range(2):
        report(log, "{task: quit, a: b}\n--- {task: quit}")
    key, *documents = caplog.messages
    assert key.startswith("quit has a key without an effect: ")
    assert documents == 2 * [documents[0]]
    assert "more than one document: line 2, column 5: " in documents[0]
