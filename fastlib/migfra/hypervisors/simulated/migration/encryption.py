"""Decide whether a migration is encrypted, by the certificates that the cluster's hosts have."""

from fastlib.migfra.errors import FinalError
from fastlib.migfra.hypervisors.simulated.runtime import SimulatedRuntime
from fastlib.migfra.virt.combination_checks import choices_of, problem_of_pairs
from fastlib.migfra.virt.combinations import ENCRYPTED
from fastlib.migfra.virt.encryption import effective_mode
from fastlib.migfra.virt.migration_spec import MigrationSpec


def encrypts(runtime: SimulatedRuntime, spec: MigrationSpec) -> bool | None:
    """Return whether a migration is encrypted. None if nothing is, and no host has certificates.

    Raises FinalError if it must be encrypted and cannot.
    """
    mode = effective_mode(runtime.options.encryption, spec.parameter.encrypted)
    if spec.kind == "offline":
        return None
    hosts = [runtime.cluster.host(name) for name in (spec.source, spec.destination)]
    lacking = [host.name for host in hosts if not host.certificates]
    problem = problem_of_pairs((*choices_of(spec), ENCRYPTED))
    if lacking:
        problem = f"{lacking[0]} has no certificates; give it some, or choose another host"
    if mode == "required" and problem is not None:
        raise FinalError(f"{spec.name} cannot be sent encrypted: {problem}")
    if problem is None:
        return mode != "off"
    return None if len(lacking) == len(hosts) else False
