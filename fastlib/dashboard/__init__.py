"""A read-only web page of the cluster: hosts, VMs, running and queued tasks, results, histories.

`serve` runs it in an event loop. `Dashboard` is the same without a server: an ASGI application and
the state behind it. It needs the packages of the extra `web`.
"""

from .access import Access, AccessError
from .dashboard import Dashboard
from .server import ServeError, ServerOptions, serve

__all__ = ["Access", "AccessError", "Dashboard", "ServeError", "ServerOptions", "serve"]
