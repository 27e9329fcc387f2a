"""A laboratory: several hosts on one machine, each with its own libvirtd, and a broker.

Each host has its own network, mount, UTS and PID namespace. They hang on a bridge that stands in
namespaces of its own, too, so nothing of the machine is changed, and when the first process of the
laboratory ends, everything in it ends.

```python
with Lab(hosts=3) as lab:
    lab.define_guest("vm1", on="hostA")
    lab.host("hostA").virsh("start", "vm1")
    lab.host("hostA").run(["ping", "-c", "1", "hostB"])
```
"""

from .errors import LabError
from .guest import Guest, Heartbeat
from .host import Broker, Container, Host, Service
from .laboratory import Lab
from .process_table import Process
from .requirements import missing

__all__ = [
    "Broker",
    "Container",
    "Guest",
    "Heartbeat",
    "Host",
    "Lab",
    "LabError",
    "Process",
    "Service",
    "missing",
]
