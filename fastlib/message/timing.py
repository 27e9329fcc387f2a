"""Durations of the parts of a task.

See docs/reference/protocol.md, "Time measurement".
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Self

from fastlib.codec.annotations import Wire
from fastlib.codec.constructor import constructor_of
from fastlib.codec.derivation import shape_of
from fastlib.codec.errors import Path, Problem, ValidationError, render_path
from fastlib.codec.lazy_pattern import lazy_pattern
from fastlib.codec.load_context import INVALID, LoadContext, shorten
from fastlib.codec.nodes import Mapping as MappingNode
from fastlib.codec.nodes import Node
from fastlib.codec.records import Converted
from fastlib.codec.rules import AllOrNone, Rule
from fastlib.codec.scalars import FLOAT_PATTERN, parse_float, write_float
from fastlib.codec.schema_protocol import Schema, SchemaBuilder
from fastlib.codec.shapes import Float, InvalidValue, Map, ScalarShape, Shape

from .base import Message, Serializable


class Timing(Message):
    """One timer, in seconds with six decimals."""

    rules: ClassVar[tuple[Rule, ...]] = (AllOrNone("started", "stopped"),)

    wall: Annotated[float, Wire("Duration.", unit="s", decimals=6)]
    """Duration. Unit: s."""
    started: Annotated[
        float | None,
        Wire("Begin, in seconds after the begin of the measurement.", unit="s", decimals=6),
    ] = None
    """Begin, in seconds after the begin of the measurement. Unit: s."""
    stopped: Annotated[
        float | None,
        Wire("End, in seconds after the begin of the measurement.", unit="s", decimals=6),
    ] = None
    """End, in seconds after the begin of the measurement. Unit: s."""


_WORDS = lazy_pattern(r"\s*wall:\s*(\S+)\s+started:\s*(\S+)\s+stopped:\s*(\S+)\s*")
# For schemas: one number in such a text.
_WRITTEN = r"(-?[0-9]+\.[0-9]+(e[-+][0-9]+)?|-?\.inf|\.nan)"
_READ = f"({FLOAT_PATTERN})"


_make_timing = constructor_of(Timing)


class TimeMeasurement(Serializable):
    """Measures named spans for a result.

    ::

        measurement = TimeMeasurement(enabled=task.time_measurement or False)
        with measurement.measure("overall"):
            measurement.tick("downtime-vm1")
            ...
            measurement.tock("downtime-vm1")

    On the wire it is a mapping of names to seconds; with `detailed`, also when each one began and
    ended. A disabled measurement does nothing.
    """

    __slots__ = ("_begin", "_detailed", "_running", "_timings", "enabled")
    enabled: bool

    def __init__(
        self,
        timings: Mapping[str, Timing] | None = None,
        *,
        enabled: bool = True,
        detailed: bool = False,
    ) -> None:
        """`timings` are those of an earlier measurement. Raises ValidationError for others."""
        self.enabled = enabled
        self._detailed = detailed
        self._timings: dict[str, Timing] = {} if timings is None else _checked(timings)
        self._running: dict[str, float] = {}
        self._begin = time.perf_counter() if enabled else 0.0

    @property
    def timings(self) -> Mapping[str, Timing]:
        """Return the finished timers, in the order of their ends."""
        return dict(self._timings)

    @property
    def running(self) -> tuple[str, ...]:
        """Return the running timers. They are reported only after they have stopped."""
        return tuple(self._running)

    def tick(self, name: str) -> None:
        """Start a timer. Raises ValueError if it runs already."""
        if not self.enabled:
            return
        if name in self._running:
            raise ValueError(f"the timer {name!r} runs already")
        self._running[name] = time.perf_counter()

    def tock(self, name: str) -> None:
        """Stop a timer. Raises ValueError if it does not run."""
        if not self.enabled:
            return
        now = time.perf_counter()
        start = self._running.pop(name, None)
        if start is None:
            raise ValueError(f"the timer {name!r} does not run; tick it first")
        if self._detailed:
            timing = Timing(
                wall=now - start, started=start - self._begin, stopped=now - self._begin
            )
        else:
            timing = Timing(wall=now - start)
        self._timings[name] = timing

    def add(self, name: str, wall: float) -> None:
        """Add a timer that was measured elsewhere, in seconds."""
        if self.enabled:
            self._timings[name] = Timing(wall=wall)

    @contextmanager
    def measure(self, name: str) -> Iterator[Self]:
        """Measure a block, also if it raises."""
        self.tick(name)
        try:
            yield self
        finally:
            self.tock(name)

    def snapshot(self) -> "TimeMeasurement":
        """Return a copy of the finished timers, for a result."""
        return TimeMeasurement.from_wire(self._timings)

    def __bool__(self) -> bool:
        return bool(self._timings)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TimeMeasurement):
            return NotImplemented
        return self._timings == other._timings

    def __hash__(self) -> int:
        return hash(frozenset(self._timings.items()))

    def __repr__(self) -> str:
        return f"TimeMeasurement({self._timings!r})"

    @classmethod
    def from_wire(cls, timings: Mapping[str, Timing]) -> Self:
        measurement = cls(enabled=False)
        measurement._timings = dict(timings)  # checked when they were read or measured
        return measurement

    def to_wire(self) -> Mapping[str, Timing]:
        return self._timings

    @staticmethod
    def __shape__() -> Shape:
        return _MeasurementShape(TimeMeasurement, _TIMINGS)


def _checked(timings: object) -> dict[str, Timing]:
    """Return a checked copy of timings. Raises ValidationError."""
    try:
        checked: dict[str, Timing] = _TIMINGS.check(timings)
    except InvalidValue as error:
        problem = Problem(
            code="value",
            message=error.message,
            path=render_path(error.path),
            expected=error.expected,
            got=error.got,
        )
        raise ValidationError("TimeMeasurement", [problem]) from None
    return checked


class _MeasurementShape(Converted):
    """Names and timings; a list of one-entry mappings is also read."""

    def check(self, value: Any) -> Any:
        checked = super().check(value)
        self.wire.check(checked.to_wire())
        return checked.snapshot() if checked.enabled else checked


class _TimingShape(ScalarShape):
    """Seconds, or seconds with the begin and the end in one text; a mapping is also read."""

    expected = "seconds, or 'wall: … started: … stopped: …'"

    def from_text(self, text: str) -> Any:
        words = _WORDS.fullmatch(text)
        texts = words.groups() if words else (text,)
        numbers = [number for part in texts if (number := parse_float(part)) is not None]
        if len(numbers) != len(texts):
            return INVALID
        return _make_timing(**dict(zip(("wall", "started", "stopped"), numbers, strict=False)))

    def from_leaf(self, value: Any) -> Any:
        is_number = isinstance(value, float | int) and not isinstance(value, bool)
        try:
            return _make_timing(wall=value) if is_number else INVALID
        except ValidationError:
            return INVALID

    def load(self, node: Node, context: LoadContext, path: Path) -> Any:
        if isinstance(node, MappingNode):
            return shape_of(Timing).load(node, context, path)
        return super().load(node, context, path)

    def dump(self, value: Timing) -> Any:
        if value.started is None or value.stopped is None:
            return value.wall
        wall, started, stopped = map(write_float, (value.wall, value.started, value.stopped))
        return f"wall: {wall} started: {started} stopped: {stopped}"

    def check(self, value: Any) -> Any:
        if not isinstance(value, Timing):
            raise InvalidValue((), "a Timing", shorten(value))
        return value

    def __schema__(self, schemas: SchemaBuilder) -> Schema:
        text = schemas.text(
            f"^wall: {_WRITTEN} started: {_WRITTEN} stopped: {_WRITTEN}$",
            also=rf"^\s*wall:\s*{_READ}\s+started:\s*{_READ}\s+stopped:\s*{_READ}\s*$",
            expected="a time in s",
        )
        options = [schemas.of(Float()), text]
        if schemas.direction == "load":
            options.append(schemas.of(shape_of(Timing)))
        return {"anyOf": options}


_TIMINGS = Map(_TimingShape(), pairs=True)
