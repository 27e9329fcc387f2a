"""Plain trees: read the value at a path, and make copies with another value."""

from collections.abc import Iterator
from typing import Any

from fastlib.codec.errors import Path


def at(tree: Any, path: Path) -> Any:
    """Return the value at a path, or None."""
    for step in path:
        if isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        elif isinstance(tree, dict):
            tree = tree.get(step)
        else:
            return None
    return tree


def changed(tree: Any, path: Path, value: Any) -> Any:
    """Return a copy of a tree with another value at a path; None without such a path."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(tree, list) and isinstance(step, int) and step < len(tree):
        below = changed(tree[step], rest, value)
        return None if below is None else [*tree[:step], below, *tree[step + 1 :]]
    if isinstance(tree, dict) and (step in tree or not rest):
        below = changed(tree.get(step), rest, value)
        return None if below is None else {**tree, step: below}
    return None


def without(tree: Any, path: Path) -> Any:
    """Return a copy of a tree without the value at a path."""
    step, rest = path[0], path[1:]
    if isinstance(tree, list) and isinstance(step, int):
        if not rest:
            return [*tree[:step], *tree[step + 1 :]]
        return [*tree[:step], without(tree[step], rest), *tree[step + 1 :]]
    if not rest:
        return {key: item for key, item in tree.items() if key != step}
    return {**tree, step: without(tree[step], rest)}


def merged(one: Any, other: Any) -> Any:
    """Merge the keys of both trees. For lists, merge their first entries."""
    if isinstance(one, dict) and isinstance(other, dict):
        both = one | other
        return {
            key: merged(one[key], other[key]) if key in one and key in other else both[key]
            for key in both
        }
    if isinstance(one, list) and isinstance(other, list) and one and other:
        return [merged(one[0], other[0]), *one[1:]]
    return one


def paths_of(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Yield all paths in a tree except the root, parents first."""
    items: Any = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    for step, item in items:
        yield (*path, step)
        yield from paths_of(item, (*path, step))
