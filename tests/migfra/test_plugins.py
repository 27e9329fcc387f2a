"""Hypervisors of other packages: found, checked, and named when they are broken."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastlib.migfra import PluginError, UnsupportedError, check_configuration, read_configuration
from fastlib.migfra.plugin_api import discovery
from fastlib.migfra.plugin_api.hypervisor import Hypervisor, method_name, method_of, supported
from tests.support.on_path import on_path

GOOD = """
from typing import Annotated
from fastlib.migfra import ConfigSection
from fastlib.codec import Wire
from fastlib.migfra import Hypervisor, Context, Outcome

class Options(ConfigSection):
    speed: Annotated[str, Wire("How fast.")]

class Mine(Hypervisor):
    name = "mine"
    Options = Options
    def start(self, task, context): return self.options.speed
"""

Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Install]:
    """Makes a distribution with an entry point and a module, as an installer would leave it."""

    def install(distribution: str, point: str, source: str) -> None:
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
        )
        (info / "entry_points.txt").write_text(f"[fastlib.hypervisors]\n{point}\n")
        discovery._installed.cache_clear()

    with on_path(tmp_path):
        yield install
    discovery._installed.cache_clear()


def test_plugin_is_found_and_its_options_are_checked(install: Install) -> None:
    install("my-plugin", "mine = my_plugin:Mine", GOOD)
    assert "mine" in discovery.names()
    read = read_configuration("hypervisor: {type: mine, speed: 7}")
    hypervisor = read.hypervisor.make(read.node)
    assert hypervisor.options.speed == "7"
    assert "start vm" in supported(hypervisor)
    (problem,) = check_configuration("hypervisor: {type: mine, sped: 7}").errors[:1]
    assert (problem.line, problem.column) == (1, 13)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
        ("import nothing_of_that_name", "No module named"),
        ("Mine = 3", "must be a subclass"),
        (GOOD.replace('"mine"', '"other"'), "write `name = 'mine'`; it has 'other'"),
        (GOOD.replace("Options = Options", "Options = dict"), "Options"),
        ("class Other: pass", "has no attribute 'Mine'"),
    ],
)
def test_broken_plugin_is_named_with_its_distribution(
    install: Install, source: str, said: str
) -> None:
    install("broken-plugin", "mine = broken_plugin:Mine", source)
    (problem,) = check_configuration("hypervisor:\n  type: mine").problems
    assert (problem.path, problem.line, problem.column) == ("hypervisor.type", 2, 9)
    assert "the distribution broken-plugin 1.2" in problem.message
    assert said in problem.message


def test_failing_constructor_is_a_plugin_error(install: Install) -> None:
    source = GOOD + "    def __init__(self, options, node): raise OSError('no disk')\n"
    install("my-plugin", "mine = my_plugin:Mine", source)
    read = read_configuration("hypervisor: {type: mine, speed: 7}")
    with pytest.raises(PluginError, match=r"'mine' cannot be made: OSError: no disk"):
        read.hypervisor.make(read.node)


def test_name_offered_by_two_distributions_is_an_error(install: Install) -> None:
    install("one-plugin", "mine = one_plugin:Mine", GOOD)
    install("two-plugin", "mine = two_plugin:Mine", GOOD)
    with pytest.raises(PluginError, match=r"one-plugin 1\.2 and the distribution two-plugin"):
        discovery.load("mine")


def test_builtin_hypervisors_load() -> None:
    for name in discovery.BUILT_IN:
        assert discovery.load(name).name == name


def test_method_name_comes_from_the_task() -> None:
    from fastlib import Evacuate, Start

    class ResetHTTPProxy:
        pass

    class Options:
        declaration = Start.declaration

    assert method_name(Evacuate) == "evacuate"
    assert method_name(ResetHTTPProxy) == "reset_http_proxy"  # type: ignore[arg-type]
    hypervisor = Hypervisor(None, None)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="does not support start vm"):
        method_of(hypervisor, Options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            "def suspend(self, context, task): pass",
            "must take (self, task, context); it takes (self, context, task)",
        ),
        ("def suspend(self, task): pass", "must take (self, task, context)"),
        ("async def suspnd(self, task, context): pass", "did you mean 'suspend'?"),
        ("def outages(self): return {}", "must be `async def`"),
    ],
)
def test_methods_are_checked_when_the_class_is_loaded(
    install: Install, method: str, said: str
) -> None:
    install("my-plugin", "mine = my_plugin:Mine", f"{GOOD}    {method}\n")
    (problem,) = check_configuration("hypervisor: {type: mine, speed: 7}").errors
    assert (problem.path, problem.line, problem.column) == ("hypervisor.type", 1, 20)
    assert "the distribution my-plugin 1.2" in problem.message
    assert f"my_plugin.py:{GOOD.count(chr(10)) + 1})" in problem.message
    assert said in problem.message


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import json\n\nraise RuntimeError('no luck')", "3"),
        ("def make():\n    return 1 / 0\n\n\nmake()", "2, in make"),
        ("class Mine(:\n    pass", "1"),
        ("import json\njson.loads('{')", "2"),
        ("import sys\nsys.exit(3)", "2"),
    ],
)
def test_error_at_import_has_file_and_line(install: Install, source: str, line: str) -> None:
    install("broken-plugin", "mine = broken_plugin:Mine", source)
    (problem,) = check_configuration("hypervisor: {type: mine}").errors
    assert problem.message.endswith(f"broken_plugin.py:{line})")


def test_error_of_the_constructor_has_file_and_line(install: Install) -> None:
    source = GOOD + "    def __init__(self, options, node):\n        raise OSError('no disk')\n"
    install("my-plugin", "mine = my_plugin:Mine", source)
    read = read_configuration("hypervisor: {type: mine, speed: 7}")
    with pytest.raises(PluginError, match=r"no disk \(.*my_plugin.py:15, in __init__\)"):
        read.hypervisor.make(read.node)
