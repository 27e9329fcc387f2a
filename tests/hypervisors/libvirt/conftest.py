"""Fixtures for the tests of libvirt. The tests are skipped if its Python bindings are missing."""

import asyncio
import importlib.util
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fastlib.extras import install_command
from tests.support import end_of_run

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("libvirt") is None:
        own = [item for item in items if item.path.parent == HERE]
        skipped = [item for item in own if not item.get_closest_marker("without_libvirt")]
        why = f"libvirt-python is not installed: {install_command('libvirt')}"
        end_of_run.skip(skipped, "libvirt is not tested completely", why)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "without_libvirt: runs without libvirt-python")


@pytest.fixture
def run_scenario(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a scenario with daemons that limit their migrations; all slots are free at its end."""
    from fastlib.migfra.hypervisors.libvirt.migration import migration
    from fastlib.migfra.hypervisors.simulated import run_virtual
    from tests.support.libvirt.slot_daemons import Daemons

    def run(scenario: Callable[[Daemons], Coroutine[Any, Any, None]], **options: Any) -> None:
        async def main() -> None:
            daemons = Daemons(**options)
            monkeypatch.setattr(migration, "run_migration", daemons.run_migration)
            async with asyncio.timeout(10_000):
                await scenario(daemons)
                await asyncio.sleep(1)  # what is given back in the background
            assert daemons.secrets == {}

        run_virtual(main())

    return run
