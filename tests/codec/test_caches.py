"""Caches of derived objects are emptied together."""

import pytest

from fastlib.codec.caches import clear_derived_caches, derived_cache, on_clear


def test_every_cache_is_emptied_and_stays_the_same_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlib.codec.caches._clear", [])
    first, second = derived_cache(), derived_cache()
    cleared = []
    on_clear(lambda: cleared.append("other"))
    first["a"] = second["b"] = 1
    clear_derived_caches()
    assert (first, second, cleared) == ({}, {}, ["other"])
    first["a"] = 2
    clear_derived_caches()
    assert (first, cleared) == ({}, ["other", "other"])
