"""A package that is not installed, for a while."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def missing_package(name: str, *importers: str) -> Iterator[None]:
    """In the block, a package is not installed, and `importers` with their submodules are new.

    Afterwards all is as before: `sys.modules`, and the attributes by which packages hold their
    modules. An attribute that still holds a module of the block would make one test see other
    classes than the next one.
    """
    modules = dict(sys.modules)
    attributes = {place: vars(place[0]).get(place[1]) for place in _places(modules)}
    for module in modules:
        if _is_in(module, name):
            sys.modules[module] = None  # type: ignore[assignment]
        elif any(_is_in(module, importer) for importer in importers):
            del sys.modules[module]
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        in_block = dict(sys.modules)
        for module in in_block.keys() - modules.keys():
            del sys.modules[module]
        sys.modules.update(modules)  # never empty: other threads may import
        for package, child in _places(in_block):
            if (package, child) not in attributes and hasattr(package, child):
                delattr(package, child)
        for (package, child), value in attributes.items():
            if value is not None:
                setattr(package, child, value)


def _places(modules: Mapping[str, object]) -> Iterator[tuple[object, str]]:
    """Yield package and attribute of every module that lies in a loaded package."""
    for name in modules:
        package, _, child = name.rpartition(".")
        if modules.get(package) is not None:
            yield modules[package], child


def _is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")
