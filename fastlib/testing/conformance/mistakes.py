"""Names of mistakes, which do not depend on the message that has the mistake."""

from typing import Any

from fastlib.message import Message
from fastlib.testing.mutations import InvalidText

from .aspects import NUMERALS, aspects_of_text
from .cases import of_mistake
from .places import Place, place_at, slug, steps_of
from .trees import at


def name_of_mistake(cls: type[Message], tree: Any, invalid: InvalidText) -> tuple[Place, str]:
    """Return the place of a mistake, and a name that does not depend on the message."""
    path = steps_of(invalid.path)
    place = place_at(cls, tree, path)
    value = at(invalid.tree, path)
    mistake: str = invalid.mistake
    if mistake == "range":
        return place, "negative" if isinstance(value, int) and value < 0 else "too-large"
    if mistake == "word":
        return place, _name_of_word(value)
    if mistake == "kind":
        kinds: dict[type, str] = {list: "list", dict: "mapping"}
        return place, f"{kinds.get(type(value), 'text')}-for-{place.kind}"
    if mistake == "misspelt":
        return place, "unknown-key"
    if mistake == "rule":
        problems = of_mistake(cls, invalid.text, place).problems
        words = next((each.message for each in problems if each.code == "rule"), "")
        return place, slug(f"rule-{words}")
    return place, mistake


def _name_of_word(value: Any) -> str:
    if isinstance(value, str):
        aspects = aspects_of_text(value)
        like = aspects[0].removeprefix("like-") if aspects else ""
        if like in NUMERALS | {"boolean"}:
            return f"word-{slug(value)}"
        if value != value.strip():
            return "word-with-outer-space"
        if like:
            return f"word-{like}"
        if value.isupper():
            return "word-in-upper-case"
    return "word"
