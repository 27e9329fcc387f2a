"""Tells whether the fast reader is compiled.

A wheel that was built with `FASTLIB_COMPILE=yes` has the modules of the fast reader twice: as
Python, and compiled from it by mypyc. Python imports the compiled ones then. They return the same
values and raise the same errors.
"""


def is_compiled() -> bool:
    """Return whether this installation has a compiled fast reader."""
    from importlib.util import find_spec  # most programs never ask

    spec = find_spec(f"{__package__}.fast_reader")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")
