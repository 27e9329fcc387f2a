"""The base of every message: its declaration, loading and writing."""

import sys
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform

import msgspec

from fastlib.codec import dispatch
from fastlib.codec.check import check
from fastlib.codec.constructor_arguments import construct
from fastlib.codec.derivation import shape_of
from fastlib.codec.dispatch import Style
from fastlib.codec.errors import DeclarationError
from fastlib.codec.limits import Limits
from fastlib.codec.load_context import Unknown
from fastlib.codec.rules import Rule
from fastlib.codec.shapes import Shape

from .annotations import body_annotations
from .registry import REGISTRY, check_title, register
from .topics import Topic


def _class_doc(cls: type[Any]) -> str | None:
    from .class_doc import class_doc  # slow to import, and only help needs it

    return class_doc(cls)


def _signature_of(cls: type[Any]) -> Any:
    from .class_doc import signature_of

    return signature_of(cls)


_CLASS_DOC = property(_class_doc)
"""The docstring of each class: its own, and its fields. See `class_doc`."""


class DeclarationMeta(msgspec.StructMeta):
    # Makes a message, or a section of a configuration, keyword-only, immutable and kebab-case. It
    # passes a class statement's keywords beyond msgspec's to `__declare__`. It has no docstring,
    # because `__doc__` of a metaclass is that of its classes.

    if not TYPE_CHECKING:
        __doc__ = _CLASS_DOC
        __signature__ = property(_signature_of)

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> "DeclarationMeta":
        # Messages are trees of immutable values, so the garbage collector need not track them.
        extensions = {getattr(base, "__extensions__", None) for base in bases}
        for attribute, hint in body_annotations(namespace).items():
            if attribute in _RESERVED | extensions and "ClassVar" not in str(hint):
                raise DeclarationError(
                    f"{name}.{attribute}: every message reserves this name; use another "
                    f"and give the key by msgspec.field(name={attribute!r})"
                )
        # The package's own containers check their members first, and call `check` themselves.
        given = namespace.get("__post_init__", check)
        if given is not check and not namespace["__module__"].startswith(__package__):
            raise DeclarationError(
                f"{name}: __post_init__ is how every message is checked; write a Rule instead"
            )
        if options.get("frozen") is False:
            raise DeclarationError(f"{name}: a message does not change; leave frozen out")
        struct: dict[str, Any] = {
            "kw_only": True,
            "frozen": True,
            "rename": "kebab",
            "gc": False,
        }
        declared: dict[str, Any] = {}
        for option, value in options.items():
            (struct if option in _STRUCT_OPTIONS else declared)[option] = value
        cls: Any = super().__new__(mcls, name, bases, namespace, **struct)
        if declared or any(getattr(base, "__needs_declaration__", False) for base in bases):
            try:
                cls.__declare__(**declared)
            except TypeError as error:
                if isinstance(error, DeclarationError):
                    raise
                what = str(error).rpartition("() ")[2]
                raise DeclarationError(f"{name}: the class statement's keywords: {what}") from None
        new: DeclarationMeta = cls
        return new

    if not TYPE_CHECKING:  # type checkers derive the constructor from the fields
        __call__ = construct


class MessageMeta(DeclarationMeta):
    # Registers every message that is declared.

    if not TYPE_CHECKING:
        __doc__ = _CLASS_DOC

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> "MessageMeta":
        cls: Any = super().__new__(mcls, name, bases, namespace, **options)
        REGISTRY.messages[cls.__module__, cls.__qualname__] = cls
        new: MessageMeta = cls
        return new


_RESERVED = frozenset(
    {"declaration", "emit", "from_yaml", "load", "raise_for_status", "rules", "to_yaml"}
)

_STRUCT_OPTIONS = frozenset(
    {
        "array_like", "cache_hash", "dict", "eq", "forbid_unknown_fields", "frozen", "gc",
        "kw_only", "omit_defaults", "order", "rename", "repr_omit_defaults", "tag", "tag_field",
        "weakref",
    }
)  # fmt: skip


class Serializable:
    """Load a message, or a part of one, from YAML or a plain tree, and write it."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Hypothesis, where it is installed, must know each type.
        plugin = sys.modules.get("fastlib_plugins.for_hypothesis")
        if plugin is not None:
            plugin.declared(cls)

    def emit(self) -> Any:
        """Return the message as a plain tree with wire keys. Absent members are left out."""
        return shape_of(type(self)).dump(self)

    @classmethod
    def load(cls, tree: Any, *, unknown: Unknown = "ignore", limits: Limits | None = None) -> Self:
        """Return the message of a plain tree, such as `emit` returns. Raises ValidationError."""
        value: Self = dispatch.read_tree(
            shape_of(cls), tree, what=cls.__name__, unknown=unknown, limits=limits
        )
        return value

    def to_yaml(self, *, style: Style = "block") -> str:
        """Return the message as YAML.

        `block` is fast-lib's layout. `literal` is the same, with texts of several lines as readable
        literal blocks. `flow` is one line.
        """
        return dispatch.write(self, shape_of(type(self)), style)

    @classmethod
    def from_yaml(
        cls, text: str | bytes, *, unknown: Unknown = "ignore", limits: Limits | None = None
    ) -> Self:
        """Return the message of a text. Only its first document counts, as on the wire.

        `unknown` decides about unknown keys: `ignore`, `warn` by an `UnknownKeyWarning`, or
        `error`.

        Raises ParseError, ValidationError and LimitError, each naming every problem with its path,
        line and column.
        """
        value: Self = dispatch.read(shape_of(cls), text, cls.__name__, unknown, limits)
        return value


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Message(
    Serializable, msgspec.Struct, metaclass=MessageMeta, frozen=True, repr_omit_defaults=True
):
    """A message: immutable, with keyword-only members; None for an absent member.

    Construction and loading check all values. Both raise `ValidationError` with every problem.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules that concern several fields."""
    __topics__: ClassVar[tuple[Topic, ...]] = ()
    """The topics on which messages of exactly this type travel; a part of messages has none."""

    @classmethod
    def __declare__(cls, **keywords: Any) -> None:
        """Handle the class statement's keywords. Raises DeclarationError or TypeError."""
        cls.__set_title(**keywords)

    @classmethod
    def __set_title(cls, *, task: str, write_title: bool = True) -> None:
        """`task` is the title that the message begins with; it may be missing on the wire where the
        type is known. Without `write_title` it is only read, never written."""
        check_title("task", task, cls)
        type.__setattr__(cls, "__title__", ("task", task))
        type.__setattr__(cls, "__title_is_written__", write_title)
        check_shape(cls)
        register("task", task, cls)

    if not TYPE_CHECKING:
        __post_init__ = check  # the function itself, as a call more would cost every message


def check_shape(cls: type[Any]) -> Shape | None:
    """Return the shape of a newly declared class. Raises DeclarationError if it has none.

    Return None if the hints contain names that are not defined yet; they are checked at the first
    use. Return None also for the package's own classes, which tests check: deriving all their
    shapes takes longer than reading a message.
    """
    if cls.__module__.startswith(f"{__package__}."):
        return None
    try:
        return shape_of(cls)
    except NameError:
        return None
