"""`Wire`, the annotation of a field: everything about it on the wire that its type cannot say."""

import msgspec

from .errors import DeclarationError


class Wire(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """What the wire says of a field beyond its type: `Annotated[…, Wire("…", unit="KiB")]`.

    The wire key itself is the attribute's name in kebab-case, or `msgspec.field(name=…)`.
    """

    doc: str = ""
    """What the field means, one sentence; schemas, `describe` and the reference show it."""
    unit: str = ""
    """The unit of a number, such as KiB."""
    aliases: tuple[str, ...] = ()
    """Other keys that are understood; never written."""
    old: dict[str, str] = {}
    """Keys that once stood for this field and are not understood, with the remedy for each."""
    old_scalar: str | None = None
    """For a mapping: a bare text is understood as this key's value, with a warning."""
    empty_is_absent: bool = False
    """An empty text or list means the same as none, as it does to the C++ peers."""
    hex_digits: int = 0
    """For an integer: written as text, `0x` and that many digits."""
    own_check: bool = False
    """The struct's own `__post_init__` checks the field."""
    pairs: bool = False
    """For a mapping with free keys: a list of one-entry mappings is understood, too."""

    def __post_init__(self) -> None:
        if not isinstance(self.aliases, tuple) or not isinstance(self.doc, str):
            raise DeclarationError('Wire takes a text and keywords: Wire("…", aliases=("name",))')
