"""Find the shortest message that still shows the same fault as a long one."""

from collections.abc import Callable, Iterator
from typing import Any

_SIMPLE = ("vm1", "a", 0, 1, False)
"""Replacements for other scalars, simplest first."""


def shrunk(tree: Any, shows: Callable[[Any], bool]) -> Any:
    """Return a minimal tree: after any omission or simplification, `show` would be False.

    Hypothesis shrinks the draws. This shrinks the message, which takes a hundredth of the time.
    """
    found = True
    while found:
        found = False
        for smaller in _smaller(tree):
            if shows(smaller):
                tree, found = smaller, True
                break
    return tree


def _smaller(tree: Any) -> Iterator[Any]:
    """Yield trees with one thing omitted or simplified, larger steps first."""
    if isinstance(tree, dict):
        for key in tree:
            yield {other: value for other, value in tree.items() if other != key}
        for key, value in tree.items():
            for smaller in _smaller(value):
                yield {**tree, key: smaller}
    elif isinstance(tree, list):
        for index in range(len(tree)):
            yield [*tree[:index], *tree[index + 1 :]]
        for index, value in enumerate(tree):
            for smaller in _smaller(value):
                yield [*tree[:index], smaller, *tree[index + 1 :]]
    else:
        yield from _simpler(tree)


def _simpler(leaf: Any) -> Iterator[Any]:
    for simple in _SIMPLE:
        if simple == leaf and type(simple) is type(leaf):
            return
        if type(simple) is type(leaf):
            yield simple
    if isinstance(leaf, str) and len(leaf) > 1:
        yield leaf[: len(leaf) // 2]
        yield leaf[1:]
    elif isinstance(leaf, int) and not isinstance(leaf, bool):
        step = abs(leaf) // 2
        while step:  # ever smaller ones: halving reaches a bound soon
            yield leaf - step if leaf > 0 else leaf + step
            step //= 2
