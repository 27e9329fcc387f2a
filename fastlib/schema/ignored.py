"""Find ignored keys: keys that one side writes and the other side does not know."""

from typing import Any

from fastlib.codec.schema_protocol import Schema

_Places = tuple[str, ...]


def ignored_keys(reader: Schema, writer: Schema) -> list[str]:
    """Return the paths of keys that `writer` has and `reader` ignores, only the outermost ones."""
    known = _Keys(reader).paths
    return sorted(
        ".".join(path)
        for path in _Keys(writer).paths
        if path not in known and _is_mapping(known, path[:-1])
    )


def _is_mapping(known: set[_Places], path: _Places) -> bool:
    """Return True if the keys below a path are declared. A place for any keys ignores none."""
    return any(other[:-1] == path for other in known) and (*path, "*") not in known


class _Keys:
    """The paths of all keys that a schema declares."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self.paths: set[_Places] = set()
        self._visit(root, (), frozenset())

    def _visit(self, schema: Any, path: _Places, within: frozenset[str]) -> None:
        if not isinstance(schema, dict):
            return
        reference = schema.get("$ref")
        if reference is not None and reference not in within:  # some contain themselves
            target = self.root["$defs"][reference.removeprefix("#/$defs/")]
            self._visit(target, path, within | {reference})
        for key, below in schema.get("properties", {}).items():
            # An obsolete key is only there for its explanation.
            if isinstance(below, dict) and "deprecated" not in below:
                self.paths.add((*path, key))
                self._visit(below, (*path, key), within)
        if isinstance(schema.get("additionalProperties"), dict):
            self.paths.add((*path, "*"))
            self._visit(schema["additionalProperties"], (*path, "*"), within)
        self._visit(schema.get("items"), path, within)
        for keyword in ("allOf", "anyOf", "oneOf"):
            for below in schema.get(keyword, ()):
                self._visit(below, path, within)
