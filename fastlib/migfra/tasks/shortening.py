"""Shorten an answer that is too large for the broker. Pure functions.

The id, the titles, the domains and the status of each result stay. The details are cut, and a note
in them gives the size of the whole answer.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from fastlib.codec.errors import MessageError, ValidationError
from fastlib.message import HistoryResult, Result, ResultContainer

from .results import write

DETAILS: Final = (4000, 1000, 200, 50, 0)
"""Characters of each result's details that are tried, one after the other."""

SMALLER: Final = 4
"""Share of the size to try if the broker's limit is not known."""

LEAST: Final = 256
"""Bytes below which an answer is not shortened further."""


def room_for(payload: int, packet: int, limit: int | None) -> int:
    """Return how many bytes an answer may have after one of `payload` bytes was too large.

    `packet` is the size of its packet, and `limit` that of the largest packet if it is known.
    """
    if limit is None:
        return payload // SMALLER
    return limit - (packet - payload)


def shortened(payload: bytes, most: int) -> bytes | None:
    """Return an answer with the same meaning that has at most `most` bytes.

    None if there is none, or the answer cannot be read.
    """
    if most < LEAST:
        return None
    try:
        answer = ResultContainer.from_yaml(payload)
    except MessageError:  # of a plug-in that was removed
        return None
    note = (
        f"shortened: the whole answer has {len(payload)} bytes, and the broker accepts at most "
        f"{most}"
    )
    for results in _versions(answer.results, note):
        try:
            text = write(msgspec.structs.replace(answer, results=results))
        except ValidationError:  # this kind of result needs what was left out
            continue
        if len(text) <= most:
            return text
    return None


def _versions(results: Sequence[Result], note: str) -> Iterator[Sequence[Result]]:
    """Yield shorter and shorter versions of the results."""
    yield from _with_fewer_orders(results, note)
    for characters in DETAILS:
        yield [_cut(result, characters, note, whole=True) for result in results]
        yield [_cut(result, characters, note) for result in results]
    brief = [_cut(result, 0, note if at == 0 else "") for at, result in enumerate(results)]
    yield brief
    count = len(brief) // 2
    while count:
        left = f"{note}; {len(brief) - count} more results are left out"
        yield [_cut(results[0], 0, left), *brief[1:count]]
        count //= 2


def _with_fewer_orders(results: Sequence[Result], note: str) -> Iterator[Sequence[Result]]:
    """Yield reports of the history with fewer orders, the newest."""
    if len(results) != 1:
        return
    (result,) = results
    if not isinstance(result, HistoryResult) or result.history is None:
        return
    count = len(result.history.orders) // 2
    while count:
        history = msgspec.structs.replace(
            result.history, orders=result.history.orders[:count], more=True
        )
        yield [msgspec.structs.replace(result, history=history, details=note)]
        count //= 2


def _cut(result: Result, characters: int, note: str, *, whole: bool = False) -> Result:
    """Return a result with at most `characters` of its details, and the note if it was cut.

    Only with `whole` are fields kept that its type has in addition to those of `Result`.
    """
    details = result.details or ""
    if whole and len(details) <= characters:
        return result
    if len(details) > characters:
        details = f"{details[:characters]}…" if characters else ""
    text = f"{details} [{note}]" if details and note else details or note or None
    if whole:
        return msgspec.structs.replace(result, details=text)
    return type(result)(
        vm_name=result.vm_name, status=result.status, details=text, process_id=result.process_id
    )
