"""`Wire`, the annotation of a field: its properties on the wire that its type cannot express."""

import msgspec

from .errors import DeclarationError


class Wire(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Describes a field on the wire: `Annotated[…, Wire("…", unit="KiB")]`.

    The wire key is the name of the attribute in kebab-case, or that of `msgspec.field(name=…)`.
    """

    doc: str = ""
    """The meaning of the field, in one sentence, for schemas, `describe` and the reference."""
    unit: str = ""
    """The unit of a number, such as KiB."""
    aliases: tuple[str, ...] = ()
    """Other keys that are read as this field; they are never written."""
    old: dict[str, str] = {}
    """Obsolete keys of this field, which are not read. The value is the advice for the error."""
    refuses_old: bool = False
    """A message with one of the keys in `old` is an error for every reader, because it would mean
    less without that key. By default such a key is ignored like an unknown one."""
    old_scalar: str | None = None
    """For a mapping: a bare text is read as the value of this key, with a warning."""
    empty_is_absent: bool = False
    """An empty text, list or mapping means the same as no value, like for the C++ peers."""
    null_is_empty: bool = False
    """For a mapping with free keys: null is read as an empty one, with a warning."""
    decimals: int | None = None
    """For a float: it is rounded to this number of decimals."""
    hex_digits: int = 0
    """For an integer: it is written as a text, `0x` and this number of digits."""
    own_check: bool = False
    """The `__post_init__` of the struct checks the field itself."""
    pairs: bool = False
    """For a mapping with free keys: a list of mappings with one entry is also read."""

    def __post_init__(self) -> None:
        if not isinstance(self.aliases, tuple) or not isinstance(self.doc, str):
            raise DeclarationError('Wire takes a text and keywords: Wire("…", aliases=("name",))')

    def __hash__(self) -> int:
        """Return a hash in spite of the dictionary `old`; `Annotated[…] | None` needs one."""
        return hash((self.doc, self.unit, self.aliases))
