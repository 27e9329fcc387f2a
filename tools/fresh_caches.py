"""A plugin of pytest: each test derives shapes, readers and writers again.

They are derived once in a process. mutmut tests its mutants in copies of a process that has run all
tests, so without this plugin no test would execute a changed derivation.
"""

import pytest


@pytest.fixture(autouse=True)
def _derived_caches_are_empty() -> None:
    from fastlib.codec.caches import clear_derived_caches  # not before mutmut has changed it

    clear_derived_caches()
