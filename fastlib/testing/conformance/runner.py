"""Run every type, with generated and golden texts, against one program."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec

from fastlib.extras import needs_extra
from fastlib.message import Message
from fastlib.testing.registered import check_type

from .cases import golden_cases
from .peer import Peer
from .protocol import PeerAnswer, PeerRequest, type_name
from .protocol import types as all_types
from .report import ConformanceReport, Findings
from .session import Asked, Session, StopAsking

EXAMPLES = 50
SHORT = 5
"""With fewer examples a run is short: it leaves out the long list of odd texts."""
TIMEOUT = 5.0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a run, reported before each type."""

    type: str
    number: int
    """From 1."""
    of: int
    requests: int
    differences: int


def run(
    command: Sequence[str] | Callable[[PeerRequest], PeerAnswer],
    *,
    types: Iterable[type[Message]] | None = None,
    examples: int = EXAMPLES,
    seed: int = 0,
    timeout: float = TIMEOUT,
    allowed: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ConformanceReport:
    """Test a program with messages of some types, by default of all declared ones.

    For each type, every place is tested with every value that readers are known to get wrong, every
    spelling and every mistake. Then come `examples` random messages, the same ones for the same
    `seed`, and then the golden vectors. `timeout` is for each answer, in seconds. `allowed` has
    names of differences with the reasons why they are allowed. Instead of a command, a function in
    this process can answer.

    Raises CannotStartError, and MissingExtraError if Hypothesis is not installed.
    """
    # Not at the top, because the other side, `serve`, works without Hypothesis.
    with needs_extra("a conformance run", "hypothesis"):
        from .generation import ask_generated
        from .systematic import Systematic

    chosen = all_types() if types is None else [check_type(cls) for cls in types]
    findings = Findings()
    words = [getattr(command, "__name__", "a function")] if callable(command) else list(command)
    report = ConformanceReport(
        command=words, seed=seed, examples=examples, types=[type_name(c) for c in chosen]
    )
    with _peer(command, timeout) as peer:
        session = Session(peer, findings)
        systematic = Systematic(session, chosen, is_short=examples < SHORT)
        stages: list[Callable[[type[Message]], None]] = [
            systematic.ask_places,
            systematic.ask_again,
            systematic.ask_mistakes,
            systematic.ask_spellings,
            systematic.ask_text_spellings,
            partial(ask_generated, session, systematic, examples=examples, number=seed),
            partial(_ask_golden, session),
        ]
        # A whole stage first: its faults explain many faults of the next one.
        steps = [(stage, cls) for stage in stages for cls in chosen]
        for number, (stage, cls) in enumerate(steps, 1):
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
            try:
                stage(cls)
            except StopAsking:
                session.leave(cls)
            if session.given_up:
                break
        session.finish()
        report.requests = session.requests
        report.unsupported = session.unsupported
        report.unfinished = session.unfinished
        report.given_up = session.given_up
    findings.finish(report, allowed or {})
    return report


class _Function:
    """A function that answers instead of a program."""

    def __init__(self, function: Callable[[PeerRequest], PeerAnswer]) -> None:
        self._function = function

    def ask(self, request: PeerRequest) -> PeerAnswer:
        return self._function(request)


@contextmanager
def _peer(
    command: Sequence[str] | Callable[[PeerRequest], PeerAnswer], timeout: float
) -> Iterator[Asked]:
    if callable(command):
        yield _Function(command)
    else:
        with Peer(command, timeout=timeout) as peer:
            yield peer


def _ask_golden(session: Session, cls: type[Message]) -> None:
    for case in golden_cases(cls):
        for fault in session.judge(case):
            session.findings.add_golden(fault, case)
