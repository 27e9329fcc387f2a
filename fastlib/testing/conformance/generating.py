"""Generated messages: asked until nothing new is found, each difference shrunk to its smallest.

This needs Hypothesis; the rest of the package does not.
"""

import zlib
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from ...message import Message
from .. import strategies
from .asking import Asking, Enough
from .cases import Case, of_mistake
from .protocol import type_name

MOST_ROUNDS = 12
"""So many series at most of one type, each of which passes over what the others found."""
MOST_FOUND = 100
"""After so many differences a new one is still kept, but not made small."""


class _Differs(Exception):
    """A difference; each has a class of its own, as Hypothesis shrinks each class by itself."""


@st.composite
def _spellings(draw: st.DrawFn, cls: type[Message]) -> Case:
    message = draw(strategies.from_message(cls))
    text = draw(strategies.yaml_texts(message))
    return Case(source="spelling", cls=cls, text=text, message=message)


def _mistakes(cls: type[Message]) -> st.SearchStrategy[Case]:
    return strategies.invalid(cls).map(lambda invalid: of_mistake(cls, invalid))


def ask_generated(asking: Asking, cls: type[Message], *, examples: int, number: int) -> None:
    """Asks for so many examples of a type, right ones and wrong ones; `number` is the seed."""
    for what, cases in (("spellings", _spellings(cls)), ("mistakes", _mistakes(cls))):
        settled: set[str] = set()
        for turn in range(MOST_ROUNDS):
            words = f"{number}/{type_name(cls)}/{what}/{turn}"
            new = _series(asking, cases, examples, zlib.crc32(words.encode()), settled)
            if asking.given_up or not new:
                break
            settled |= new


def _series(
    asking: Asking, cases: st.SearchStrategy[Case], examples: int, number: int, settled: set[str]
) -> set[str]:
    """The names of what was found, beside what is `settled` and what other types have shown."""
    kinds: dict[str, type[_Differs]] = {}
    before = set(asking.findings.names())

    @seed(number)
    @settings(
        max_examples=examples,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=True,
        print_blob=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def one(case: Case) -> None:
        name = asking.ask(case)
        if name is None or name in settled or name in before or len(before) >= MOST_FOUND:
            return
        kind = kinds.setdefault(name, type("_Differs", (_Differs,), {}))
        raise kind(name)

    run: Any = one
    try:
        run()
    except (_Differs, Flaky, Enough):
        pass  # the smallest text of each was kept when it was asked
    except BaseExceptionGroup as group:
        others = group.split((_Differs, Flaky))[1]
        if others is not None:
            raise others from None
    return set(kinds)
