"""The configuration of ponci."""

import pytest

from fastlib.migfra import ConfigurationError, HypervisorError, read_configuration
from fastlib.migfra.hypervisors.ponci import PonciHypervisor
from fastlib.migfra.plugin_api import discovery


def options(text: str = ""):
    configuration = read_configuration(f"hostname: a\nhypervisor: {{type: ponci{text}}}")
    return configuration.hypervisor.make(configuration.node).options


def test_configuration_finds_ponci_by_name():
    assert discovery.load("ponci") is PonciHypervisor


def test_all_options_have_defaults():
    assert options().parent == "migfra"
    assert (options().freeze_timeout, options().stop_timeout) == (10, 60)


@pytest.mark.parametrize("parent", ["/", "/a", "a/b", "/system.slice/migfra.service/domains"])
def test_valid_parent_is_accepted(parent):
    assert options(f", parent: {parent}").parent == parent


@pytest.mark.parametrize(
    "parent", ["''", "//", "..", "a/..", "../a", "a//b", "./a", "a/cgroup.procs", "tasks", "'a '"]
)
def test_invalid_parent_is_refused(parent):
    with pytest.raises(ConfigurationError, match="parent"):
        options(f", parent: {parent}")


@pytest.mark.parametrize("key", ["freeze-timeout", "stop-timeout"])
def test_timeout_must_be_positive(key):
    with pytest.raises(ConfigurationError, match="expected a number greater than 0"):
        options(f", {key}: 0")


def test_unknown_key_is_refused():
    with pytest.raises(ConfigurationError, match="did you mean 'parent'"):
        options(", parnet: a")


def test_task_fails_before_open():
    configuration = read_configuration("hostname: a\nhypervisor: {type: ponci}")
    with pytest.raises(HypervisorError, match="not open"):
        configuration.hypervisor.make(configuration.node).capabilities()
