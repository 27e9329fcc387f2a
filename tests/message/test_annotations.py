"""Annotations in a class body's namespace, also as Python 3.14 hands them to a metaclass."""

import enum
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from fastlib import DeclarationError, Message
from fastlib.message import annotations, base
from fastlib.message.annotations import body_annotations, evaluated


class _Format(enum.IntEnum):
    VALUE = 1
    VALUE_WITH_FAKE_GLOBALS = 2
    FORWARDREF = 3
    STRING = 4


class _ForwardRef:
    """A name that is not defined yet, as far as 3.14's `annotationlib.ForwardRef` shows it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"ForwardRef({self.name!r})"


def _call_annotate_function(annotate: Any, format: _Format) -> dict[str, Any]:
    assert format is _Format.FORWARDREF
    hints: dict[str, Any] = annotate(format, _ForwardRef)
    return hints


ANNOTATIONLIB = SimpleNamespace(
    Format=_Format,
    get_annotate_from_class_namespace=lambda namespace: namespace.get(
        "__annotate__", namespace.get("__annotate_func__")
    ),
    call_annotate_function=_call_annotate_function,
)
"""The part of 3.14's `annotationlib` that is used, by its documentation."""


def lazy(**hints: Any) -> dict[str, Any]:
    """Return a namespace like that of 3.14, with a function that returns the annotations."""

    def annotate(format: _Format, reference: Any) -> dict[str, Any]:
        return {
            name: reference(hint) if isinstance(hint, str) else hint for name, hint in hints.items()
        }

    return {"__module__": __name__, "__qualname__": "Odd", "__annotate_func__": annotate}


def test_annotations_of_this_python_are_found() -> None:
    found: list[dict[str, Any]] = []

    class Meta(type):
        def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
            found.append(body_annotations(namespace))
            return super().__new__(mcls, name, bases, namespace)

    class Some(metaclass=Meta):
        first: int
        second: ClassVar[str]

    assert found == [{"first": int, "second": ClassVar[str]}]

    class Empty(metaclass=Meta):
        pass

    assert found[-1] == {}


def test_lazy_annotations_are_evaluated() -> None:
    hints = evaluated(lazy(size=int, later="NotDefinedYet"), ANNOTATIONLIB)
    assert hints["size"] is int
    assert repr(hints["later"]) == "ForwardRef('NotDefinedYet')"


@pytest.mark.parametrize("namespace", [{}, {"__annotations__": {"size": "int"}}])
def test_namespace_without_lazy_annotations_has_the_usual_ones(namespace: dict[str, Any]) -> None:
    assert evaluated(namespace, ANNOTATIONLIB) == namespace.get("__annotations__", {})


def test_reserved_names_are_refused_among_lazy_annotations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        base, "body_annotations", lambda namespace: evaluated(namespace, ANNOTATIONLIB)
    )
    with pytest.raises(DeclarationError, match="emit: every message reserves this name"):
        type(Message)("Odd", (Message,), lazy(emit=str))


def test_annotationlib_is_used_since_python_3_14(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(annotations, "sys", SimpleNamespace(version_info=(3, 14)))
    monkeypatch.setitem(sys.modules, "annotationlib", ANNOTATIONLIB)
    assert body_annotations(lazy(size=int)) == {"size": int}
