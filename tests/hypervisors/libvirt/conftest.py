"""Skip the tests of libvirt, with the reason, where its Python bindings are missing."""

import importlib.util
from pathlib import Path

import pytest

from tests.support import end_of_run

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("libvirt") is None:
        own = [item for item in items if item.path.parent == HERE]
        skipped = [item for item in own if not item.get_closest_marker("without_libvirt")]
        why = "libvirt-python is not installed: pip install 'fastlib[libvirt]'"
        end_of_run.skip(skipped, "libvirt is not tested completely", why)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "without_libvirt: runs without libvirt-python")
