"""Domains that are cgroups of this host: they hold processes to CPUs and memory, and freeze them.

`mounts.py` finds the hierarchy that the machine has. `hierarchy.py` says what can be done with a
domain's group in it, `v1.py` and `v2.py` how each version does so; `files.py` are the kernel's
files, `lists.py` the numbers in them. `start.py`, `freezing.py` and `stop.py` are the tasks,
`waiting.py` what they wait with, `site.py` what they share. `recovery.py` tells how a task ended
that a crash of the daemon has left. `hypervisor.py` is what the daemon sees.
"""

from .hypervisor import PonciHypervisor
from .options import PonciOptions

__all__ = ["PonciHypervisor", "PonciOptions"]
