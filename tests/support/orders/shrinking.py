"""Shorten a scenario that fails, while it breaks the same part of the rule."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from .run import Failure
from .scenario import Order, Scenario


def shrink(failure: Failure, run: Callable[[Scenario], Failure | None], seconds: float) -> Failure:
    """The shortest failure that was found within about that time."""
    deadline = time.monotonic() + seconds
    tried: set[bytes] = set()
    improved = True
    while improved and time.monotonic() < deadline:
        improved = False
        for candidate in _shorter(failure.scenario):
            key = msgspec.json.encode(str(candidate))
            if key in tried or time.monotonic() > deadline:
                continue
            tried.add(key)
            found = run(candidate)
            if found is not None and found.parts & failure.parts:
                failure, improved = found, True
                break
    return failure


def _shorter(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios with less in them, the greatest reductions first."""
    *earlier, last = scenario.orders
    if earlier:
        yield _with_orders(scenario, [last])
        for index in range(len(earlier)):
            yield _with_orders(scenario, [*earlier[:index], *earlier[index + 1 :], last])
    named = str([each.yaml() for each in scenario.orders])
    for domain in scenario.domains:
        rest = tuple(each for each in scenario.domains if each != domain)
        if rest and domain.name not in named:
            yield msgspec.structs.replace(scenario, domains=rest)
    if last.fault is not None:
        yield _with_orders(scenario, [*earlier, msgspec.structs.replace(last, fault=None)])
    for order in _plainer(last):
        yield _with_orders(scenario, [*earlier, order])
    for index, domain in enumerate(scenario.domains):
        plain = msgspec.structs.replace(domain, pins=None, autostart=False, also_defined_on=None)
        if plain != domain:
            domains = list(scenario.domains)
            domains[index] = plain
            yield msgspec.structs.replace(scenario, domains=tuple(domains))


def _with_orders(scenario: Scenario, orders: list[Order]) -> Scenario:
    return msgspec.structs.replace(scenario, orders=tuple(orders))


def _plainer(order: Order) -> Iterator[Order]:
    """The order with a member or an option less."""
    tasks = order.container.tasks
    for index in range(len(tasks)) if len(tasks) > 1 else ():
        yield _with_tasks(order, [*tasks[:index], *tasks[index + 1 :]])
    for index, task in enumerate(tasks):
        for plainer in _with_less(task):
            yield _with_tasks(order, [*tasks[:index], plainer, *tasks[index + 1 :]])


def _with_tasks(order: Order, tasks: list[Any]) -> Order:
    container = msgspec.structs.replace(order.container, tasks=tuple(tasks))
    return msgspec.structs.replace(order, container=container)


def _with_less(message: Any) -> Iterator[Any]:
    """A message without one of its options, also of those of its parameter."""
    for field in message.__struct_fields__:
        value = getattr(message, field)
        if value is None or value == ():
            continue
        if field == "parameter":
            for parameter in _with_less(value):
                yield msgspec.structs.replace(message, parameter=parameter)
        try:
            yield msgspec.structs.replace(message, **{field: None})
        except (TypeError, ValueError):
            continue  # the field is required
