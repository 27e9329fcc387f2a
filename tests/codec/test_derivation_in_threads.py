"""Several threads may use a type for the first time at the same moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from fastlib.codec.derivation import shape_of
from fastlib.codec.errors import DeclarationError
from fastlib.codec.shapes import Shape, Text

PATIENCE = 60
"""Seconds until a thread that does not continue fails the test."""


class Checked(msgspec.Struct):
    """The base of the structs here: as a message, it checks its values."""

    def __post_init__(self) -> None:
        """Check nothing."""


def test_two_threads_derive_one_shape() -> None:
    both = threading.Barrier(2, timeout=PATIENCE)

    class Part(Checked):
        @staticmethod
        def __shape__() -> Shape:
            both.wait()  # neither thread has the shape before both derive it
            return Text()

    class Whole(Checked):
        part: Part

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(shape_of, [Whole, Whole], timeout=PATIENCE)
    assert first is second is shape_of(Whole)


def test_type_that_holds_itself_is_refused_in_each_thread() -> None:
    class Endless(msgspec.Struct):
        @staticmethod
        def __shape__() -> Shape:
            return shape_of(Endless)

    def refused(_: int) -> str:
        with pytest.raises(DeclarationError) as caught:
            shape_of(Endless)
        return str(caught.value)

    with ThreadPoolExecutor(2) as pool:
        answers = set(pool.map(refused, range(2), timeout=PATIENCE))
    assert answers == {"Endless: a message cannot hold one of its own type"}
