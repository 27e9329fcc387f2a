"""Orders that expire, and the check that such an order was never begun."""

from typing import Any

from fastlib import ResultContainer, Start, TaskContainer

from .bench import order


def start(*names: str, expires: float, id: str | None = None, **more: Any) -> TaskContainer:
    """Return an order to start domains that expires after some seconds."""
    return order(*(Start(vm_name=name) for name in names), expires=expires, id=id, **more)


def check_expired(answer: ResultContainer, *names: str) -> None:
    """Check that nothing was begun, and that each result says so."""
    assert [result.vm_name for result in answer.results] == list(names)
    for result in answer.results:
        assert result.status == "error"
        assert str(result.details).startswith("never begun, and never will be: the order expired ")
        assert "at node01; send it again, as a new order, if it is still wanted" in str(
            result.details
        )
