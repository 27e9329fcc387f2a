"""Domains of real hosts by libvirt.

`connections.py` keeps what is open to the hosts, each call in a thread; `uris.py` says where,
`errors.py` what a failure means. `domains.py` and `description.py` look at domains and their XML,
`devices.py` at what is attached to them, `start.py` (with `undo.py`) and `stop.py` are these tasks.
A migration is `migration.py`, which begins with `checks.py`; `job.py` watches it, `whereabouts.py`
finds out where the domain is when it failed. `swap.py` and `evacuation.py` make more of it,
`stored.py` is one by way of a file. `recovery.py` tells how a task ended that a crash of the daemon
has left. `hypervisor.py` is what the daemon sees.
"""

from .hypervisor import LibvirtHypervisor
from .options import HostOptions, LibvirtOptions

__all__ = ["HostOptions", "LibvirtHypervisor", "LibvirtOptions"]
