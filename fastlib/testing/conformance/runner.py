"""A run: every type, generated and golden, against one program."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from fastlib.extras import needs_extra
from fastlib.message import Message
from fastlib.testing.registered import check_type

from .cases import golden_cases
from .peer import Peer
from .protocol import type_name
from .protocol import types as all_types
from .report import ConformanceReport, Findings
from .session import Session, StopAsking

EXAMPLES = 50
TIMEOUT = 5.0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is, told before each type."""

    type: str
    number: int
    """From 1."""
    of: int
    requests: int
    differences: int


def run(
    command: Sequence[str],
    *,
    types: Iterable[type[Message]] | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    timeout: float = TIMEOUT,
    allowed: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ConformanceReport:
    """Asks a program for messages of some types, by default of all that are declared.

    Of each type there are so many `examples` in many spellings, as many with a mistake, and the
    golden vectors; for one `seed` the same ones each time. `timeout` is for each answer, in
    seconds. `allowed` has names of differences, each with why it is allowed.

    Raises CannotStartError, and MissingExtraError where Hypothesis is not installed.
    """
    # Not at the top, as the other side, `serve`, does without Hypothesis.
    with needs_extra("a conformance run", "hypothesis"):
        from .generation import ask_generated

    chosen = all_types() if types is None else [check_type(cls) for cls in types]
    findings = Findings()
    report = ConformanceReport(
        command=list(command), seed=seed, examples=examples, types=[type_name(c) for c in chosen]
    )
    with Peer(command, timeout=timeout) as peer:
        session = Session(peer, findings)
        steps = [*((cls, False) for cls in chosen), *((cls, True) for cls in chosen)]
        # The golden vectors are last, so that they are found to be instances of what is known.
        for number, (cls, is_golden) in enumerate(steps, 1):
            if progress is not None:
                progress(
                    Progress(
                        type=type_name(cls),
                        number=number,
                        of=len(steps),
                        requests=session.requests,
                        differences=len(findings),
                    )
                )
            if is_golden:
                _ask_golden(session, cls)
            else:
                ask_generated(session, cls, examples=examples, number=seed)
            if session.given_up:
                break
        report.requests = session.requests
        report.unfinished = session.unfinished
        report.given_up = session.given_up
    findings.finish(report, allowed or {})
    return report


def _ask_golden(session: Session, cls: type[Message]) -> None:
    try:
        for case in golden_cases(cls):
            session.ask(case)
    except StopAsking:
        session.leave(cls)
