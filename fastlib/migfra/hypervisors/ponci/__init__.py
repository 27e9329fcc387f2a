"""The hypervisor ponci: domains are cgroups of this host that bind processes to CPUs and memory.

`hypervisor.py` has the methods that the daemon calls, `options.py` the configuration. `runtime.py`
holds what all tasks share. `start.py`, `freezing.py` and `stop.py` are the tasks, `waiting.py`
waits for the kernel. `recovery.py` finds out the result of a task that a crash of the daemon
interrupted.

`inspection.py` reads the state of a domain into the types of `domain_view.py`. `decisions.py` is
pure: it decides from that view what the state is, and what a task must refuse.

`mounts.py` finds the hierarchy of cgroups that the machine has. `hierarchy.py` has the operations
on a domain's group, `v1.py` and `v2.py` those that differ by version. `freezers.py` reads and sets
the freezers of groups. `processes.py` reads processes in `/proc`. `files.py` reads and writes the
kernel's files, `id_lists.py` the lists of CPUs in them, `group_names.py` checks names.
"""

from .hypervisor import PonciHypervisor
from .options import PonciOptions

__all__ = ["PonciHypervisor", "PonciOptions"]
