"""A repin changes all vCPUs or none, in the running domain and in its definition."""

import itertools

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain import pinning
from tests.support.libvirt.fake_domain import refusal

VCPUS = """<vcpu current='3' cpuset='0-2'>4</vcpu><vcpus><vcpu id='0' enabled='yes'/>
<vcpu id='1' enabled='no'/><vcpu id='2' enabled='yes'/><vcpu id='3' enabled='yes'/></vcpus>"""


class Domain:
    """A domain whose pins can be set, and whose calls can fail."""

    def __init__(self, persistent=True, current_only=False):
        self.persistent = persistent
        self.current_only = current_only
        self.maximum_in_definition = 4
        self.pins = {"live": {0: {0}, 2: {1}}, "definition": {0: {2}}}
        self.fails_at = set()
        """Numbers of calls that fail, from 0."""
        self.calls = itertools.count()

    def isActive(self):
        return True

    def isPersistent(self):
        return self.persistent

    def XMLDesc(self, flags):
        kind = "definition" if flags & api().VIR_DOMAIN_XML_INACTIVE else "live"
        pins = "".join(
            f"<vcpupin vcpu='{vcpu}' cpuset='{','.join(map(str, sorted(cpus)))}'/>"
            for vcpu, cpus in self.pins[kind].items()
        )
        vcpus = VCPUS
        if kind == "definition":
            vcpus = f"<vcpu>{self.maximum_in_definition}</vcpu>"
        return f"<domain><name>vm1</name>{vcpus}<cputune>{pins}</cputune></domain>"

    def pinVcpuFlags(self, vcpu, allowed, flags):
        if self.current_only and flags:
            raise refusal("INVALID_ARG", f"unsupported flags (0x{flags:x}) in function x")
        if next(self.calls) in self.fails_at:
            raise refusal("INVALID_ARG", "invalid argument: it does not want to")
        kinds = {1: "live", 2: "definition", 0: "live"}
        self.pins[kinds[flags]][vcpu] = {cpu for cpu, may in enumerate(allowed) if may}


class Host:
    def __init__(self, domain):
        self.domain = domain

    def lookupByName(self, name):
        return self.domain

    def getInfo(self):
        return ["x86_64", 4096, 4, 2000, 1, 1, 4, 1]

    def getType(self):
        return "QEMU"

    def getCPUMap(self):
        return 4, [True, True, True, False], 3


def pin(domain, *rows):
    pinning.pin(Host(domain), "vm1", rows)


def effective(domain):
    """The CPUs of the vCPUs online: those without a pin have the domain's, or all online."""
    live = {vcpu: domain.pins["live"].get(vcpu, {0, 1, 2}) for vcpu in (0, 2, 3)}
    definition = {vcpu: domain.pins["definition"].get(vcpu, {0, 1, 2}) for vcpu in (0, 2, 3)}
    return live, definition


def test_rows_are_for_the_vcpus_online():
    domain = Domain()
    pin(domain, [0, 1], [2], [1])
    assert domain.pins["live"] == {0: {0, 1}, 2: {2}, 3: {1}}
    assert domain.pins["definition"] == {0: {0, 1}, 2: {2}, 3: {1}}


def test_vcpus_without_a_row_keep_their_cpus():
    domain = Domain()
    pin(domain, [1])
    assert domain.pins == {"live": {0: {1}, 2: {1}}, "definition": {0: {1}}}


def test_transient_domain_has_no_definition_to_pin():
    domain = Domain(persistent=False)
    pin(domain, [1], [2])
    assert domain.pins["definition"] == {0: {2}}


def test_definition_with_fewer_vcpus_gets_the_rows_of_its_own_vcpus():
    domain = Domain()
    domain.maximum_in_definition = 3
    pin(domain, [1], [1], [1])
    assert domain.pins["definition"] == {0: {1}, 2: {1}}


@pytest.mark.parametrize("current_only", [False, True])
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("failing", range(6))
def test_failed_repin_restores_the_rows_before(failing, persistent, current_only):
    domain = Domain(persistent, current_only)
    before = effective(domain)
    domain.fails_at = {failing}
    if failing >= (6 if persistent and not current_only else 3):
        pin(domain, [1], [2], [0])
        return
    with pytest.raises(api().libvirtError, match="it does not want to"):
        pin(domain, [1], [2], [0])
    assert effective(domain) == before


def test_error_names_vcpus_that_could_not_be_restored():
    domain = Domain()
    domain.fails_at = {1, 2, 3}
    with pytest.raises(
        HypervisorError, match=r"vCPU 2 of vm1 could not be pinned .*vCPU 0 may now"
    ):
        pin(domain, [1], [2], [0])


@pytest.mark.parametrize("row", [[3], [0, 3], [4], []])
def test_row_with_unusable_cpus_changes_nothing(row):
    domain = Domain()
    before = effective(domain)
    with pytest.raises(HypervisorError, match="CPU"):
        pin(domain, [1], row)
    assert effective(domain) == before
