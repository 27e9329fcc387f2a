"""The hypervisor libvirt: domains of real hosts.

`hypervisor.py` has the methods that the daemon calls, `options.py` the configuration. `runtime.py`
holds what all tasks share. The folders, from the daemon down to libvirt:

- `tasks/`: start, stop, migrate, evacuate, and the recovery of each after a crash of the daemon.
- `migration/`: `migration.py` runs one in phases and begins with `checks.py`. `call.py` calls
  libvirt, `monitor.py` watches the call, `reconcile.py` finds the domain after a failure. `swap.py`
  and `swap_via_storage.py` swap two domains.
- `domain/`: read and change one domain, its XML, its job and its devices.
- `connection/`: connections to the hosts' libvirt, each call in a thread.

`errors.py` says what an error of libvirt means.
"""

from .hypervisor import LibvirtHypervisor
from .options import DomainXmlOptions, HostOptions, LibvirtOptions

__all__ = ["DomainXmlOptions", "HostOptions", "LibvirtHypervisor", "LibvirtOptions"]
