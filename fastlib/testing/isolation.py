"""Isolation of declarations: the declarations of a test end with it."""

import sys
from types import ModuleType, TracebackType
from typing import Self

from fastlib.message.registry import REGISTRY, Snapshot


class IsolatedRegistry:
    """A context for temporary declarations of messages, tasks, extensions and results.

    Entering it again restores its earlier declarations. It applies to the whole process with all
    threads, so no other code may declare or read messages in the meantime.
    """

    def __init__(self) -> None:
        self._inner: Snapshot | None = None
        self._inner_modules: dict[str, ModuleType] = {}
        self._outer: tuple[Snapshot, frozenset[str]] | None = None

    def __enter__(self) -> Self:
        if self._outer is not None:
            raise RuntimeError("this isolated registry is in use already; make another one")
        self._outer = (REGISTRY.snapshot(), frozenset(sys.modules))
        if self._inner is not None:
            REGISTRY.restore(self._inner)
            _add_modules(self._inner_modules)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._outer is not None
        before, modules = self._outer
        self._outer = None
        self._inner = REGISTRY.snapshot()
        self._inner_modules = _remove_modules(self._inner, modules)
        REGISTRY.restore(before)


def isolated_registry() -> IsolatedRegistry:
    """Return a context that removes, at its end, every declaration that was made in it.

    ::

        def test_snapshots_round_trip():
            with isolated_registry():

                class Snapshot(Task, task="snapshot vm", result="vm snapshotted"):
                    vm_name: str

                assert_round_trip(Snapshot(vm_name="vm1"))

    A module with declarations that was first imported in the context is imported again by the next
    import after it. So are the other modules of its package that were first imported there. Put
    declarations for a whole test module in a context that its tests enter again::

        declarations = isolated_registry()
        with declarations:

            class Snapshot(Task, task="snapshot vm", result="vm snapshotted"):
                vm_name: str


        @pytest.fixture(scope="module", autouse=True)
        def _declared():
            with declarations:
                yield

    The pytest plug-in of fastlib has the fixture `isolated_registry`: such a context for one test.
    """
    return IsolatedRegistry()


def _remove_modules(snapshot: Snapshot, before: frozenset[str]) -> dict[str, ModuleType]:
    """Remove new modules with declarations, and the new modules of their packages.

    Another module of the package may hold the declared classes, such as `from .tasks import Task`
    in its `__init__.py`.
    """
    packages = {_package(name) for name in snapshot.declaring_modules() - before}
    packages.discard("fastlib")  # never only for one test
    names = [name for name in sys.modules if name not in before and _package(name) in packages]
    removed = {name: sys.modules.pop(name) for name in names}
    for name, module in removed.items():
        place, _, child = name.rpartition(".")
        parent = sys.modules.get(place)
        # `from package import module` takes this attribute before it looks into `sys.modules`.
        if parent is not None and vars(parent).get(child) is module:
            delattr(parent, child)
    return removed


def _add_modules(modules: dict[str, ModuleType]) -> None:
    """Add removed modules again."""
    sys.modules.update(modules)
    for name, module in modules.items():
        place, _, child = name.rpartition(".")
        if (parent := sys.modules.get(place)) is not None:
            setattr(parent, child, module)


def _package(module: str) -> str:
    return module.partition(".")[0]
