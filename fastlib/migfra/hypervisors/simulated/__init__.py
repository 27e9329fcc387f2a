"""The simulated hypervisor: a computed cluster with links and faults.

`hypervisor.py` has the methods that the daemon calls, `options.py` the configuration. `runtime.py`
holds what all tasks on a host share, `clock.py` and `scope.py` the cluster's time. `faults.py`
decides which calls fail, `hardware.py` reports the declared hardware. The folders:

- `tasks/`: evacuation, recovery after a crash of the daemon, and the arguments of a start.
- `migration/`: `migration.py` computes one round by round, `swap.py` swaps two domains.
- `cluster/`: `cluster.py` has the rules of the cluster, `database.py` keeps its state,
  `description.py` describes a new one.
"""

from .clock import Clock, VirtualLoop, run_virtual
from .cluster.cluster import Cluster
from .cluster.description import (
    ClusterDescription,
    DomainDescription,
    Fault,
    HostDescription,
    LinkDescription,
    StoragePoolDescription,
)
from .cluster.tables import ClusterError, Domain, Host
from .hypervisor import SimulatedHypervisor
from .options import SimulatedOptions

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
    "StoragePoolDescription",
    "VirtualLoop",
    "run_virtual",
]
