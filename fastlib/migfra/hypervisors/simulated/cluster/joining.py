"""Check whether a host can join a cluster, without any change."""

import os
import shutil
from tempfile import TemporaryDirectory

from .cluster import Cluster
from .database import no_cluster_in
from .description import ClusterDescription
from .tables import ClusterError


def check_host(
    host: str, name: str, description: ClusterDescription | None, file: str | None
) -> None:
    """Raise the error that a host would get when it joins a cluster.

    `file` has the cluster. Without it the cluster has the `name` in this process.
    """
    if file is None:
        found = Cluster.find_named(name)
        if found is None and description is None:
            Cluster.named(name)  # raises the error
        (found or Cluster(description)).host(host)
    elif os.path.exists(file):
        _check_copy(host, description, file)
    elif not os.access(os.path.dirname(file) or ".", os.W_OK | os.X_OK):
        raise ClusterError(f"{file} is not a simulated cluster: unable to open database file")
    elif description is None:
        raise ClusterError(no_cluster_in(file))
    else:
        with Cluster(description) as cluster:
            cluster.host(host)


def _check_copy(host: str, description: ClusterDescription | None, file: str) -> None:
    """Check a host in a copy of a cluster, because SQLite writes to the file that it opens."""
    with TemporaryDirectory(prefix="migfra-check-") as folder:
        copy = os.path.join(folder, "cluster")
        for end in ("", "-wal"):
            if os.path.exists(file + end):
                shutil.copyfile(file + end, copy + end)
        try:
            with Cluster(description, copy) as cluster:
                cluster.host(host)
        except ClusterError as error:
            raise ClusterError(str(error).replace(copy, file)) from None
