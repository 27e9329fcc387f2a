"""Describe where a domain is, for errors and results."""

import contextlib

from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .cluster import Cluster
from .tables import Domain


def error_with_location(
    cluster: Cluster, spec: MigrationSpec, error: HypervisorError
) -> HypervisorError:
    """Return the error of a migration with the location of the domain added."""
    where = describe_location(cluster, spec.name)
    if isinstance(error, TaskCancelledError):
        return TaskCancelledError(f"{error}; {where}")
    kind = FinalError if isinstance(error, FinalError) else HypervisorError
    return kind(f"{spec.name} did not migrate to {spec.destination}: {error}; {where}")


def describe_location(cluster: Cluster, name: str) -> str:
    """Return a sentence with the host and the state of a domain."""
    domain: Domain | None = None
    with contextlib.suppress(HypervisorError):
        domain = cluster.domain(name)
    if domain is None:
        return f"{name} is gone"
    return f"{name} {describe_state(domain)} on {domain.host}"


def describe_state(domain: Domain) -> str:
    """Return the state of a domain as the phrase that follows its name."""
    words = {"running": "runs", "paused": "is paused", "shut off": "is shut off"}
    return words[domain.state]
