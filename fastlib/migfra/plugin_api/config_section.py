"""Declare a part of the configuration: its base class, and types of values.

A hypervisor declares its options in the same way as the daemon its own sections::

    class MyOptions(ConfigSection):
        rules = (Positive("timeout"),)

        timeout: Annotated[Seconds, Wire("How long a host may take to answer.", unit="s")] = 10.0

`fastlib.codec` has `Wire` and the rules.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, dataclass_transform

import msgspec
from msgspec import Meta

from fastlib.codec.check import check
from fastlib.codec.rules import Rule
from fastlib.message.base import DeclarationMeta, Serializable

Count = Annotated[int, Meta(ge=1, le=100_000)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = float


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class ConfigSection(
    Serializable, msgspec.Struct, metaclass=DeclarationMeta, frozen=True, repr_omit_defaults=True
):
    """Base of every part of the configuration: declared like a message, but never sent.

    Values are checked when a section is constructed and when it is loaded; both raise
    `ValidationError` with every problem.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules between the fields."""
    example: ClassVar[str] = ""
    """A mapping in YAML, such as `{path: /var/lib/x}`, for the error about another value.
    """
    example_key: ClassVar[str | None] = None
    """The key that probably needs the text if a text is given in place of the mapping."""

    @classmethod
    def __declare__(cls) -> None:
        """Accept no keyword in the class statement: a section has no title."""

    if not TYPE_CHECKING:
        __post_init__ = check
