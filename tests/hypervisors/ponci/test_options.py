"""The configuration of ponci."""

import pytest

from fastlib.migfra import ConfigurationError, HypervisorError, read_configuration
from fastlib.migfra.hypervisors.ponci import PonciHypervisor
from fastlib.migfra.plugin_api import discovery


def options(text: str = ""):
    configuration = read_configuration(f"hostname: a\nhypervisor: {{type: ponci{text}}}")
    return configuration.hypervisor.make(configuration.node).options


def test_it_is_known_by_its_name():
    assert discovery.load("ponci") is PonciHypervisor


def test_none_must_be_given():
    assert options().parent == "migfra"
    assert (options().freeze_timeout, options().stop_timeout) == (10, 60)


@pytest.mark.parametrize("parent", ["/", "/a", "a/b", "/system.slice/migfra.service/domains"])
def test_parents(parent):
    assert options(f", parent: {parent}").parent == parent


@pytest.mark.parametrize(
    "parent", ["''", "//", "..", "a/..", "../a", "a//b", "./a", "a/cgroup.procs", "tasks", "'a '"]
)
def test_no_parents(parent):
    with pytest.raises(ConfigurationError, match="parent"):
        options(f", parent: {parent}")


@pytest.mark.parametrize("key", ["freeze-timeout", "stop-timeout"])
def test_no_times(key):
    with pytest.raises(ConfigurationError, match="expected a number greater than 0"):
        options(f", {key}: 0")


def test_an_unknown_key():
    with pytest.raises(ConfigurationError, match="did you mean 'parent'"):
        options(", parnet: a")


def test_it_says_when_it_is_not_open():
    configuration = read_configuration("hostname: a\nhypervisor: {type: ponci}")
    with pytest.raises(HypervisorError, match="not open"):
        configuration.hypervisor.make(configuration.node).capabilities()
