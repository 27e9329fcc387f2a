"""Describe a failure so that a developer can repeat it."""

from typing import Final

from .run import Failure

_LOG_LINES: Final = 60


def report(failure: Failure, how_to_repeat: str) -> str:
    """Prior state, orders, fault, expected and observed, and the daemons' log lines."""
    outcome = failure.outcome
    lines = ["An order broke the rule.", "", how_to_repeat, "", "Prior state:"]
    lines += [f"  {domain}" for domain in failure.scenario.domains]
    for order in failure.scenario.orders:
        lines += ["", f"Order to {order.host}, fault: {order.fault}", order.yaml().strip()]
    lines += ["", f"The fault that happened: {outcome.fault}", "Answer:"]
    lines += [f"  {each.vm_name}: {each.status}: {each.details}" for each in outcome.results]
    lines += ["", "Broken:", *(f"  {each}" for each in failure.violations)]
    for what, view in (("Before the order", outcome.before), ("After it", outcome.after)):
        lines += ["", f"{what}:"]
        for host, domains in view.hosts.items():
            lines += [
                f"  {host}: {each.name!r} {each.state}, id {each.run}, "
                f"persistent {each.persistent}, saved {each.saved}, {each.memory} KiB, "
                f"vCPUs {each.vcpus} of {each.maximum_vcpus}, pins {each.pins}"
                for each in domains.values()
            ]
            lines += [f"  {host}: managed save images {view.images[host]}"]
    for host, log in failure.logs.items():
        lines += ["", f"Log of {host}:", *(f"  {line}" for line in log[-_LOG_LINES:])]
    return "\n".join(lines)
