"""Write the history of an order in lines: its headline, its errors, and its events."""

from collections.abc import Callable, Iterator, Set
from typing import Final, TypeAlias

from fastlib.message import OrderReport

from .order_story import (
    MAX_ERRORS,
    Place,
    clock,
    event_text,
    headline,
    result_texts,
    style_of,
    told_reasons,
)
from .text import columns, plural, printable, wrap, zone

KIND_WIDTH: Final = 12
"""The maximum width of an event's kind that has its own column."""
INDENT: Final = "  "

Paint: TypeAlias = Callable[[str, str], str]


def story(
    order: OrderReport, place: Place, *, width: int, paint: Paint, full: bool
) -> Iterator[str]:
    """Yield an order in lines: the headline, its errors, its facts, and its events.

    With `full`, also all errors and the text of the order.
    """
    yield from (paint(line, style_of(order, place)) for line in wrap(headline(order, place), width))
    yield from _result_lines(order, place, width, full=full)
    if order.state == "ended" and order.confirmed is None:
        yield from _indented("the broker has not confirmed the answer yet", width)
    yield from _indented(_facts(order, place, full=full), width)
    yield from _event_lines(order, place, width, told_reasons(order, place, full=full))
    if full and order.text is not None:
        yield f"{INDENT}text of the order:"
        for line in order.text.splitlines():
            yield from _indented(printable(line.expandtabs(4)), width, first=f"{INDENT}  ")


def brief(order: OrderReport, place: Place, *, width: int) -> Iterator[str]:
    """Yield an order in one sentence, with its time and its id."""
    id = "" if order.id is None else f"; id {order.id}"
    yield from _indented(printable(f"{headline(order, place)}{id}"), width, hanging="    ")


def _result_lines(order: OrderReport, place: Place, width: int, *, full: bool) -> Iterator[str]:
    texts = result_texts(order, place)
    cut = texts[: None if full else MAX_ERRORS]
    for text in cut:
        yield from _indented(text, width)
    if len(cut) < len(texts):
        yield f"{INDENT}and {plural(len(texts) - len(cut), 'more error')}: see --full"


def _facts(order: OrderReport, place: Place, *, full: bool) -> str:
    facts = [f"id {order.id}" if order.id is not None else "no id", f"order {order.number}"]
    if order.expires is not None and (order.began is None or full):
        facts.append(f"expires {clock(order.expires, place)}")
    if order.idempotency_key is not None and full:
        facts.append(f"key {order.idempotency_key}")
    return printable(", ".join(facts))


def _event_lines(order: OrderReport, place: Place, width: int, reasons: Set[str]) -> Iterator[str]:
    """Yield the events, without the reasons that a line of a result has."""
    several = len(order.vm_names) > 1
    kinds = [printable(event.event) for event in order.events]
    kind_width = max((columns(kind) for kind in kinds if columns(kind) <= KIND_WIDTH), default=0)
    day = ""
    for event, kind in zip(order.events, kinds, strict=True):
        local = event.time.astimezone()
        if f"{local:%Y-%m-%d %z}" != day:
            day = f"{local:%Y-%m-%d %z}"
            yield f"{INDENT}{local:%Y-%m-%d} ({zone(event.time)})"
        stamp = f"{local:%H:%M:%S}.{local.microsecond // 1000:03}"
        text = printable(event_text(event, place, reasons, several=several))
        if columns(kind) <= KIND_WIDTH:
            padded = f"{kind}{' ' * (kind_width - columns(kind))}"
            yield from _indented(text, width, first=f"{INDENT}{stamp}  {padded}  ")
        else:
            yield from _indented(f"{kind}  {text}", width, first=f"{INDENT}{stamp}  ")
    if order.events_left_out:
        text = f"{plural(order.events_left_out, 'event')} left out"
        yield f"{INDENT}{text}{', also of other domains' if place.focus is not None else ''}"


def _indented(
    text: str, width: int, *, first: str = INDENT, hanging: str | None = None
) -> Iterator[str]:
    """Yield a text in lines: the first after `first`, the others below it or after `hanging`."""
    rest = " " * columns(first) if hanging is None else hanging
    room = max(width - max(columns(first), columns(rest)), 20)
    for number, line in enumerate(wrap(text, room)):
        yield f"{rest if number else first}{line}".rstrip()
