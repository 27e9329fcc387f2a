"""fastlib's side: read requests with any content, and answer them."""

from typing import BinaryIO

from fastlib.codec.errors import FastlibError
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.message import Message

from .protocol import LineError, PeerAnswer, PeerRequest, read_request, type_of, write_answer

LONGEST_LINE = 12 * DEFAULT_LIMITS.max_bytes
"""JSON may need twelve characters for one. A longer line cannot contain a message."""


def serve(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Answer each line until the end of the input."""
    known: dict[str, type[Message]] = {}  # finding a type by its name is slow
    while line := stdin.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stdin.readline(LONGEST_LINE)
            answer = PeerAnswer(ok=False, error="the line is too long")
        else:
            answer = _answer(line, known)
        stdout.write(write_answer(answer))
        stdout.flush()


def _answer(line: bytes, known: dict[str, type[Message]]) -> PeerAnswer:
    try:
        request = read_request(line)
    except LineError as error:
        return PeerAnswer(ok=False, error=f"the request is invalid: {error}")
    return answer(request, known)


def answer(request: PeerRequest, known: dict[str, type[Message]]) -> PeerAnswer:
    """Return fastlib's answer. `known` is a cache of types."""
    try:
        cls = known.get(request.type)
        if cls is None:
            cls = known[request.type] = type_of(request.type)
        return PeerAnswer(ok=True, emit=cls.from_yaml(request.yaml).to_yaml())
    except FastlibError as error:
        return PeerAnswer(ok=False, error=str(error))
