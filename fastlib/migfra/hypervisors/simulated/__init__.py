"""A cluster that is only computed: hosts, links, domains, and what goes wrong with them.

`tables.py`, `store.py` and `cluster.py` keep the state, `migration.py` and `swap.py` play what
takes time, `faults.py` says what fails, `clock.py` lets time pass as fast as wanted,
`hypervisor.py` is what a daemon sees.
"""

from .clock import Clock, VirtualLoop, run_virtual
from .cluster import Cluster, ClusterError, Domain, Host
from .description import (
    ClusterDescription,
    DomainDescription,
    Fault,
    HostDescription,
    LinkDescription,
    SimulatedOptions,
)
from .hypervisor import SimulatedHypervisor

__all__ = [
    "Clock",
    "Cluster",
    "ClusterDescription",
    "ClusterError",
    "Domain",
    "DomainDescription",
    "Fault",
    "Host",
    "HostDescription",
    "LinkDescription",
    "SimulatedHypervisor",
    "SimulatedOptions",
    "VirtualLoop",
    "run_virtual",
]
