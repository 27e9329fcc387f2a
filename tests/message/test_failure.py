"""`raise_for_status`: results that failed become an error that names all that is known."""

import copy
import pickle

import pytest

from fastlib import (
    FastlibError,
    Query,
    Result,
    ResultContainer,
    Start,
    Suspend,
    Task,
    TaskContainer,
    TaskFailedError,
)
from fastlib.codec import DeclarationError
from fastlib.message.node import NodeReport, NodeResult

GOOD = Result(vm_name="vm1", status="success", details="2 retries")
BAD = Result(vm_name="vm2", status="error", details="no such domain")


def test_success_is_returned_unchanged() -> None:
    assert GOOD.raise_for_status() is GOOD
    answer = ResultContainer(result="vm started", results=[GOOD, GOOD])
    assert answer.raise_for_status() is answer
    assert answer.raise_for_status(host="hostA") is answer


def test_answer_without_results_is_not_a_failure() -> None:
    ResultContainer(result="vm started", results=[]).raise_for_status()


def test_error_of_a_result_has_its_facts() -> None:
    with pytest.raises(TaskFailedError) as caught:
        BAD.raise_for_status(host="hostA")
    error = caught.value
    assert isinstance(error, FastlibError)
    assert (error.vm_name, error.status, error.details) == ("vm2", "error", "no such domain")
    assert (error.host, error.task, error.id, error.total) == ("hostA", None, None, 1)
    assert error.failed == (BAD,)
    assert str(error) == "the task of vm2 on 'hostA' has the status error: no such domain"


def test_error_without_host_and_details() -> None:
    with pytest.raises(TaskFailedError) as caught:
        Result(vm_name="vm2", status="error").raise_for_status()
    assert str(caught.value) == ("the task of vm2 has the status error: the answer has no details")


def test_error_of_a_container_has_all_that_failed() -> None:
    container = TaskContainer(tasks=[Start(vm_name=f"vm{n}") for n in range(3)], id="mine")
    also = Result(vm_name="vm3", status="error", details="no room")
    answer = ResultContainer.answer(container, [GOOD, BAD, also])
    with pytest.raises(TaskFailedError) as caught:
        answer.raise_for_status(host="hostA")
    error = caught.value
    assert error.failed == (BAD, also)
    assert (error.task, error.id, error.total) == ("start vm", "mine", 3)
    assert str(error) == (
        "'start vm' on 'hostA': 2 of 3 results failed (id 'mine')\n"
        "  vm2: error: no such domain\n"
        "  vm3: error: no room"
    )


def test_error_of_a_container_with_one_result() -> None:
    container = TaskContainer(tasks=[Suspend(vm_name="vm2")], id="mine")
    with pytest.raises(TaskFailedError) as caught:
        ResultContainer.answer(container, [BAD]).raise_for_status()
    assert str(caught.value) == (
        "'suspend vm' of vm2 has the status error: no such domain (id 'mine')"
    )


def test_title_of_no_known_task_is_not_taken_for_one() -> None:
    with pytest.raises(TaskFailedError) as caught:
        ResultContainer(result="unknown", results=[BAD]).raise_for_status()
    assert caught.value.task is None


def test_own_type_of_results_is_kept() -> None:
    good = NodeResult(status="success", node=NodeReport(host="a", hypervisor="dummy"))
    assert good.raise_for_status() is good
    container = TaskContainer(tasks=[Query()])
    with pytest.raises(TaskFailedError) as caught:
        ResultContainer.answer(container, [BAD]).raise_for_status()
    assert type(caught.value.failed[0]) is NodeResult


def test_text_of_the_network_is_escaped() -> None:
    bad = Result(vm_name="vm\x1b[2J", status="error", details="\x1b]0;title\x07")
    with pytest.raises(TaskFailedError) as caught:
        bad.raise_for_status()
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_error_can_be_copied(change) -> None:
    error = TaskFailedError([BAD], task="start vm", host="hostA", id="mine", total=3)
    other = change(error)
    assert str(other) == str(error)
    assert (other.failed, other.task, other.host, other.id, other.total) == (
        error.failed, error.task, error.host, error.id, error.total,
    )  # fmt: skip


def test_field_with_the_name_is_refused() -> None:
    with pytest.raises(DeclarationError, match="raise_for_status"):

        class Odd(Task, task="odd", result="odd done"):
            raise_for_status: str
