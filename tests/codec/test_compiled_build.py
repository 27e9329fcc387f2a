"""Properties that must be the same with the compiled fast reader and with the pure one.

`./dev test --compiled` runs all tests of codec and messages with the compiled one. These tests
are about properties that a compiler may change: the stack, threads, Python's own errors, and
introspection.
"""

import copy
import inspect
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastlib import MessageError, ResultContainer, Start, TaskContainer
from fastlib.codec import DEFAULT_LIMITS, fast_reader, fast_values, is_compiled, shape_of
from fastlib.codec.fast_reader import UNSUPPORTED, read_fast

TEXT = """\
task: start vm
vm-configurations:
  - vm-name: vm1
    vcpus: 4
    memory: 1024
    vcpu-map: [[0, 1], [2, 3]]
  - vm-name: "v\\tm2"
    vcpus: 1
    memory: 1024
    pci-ids:
      - vendor: 0x15b3
        device: 0x1004
id: one
"""


def test_build_that_was_asked_for_is_tested() -> None:
    expected = os.environ.get("FASTLIB_TESTED_BUILD", "pure Python") == "compiled"
    assert is_compiled() is expected
    for module in (fast_reader, fast_values):
        assert module.__file__ is not None
        assert module.__file__.endswith(".py") is not expected


@pytest.mark.parametrize(
    "text",
    [
        "task: start vm\nvm-configurations:\n  - vcpu-map: " + "[" * 99999,
        *(f"task: start vm\nvm-configurations:\n{many}" for many in ("  - " * 9999, " -" * 9999)),
        "".join(f"{' ' * n}task:\n" for n in range(999)),
        "task: stop vm\nlist:\n" + "".join(f"{' ' * n}-\n" for n in range(999)),
        "task: stop vm\nlist: " + "{list: " * 9999,
        "task: stop vm\nlist:\n  - vm-name: '" + "'" * 99998,
        'task: stop vm\nlist:\n  - vm-name: "' + "\\" * 99999,
        "task: stop vm\nlist:\n  - vm-name: |\n" + "".join(f"{' ' * n}x\n" for n in range(999)),
    ],
    ids=lambda text: text[-60:-50].strip(),
)
def test_deep_or_long_text_is_refused_by_error(text: str) -> None:
    with pytest.raises(MessageError):
        TaskContainer.from_yaml(text)


def test_little_stack_is_enough_or_recursion_error() -> None:
    expected = TaskContainer.from_yaml(TEXT)
    outcomes = set()

    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        elif TaskContainer.from_yaml(TEXT) == expected:
            outcomes.add("read")

    for free in range(60):
        try:
            descend(sys.getrecursionlimit() - len(inspect.stack(0)) - free)
        except RecursionError:
            outcomes.add("RecursionError")
    assert outcomes == {"read", "RecursionError"}
    assert TaskContainer.from_yaml(TEXT) == expected


def test_threads_with_little_stack_read_at_once() -> None:
    expected = TaskContainer.from_yaml(TEXT)
    before = threading.stack_size(256 * 1024)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(TaskContainer.from_yaml, [TEXT] * 200))
    finally:
        threading.stack_size(before)
    assert all(container == expected for container in found)


def test_read_message_is_pickled_copied_and_compared() -> None:
    found = TaskContainer.from_yaml(TEXT)
    assert read_fast(shape_of(TaskContainer), TEXT, DEFAULT_LIMITS) == found
    assert pickle.loads(pickle.dumps(found)) == found == copy.deepcopy(found)
    first = found.tasks[0]
    assert isinstance(first, Start)
    assert (type(first.vcpu_map), type(first.vm_name)) == (tuple, str)
    assert first == Start(vm_name="vm1", vcpus=4, memory=1024, vcpu_map=[[0, 1], [2, 3]])


def test_subclass_of_text_is_read() -> None:
    class Text(str):
        pass

    assert TaskContainer.from_yaml(Text(TEXT)) == TaskContainer.from_yaml(TEXT)


def test_wrong_argument_raises_type_error() -> None:
    for wrong in (1, None, ["task: quit"]):
        with pytest.raises(TypeError, match="a message is read from str or bytes, not from"):
            TaskContainer.from_yaml(wrong)  # type: ignore[arg-type]


def test_error_has_same_words_and_place() -> None:
    with pytest.raises(MessageError) as caught:
        ResultContainer.from_yaml("result: vm started\nlist:\n  - vm-name: a\n    status: sucess\n")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.path) == (4, 13, "list[0].status")
    assert problem.suggestion == "success"
    assert "fast_reader" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_reader_has_name_and_signature() -> None:
    assert read_fast(shape_of(TaskContainer), "task: [", DEFAULT_LIMITS) is UNSUPPORTED
    assert (read_fast.__module__, read_fast.__name__) == ("fastlib.codec.fast_reader", "read_fast")
    assert list(inspect.signature(read_fast).parameters) == ["shape", "text", "limits"]
    read_by_keyword = read_fast(shape=shape_of(TaskContainer), text=TEXT, limits=DEFAULT_LIMITS)
    assert read_by_keyword == TaskContainer.from_yaml(TEXT)
