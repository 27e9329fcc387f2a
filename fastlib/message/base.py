"""The base of every message: how one is declared, loaded and written."""

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
    from .class_doc import class_doc  # takes long to import, and only help needs it

    return class_doc(cls)


def _signature_of(cls: type[Any]) -> Any:
    from .class_doc import signature_of

    return signature_of(cls)


_CLASS_DOC = property(_class_doc)
"""The docstring of each class: its own, and its fields. See `class_doc`."""


class DeclarationMeta(msgspec.StructMeta):
    # Makes a message, or a section of a configuration, keyword-only, immutable and kebab-case. The
    # keywords that a class statement takes beyond msgspec's are handed to its `__declare__`.
    # It has no docstring, because `__doc__` of a metaclass is that of its classes.

    if not TYPE_CHECKING:
        __doc__ = _CLASS_DOC
        __signature__ = property(_signature_of)

    def __new__(
        mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> "DeclarationMeta":
        # Messages are trees of immutable values, so the garbage collector need not look at them.
        extensions = {getattr(base, "__extensions__", None) for base in bases}
        for attribute, hint in body_annotations(namespace).items():
            if attribute in _RESERVED | extensions and "ClassVar" not in str(hint):
                raise DeclarationError(
                    f"{name}.{attribute}: every message has something of that name; take another "
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
        # Only there where Hypothesis is, which wants to know of each type.
        plugin = sys.modules.get("fastlib_plugins.for_hypothesis")
        if plugin is not None:
            plugin.declared(cls)

    def emit(self) -> Any:
        """The message as a plain tree with wire keys; absent members are left out."""
        return shape_of(type(self)).dump(self)

    @classmethod
    def load(cls, tree: Any, *, unknown: Unknown = "ignore", limits: Limits | None = None) -> Self:
        """The message of a plain tree, as `emit` gives one. Raises ValidationError."""
        value: Self = dispatch.read_tree(
            shape_of(cls), tree, what=cls.__name__, unknown=unknown, limits=limits
        )
        return value

    def to_yaml(self, *, style: Style = "block") -> str:
        """The message as YAML.

        `block` is how fast-lib lays it out, `literal` the same with several lines of text as a
        literal block for people to read, `flow` all of it on one line.
        """
        return dispatch.write(self, shape_of(type(self)), style)

    @classmethod
    def from_yaml(
        cls, text: str | bytes, *, unknown: Unknown = "ignore", limits: Limits | None = None
    ) -> Self:
        """The message of a text: of its first document, as on the wire.

        `unknown` says what happens to a key that nobody reads: `ignore`, `warn` by an
        `UnknownKeyWarning`, or `error`.

        Raises ParseError, ValidationError and LimitError, each naming every problem with its path,
        line and column.
        """
        value: Self = dispatch.read(shape_of(cls), text, cls.__name__, unknown, limits)
        return value


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Message(
    Serializable, msgspec.Struct, metaclass=MessageMeta, frozen=True, repr_omit_defaults=True
):
    """What travels: immutable, its members given by keyword, None for what is absent.

    Values are checked when a message is constructed, as they are when one is loaded; both raise
    `ValidationError` with every problem.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules between the fields."""
    __topics__: ClassVar[tuple[Topic, ...]] = ()
    """Where messages of this very type travel; a part of messages has none."""

    @classmethod
    def __declare__(cls, **keywords: Any) -> None:
        """Takes the class statement's keywords. Raises DeclarationError or TypeError."""
        cls.__set_title(**keywords)

    @classmethod
    def __set_title(cls, *, task: str, write_title: bool = True) -> None:
        """`task` is the title that the message begins with; it may be missing on the wire where
        the type is known. Without `write_title` it is read, and never written."""
        check_title("task", task, cls)
        type.__setattr__(cls, "__title__", ("task", task))
        type.__setattr__(cls, "__title_is_written__", write_title)
        check_shape(cls)
        register("task", task, cls)

    if not TYPE_CHECKING:
        __post_init__ = check  # the function itself, as a call more would cost every message


def check_shape(cls: type[Any]) -> Shape | None:
    """The shape of a class that has just been declared. Raises DeclarationError if it has none.

    None for hints that name what is not defined yet; those are looked at when they are first used.
    None also for the package's own classes, which tests check: to derive the shapes of all of them
    takes longer than to read a message.
    """
    if cls.__module__.startswith(f"{__package__}."):
        return None
    try:
        return shape_of(cls)
    except NameError:
        return None
