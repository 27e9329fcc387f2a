"""Check everything that a start of the daemon needs: for the start and for `--check`."""

from .findings import Finding, StartUp
from .own_topics import Missing, undelivered_topics
from .parts import ask_hypervisor
from .steps import STEPS, Step, find_problems

__all__ = [
    "STEPS",
    "Finding",
    "Missing",
    "StartUp",
    "Step",
    "ask_hypervisor",
    "find_problems",
    "undelivered_topics",
]
