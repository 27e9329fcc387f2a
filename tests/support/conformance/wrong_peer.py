"""Our own side of a conformance run with one fault, which its argument names."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import yaml

from fastlib import FastlibError
from fastlib.codec.writer import write_tree
from fastlib.testing.conformance.protocol import PeerAnswer, PeerRequest, type_of
from fastlib.testing.conformance.server import answer as right_answer
from fastlib.testing.conformance.written import scalars_in

known: dict[str, Any] = {}


def right(request: PeerRequest) -> PeerAnswer:
    return right_answer(request, known)


def reading(
    pattern: str, new: str | Callable[[re.Match[str]], str]
) -> Callable[[PeerRequest], PeerAnswer]:
    """Takes something in the text for something else."""
    return lambda request: right(
        PeerRequest(type=request.type, yaml=re.sub(pattern, new, request.yaml, flags=re.MULTILINE))
    )


def refusing(pattern: str, why: str) -> Callable[[PeerRequest], PeerAnswer]:
    """Does not read texts in which something occurs."""
    return lambda request: (
        PeerAnswer(ok=False, error=why) if re.search(pattern, request.yaml) else right(request)
    )


def refusing_scalars(feature: str) -> Callable[[PeerRequest], PeerAnswer]:
    """Does not read texts with a scalar that is written in a certain way."""

    def answer(request: PeerRequest) -> PeerAnswer:
        if any(feature in scalar.features for scalar in scalars_in(request.yaml)):
            return PeerAnswer(ok=False, error=f"cannot read {feature}")
        return right(request)

    return answer


def writing(change: Callable[[Any], Any]) -> Callable[[PeerRequest], PeerAnswer]:
    """Writes another tree than it has read."""

    def answer(request: PeerRequest) -> PeerAnswer:
        found = right(request)
        if not found.ok:
            return found
        tree = known[request.type].from_yaml(request.yaml).emit()
        return PeerAnswer(ok=True, emit=write_tree(changed(tree, change)))

    return answer


def changed(tree: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        tree = {key: changed(item, change) for key, item in tree.items()}
    elif isinstance(tree, list):
        tree = [changed(item, change) for item in tree]
    return change(tree)


def without(key: str) -> Callable[[Any], Any]:
    return lambda tree: (
        {k: item for k, item in tree.items() if k != key} if isinstance(tree, dict) else tree
    )


def swapped(tree: Any) -> Any:
    return [tree[1], tree[0], *tree[2:]] if isinstance(tree, list) and len(tree) > 1 else tree


def with_null(tree: Any) -> Any:
    return {"driver": None} | tree if isinstance(tree, dict) and "vm-name" in tree else tree


def accepting(pattern: str) -> Callable[[PeerRequest], PeerAnswer]:
    """Reads texts that must be refused for a reason, without this check."""

    def answer(request: PeerRequest) -> PeerAnswer:
        found = right(request)
        if found.ok or not re.search(pattern, found.error):
            return found
        try:
            tree = yaml.load(request.yaml.rpartition("---")[0], yaml.BaseLoader)
        except yaml.YAMLError as error:
            return PeerAnswer(ok=False, error=str(error))
        return PeerAnswer(ok=True, emit=write_tree(tree))

    return answer


def failing(pattern: str, fail: Callable[[], None]) -> Callable[[PeerRequest], PeerAnswer]:
    """Fails at texts in which something occurs."""

    def answer(request: PeerRequest) -> PeerAnswer:
        if re.search(pattern, request.yaml):
            fail()
        return right(request)

    return answer


def say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def close_output() -> None:
    os.close(1)
    signal.pause()


def die() -> None:
    sys.exit("assertion failed: driver")


def both(*answers: Callable[[PeerRequest], PeerAnswer]) -> Callable[[PeerRequest], PeerAnswer]:
    """Faults of which each shows where the ones before do not."""

    def answer(request: PeerRequest) -> PeerAnswer:
        expected = right(request)
        found = (answer(request) for answer in answers)
        return next((each for each in found if each != expected), expected)

    return answer


def of_type(
    name: str, answer: Callable[[PeerRequest], PeerAnswer]
) -> Callable[[PeerRequest], PeerAnswer]:
    """A fault of one type only."""
    return lambda request: (answer if request.type == name else right)(request)


def of_key(key: str, change: Callable[[Any], Any]) -> Callable[[PeerRequest], PeerAnswer]:
    """Writes another value for a key in all places."""
    return writing(
        lambda tree: (
            {k: change(item) if k == key else item for k, item in tree.items()}
            if isinstance(tree, dict)
            else tree
        )
    )


def emitting(pattern: str, emit: str) -> Callable[[PeerRequest], PeerAnswer]:
    """Answers the same to all messages in whose text something occurs."""

    def answer(request: PeerRequest) -> PeerAnswer:
        found = right(request)
        is_other = found.ok and re.search(pattern, request.yaml)
        return PeerAnswer(ok=True, emit=emit) if is_other else found

    return answer


def without_falsy(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {key: item for key, item in tree.items() if item not in (False, 0, "")}


def of_texts(change: Callable[[str], str]) -> Callable[[PeerRequest], PeerAnswer]:
    """Writes other texts."""
    return writing(lambda tree: change(tree) if isinstance(tree, str) else tree)


def cut_to_31_bits(tree: Any) -> Any:
    is_integer = isinstance(tree, int) and not isinstance(tree, bool)
    return tree % 2**31 if is_integer else tree


def in_flow_style(request: PeerRequest) -> PeerAnswer:
    """No fault: another layout of the same message."""
    found = right(request)
    if not found.ok:
        return found
    message = known[request.type].from_yaml(request.yaml)
    return PeerAnswer(ok=True, emit=message.to_yaml(style="flow"))


def with_place(request: PeerRequest) -> PeerAnswer:
    """A refusal in words that quote the text, as an exception often has them."""
    found = right(request)
    if found.ok and "driver: " in request.yaml:
        words = f"cannot read {request.yaml.split()} at {len(request.yaml)}"
        return PeerAnswer(ok=False, error=words)
    return found


def unsupported(pattern: str, name: str) -> Callable[[PeerRequest], PeerAnswer]:
    """Reports some texts as unsupported."""
    return lambda request: (
        PeerAnswer(ok=False, unsupported=name)
        if re.search(pattern, f"{request.type} {request.yaml}")
        else right(request)
    )


NO_CARRIAGE_RETURN = of_texts(lambda text: text.replace("\r", ""))
NEGATIVE = reading(r"(?<=process-id: )-1$", "4294967295")

PAIRS: dict[str, tuple[Callable[[PeerRequest], PeerAnswer], ...]] = {
    "loses-one-process-id-and-wraps-another": (
        of_type("Result", writing(without("process-id"))),
        of_type("agent.JobDescription", NEGATIVE),
    ),
    "loses-a-carriage-return-and-cuts-long-texts": (
        NO_CARRIAGE_RETURN,
        of_texts(lambda text: text[:500]),
    ),
    "changes-one-name-and-loses-spaces-of-another": (
        of_type("Suspend", of_key("vm-name", lambda name: name.replace(" ", ""))),
        of_type("Resume", of_key("driver", lambda name: name.replace(" ", ""))),
    ),
    "refuses-comments-and-directives": (
        refusing("(?m)# c$", "no comments"),
        refusing("^%YAML", "no comments"),
    ),
    "refuses-one-option-and-loses-another": (
        of_type("Stop", refusing("force: ", "no")),
        of_type("Stop", writing(without("driver"))),
    ),
}
"""Two faults that must not hide each other."""


def as_json(request: PeerRequest) -> dict[str, Any]:
    """No fault: the message as JSON has it, without a writer of YAML."""
    try:
        cls = type_of(request.type)
        return {"ok": True, "emit": cls.from_yaml(request.yaml).emit()}
    except FastlibError as error:
        return {"ok": False, "error": str(error)}


FAULTS: dict[str, Callable[[PeerRequest], Any]] = {
    "as-json": as_json,
    "drops-a-field": writing(without("driver")),
    "loses-the-id": writing(without("id")),
    "last-of-a-list": writing(lambda tree: tree[:-1] if isinstance(tree, list) else tree),
    "text-as-boolean": reading(r"(?<=: )(yes|on|no|off)$", r"guessed-\1"),
    "hexadecimal": reading(r"(?<=[ \[])0x([0-9]+)(?=[,\]\s]|$)", r"\1"),
    "octal": reading(r"(?<=[ \[])0([0-7]+)(?=[,\]\s]|$)", r"\1"),
    "wraps-minus-one": reading(r"(?<=: )-1$", "4294967295"),
    "exponent": reading('"1e3"', "1000"),
    "no-underscore": reading("retry_counter", "unknown_counter"),
    "last-duplicate": accepting("is a duplicate"),
    "any-choice": accepting("expected one of"),
    "no-trailing-document": refusing(r"\n---\s*$", "a second document"),
    "no-crlf": refusing("\r\n", "a carriage return"),
    "no-byte-order-mark": refusing("\ufeff", "an unexpected character"),
    "no-anchors": refusing("(?<=[ \n])&a0", "anchors are not supported"),
    "no-infinity": writing(
        lambda tree: 0.0 if isinstance(tree, float) and abs(tree) in (float("inf"),) else tree
    ),
    "swaps-entries": writing(swapped),
    "null-for-absent": writing(with_null),
    "loses-carriage-returns": NO_CARRIAGE_RETURN,
    "replaces-noncharacters-in-quotes": of_texts(
        lambda text: (
            re.sub("[\ufdd0-\ufdef\ufffe\uffff]", "\ufffd", text)
            if re.search("[ :\ufeff]", text)
            else text
        )
    ),
    "loses-falsy-values": writing(without_falsy),
    "strips-texts": of_texts(lambda text: text.strip(" ")),
    "cuts-long-texts": of_texts(lambda text: text[:500]),
    "counts-to-31-bits": writing(cut_to_31_bits),
    "reverses-names": of_key("vm-name", lambda name: name[::-1]),
    "lowers-texts": of_texts(str.lower),
    "loses-the-sign-of-zero": writing(
        lambda tree: 0.0 if isinstance(tree, float) and tree == 0 else tree
    ),
    "sorts-destinations": of_key("destinations", sorted),
    "refuses-unknown-keys": refusing("drive: |driverss?: |vm-nam: |vm-names: ", "unknown key"),
    "refuses-comments": refusing("(?m)# c$", "no comments"),
    "quotes-the-text": with_place,
    "one-digit-less": writing(
        lambda tree: float(f"{tree:.6g}") if isinstance(tree, float) else tree
    ),
    "no-hexadecimal-escapes": refusing_scalars("escape-2-digits"),
    "no-escapes": refusing_scalars("escapes"),
    "next-line-escape-as-n": reading(r'(?<=")\\N', "N"),
    "doubles-backslashes": of_texts(lambda text: text.replace("\\", "\\\\")),
    "answers-a-list": emitting("driver: ", "---\n- a\n---"),
    "half-a-pair": emitting("driver: ", "---\nvm-name: \ud800\n---"),
    "adds-a-key": writing(lambda tree: tree | {"extra": 1} if isinstance(tree, dict) else tree),
    "latin-1-for-utf-8": of_texts(lambda text: text.encode("utf-8").decode("latin-1")),
    "in-flow-style": in_flow_style,
    "hangs": failing('driver: "?1e3', signal.pause),
    "is-late": failing('driver: "?1e3', lambda: time.sleep(600)),
    "dies": failing('driver: "?1e3', die),
    "garbage": failing('driver: "?1e3', lambda: say("oops\n")),
    "two-answers": failing('driver: "?1e3', lambda: say('{"ok": false, "error": "?"}\n' * 2)),
    "too-long": failing('driver: "?1e3', lambda: say("x" * (17 * 2**20))),
    "closes": failing('driver: "?1e3', close_output),
}


def main() -> None:
    answer = FAULTS[sys.argv[1]]
    for line in sys.stdin:
        tree = json.loads(line)
        found = answer(PeerRequest(type=tree["type"], yaml=tree["yaml"]))
        if isinstance(found, PeerAnswer):
            words = {"emit": found.emit} if found.ok else {"error": found.error}
            found = {"ok": found.ok, **words}
        say(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
