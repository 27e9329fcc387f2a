"""Without libvirt-python, the configuration is read, and the answer has the install command."""

import asyncio
import re
import sys

import pytest

from fastlib.extras import install_command
from fastlib.migfra import HypervisorError, read_configuration
from fastlib.migfra.hypervisors.libvirt.connection import api

pytestmark = pytest.mark.without_libvirt
CONFIGURATION = "hypervisor: {type: libvirt, driver: qemu, transport: ssh, nodes: [a, b]}"


def test_open_names_command_that_installs_libvirt(monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt", None)
    monkeypatch.setattr(api, "_loaded", None)
    configuration = read_configuration(f"hostname: a\n{CONFIGURATION}")
    hypervisor = configuration.hypervisor.make(configuration.node)
    with pytest.raises(HypervisorError, match=re.escape(install_command("libvirt"))):
        asyncio.run(hypervisor.open())


def test_unknown_transport_is_refused_without_libvirt():
    with pytest.raises(ValueError, match="transport"):
        read_configuration(CONFIGURATION.replace("ssh", "carrier-pigeon"))
