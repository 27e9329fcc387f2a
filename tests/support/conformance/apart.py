"""A run in a process of its own, in which nothing is declared but what fastlib has.

Other tests declare messages in the process of pytest, of which a peer knows nothing.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from fastlib.testing.conformance import ConformanceReport, run


def run_apart(command: list[str], **options: Any) -> ConformanceReport:
    """As `fastlib.testing.conformance.run`."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(run, command, **options).result()
