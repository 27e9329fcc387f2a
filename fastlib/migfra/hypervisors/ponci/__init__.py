"""The hypervisor ponci: domains are cgroups of this host. They bind processes to CPUs and memory.

`hypervisor.py` has the methods that the daemon calls, `options.py` the configuration. `runtime.py`
holds what all tasks share. `start.py`, `freezing.py` and `stop.py` are the tasks, `waiting.py`
waits for the kernel. `recovery.py` finds out how a task ended that a crash of the daemon
interrupted.

`inspection.py` reads the state of a domain, `domain_view.py` is what it reads. `decisions.py`
decides from it what the state is, and what a task must refuse. It is pure.

`mounts.py` finds the hierarchy of cgroups that the machine has. `hierarchy.py` says what one can do
with a domain's group in it, `v1.py` and `v2.py` how each version does so. `freezers.py` reads and
sets what freezes groups. `processes.py` reads what `/proc` says of a process. `files.py` reads and
writes the kernel's files, `id_lists.py` the lists of CPUs in them, `group_names.py` checks names.
"""

from .hypervisor import PonciHypervisor
from .options import PonciOptions

__all__ = ["PonciHypervisor", "PonciOptions"]
