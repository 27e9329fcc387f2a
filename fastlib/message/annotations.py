"""Annotations of a class body before the class exists, on every version of Python."""

import sys
from typing import Any


def body_annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    """Return the annotations in a class body's namespace, as a metaclass receives it.

    Since Python 3.14 (PEP 649) a namespace has a function that evaluates them. A name that is not
    defined yet is then a forward reference; before, such an annotation was text.
    """
    if sys.version_info >= (3, 14):
        import annotationlib

        return evaluated(namespace, annotationlib)
    hints: dict[str, Any] = namespace.get("__annotations__", {})
    return hints


def evaluated(namespace: dict[str, Any], annotationlib: Any) -> dict[str, Any]:
    """Return the annotations by Python 3.14's module `annotationlib`."""
    annotate = annotationlib.get_annotate_from_class_namespace(namespace)
    if annotate is None:  # the body has none, or they are texts by `from __future__`
        hints: dict[str, Any] = namespace.get("__annotations__", {})
    else:
        hints = annotationlib.call_annotate_function(annotate, annotationlib.Format.FORWARDREF)
    return hints
