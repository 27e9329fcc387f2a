"""Constructors report every wrong argument at once, as a TypeError with the class and remedies."""

import copy
import inspect
import pickle
import pydoc
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import msgspec
import pytest

import fastlib
from fastlib import (
    ArgumentError,
    Evacuate,
    FastlibError,
    Message,
    Migrate,
    MigrateParameter,
    Start,
    Suspend,
    Task,
    TaskContainer,
    ValidationError,
)
from fastlib.codec import Rule, Wire
from fastlib.codec.derivation import fields_of
from fastlib.codec.own_doc import own_doc
from fastlib.message.describe import message_types
from fastlib.migfra import ConfigSection
from fastlib.testing import isolated_registry


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(TypeError) as caught:
        call()
    assert isinstance(caught.value, ArgumentError)
    assert isinstance(caught.value, FastlibError)
    return str(caught.value)


def test_all_missing_arguments_are_named() -> None:
    assert refusal(lambda: Migrate()) == (
        "Migrate: 2 problems\n"
        "  vm_name: missing; expected text\n"
        "  destination: missing; expected text"
    )


def test_unknown_argument_names_the_nearest() -> None:
    text = refusal(lambda: Start(vm_name="vm1", vcpu=2))
    assert text == "Start: vcpu: unknown argument (did you mean 'vcpus'?)"


def test_wrong_word_names_the_nearest() -> None:
    with pytest.raises(ValidationError) as caught:
        MigrateParameter(migration_type="lve")
    assert str(caught.value) == (
        "MigrateParameter: migration-type: expected one of live, warm, offline; got 'lve' "
        "(did you mean 'live'?)"
    )
    assert "(did you mean 'live'?)" in refusal(
        lambda: MigrateParameter(migration_type="lve", onething=1)
    )


def test_wrong_number_is_reported_with_its_unit() -> None:
    words = "memory: expected an integer from 0 to 18446744073709551615, in KiB; got '4 GiB'"
    with pytest.raises(ValidationError) as caught:
        Start(vm_name="vm1", memory="4 GiB")
    assert str(caught.value) == f"Start: {words}"
    assert words in refusal(lambda: Start(vm_name="vm1", memory="4 GiB", onething=1))
    (problem,) = fastlib.validate(
        "{task: start vm, vm-configurations: [{vm-name: vm1, memory: 4 GiB}]}"
    ).problems
    assert f"memory: {problem.message}" == words


def test_unknown_and_missing_and_wrong_values_are_reported_together() -> None:
    text = refusal(lambda: Migrate(vm_name=3, destnation="b", onething=1))
    assert text == (
        "Migrate: 4 problems\n"
        "  destnation: unknown argument (did you mean 'destination'?)\n"
        "  onething: unknown argument\n"
        "  vm_name: expected text; got 3\n"
        "  destination: missing; expected text; there is 'destnation' instead"
    )


def test_wrong_value_inside_a_list_has_its_place() -> None:
    text = refusal(lambda: Evacuate(destinations=["a", 5], mod="auto"))
    assert "  destinations[1]: expected text; got 5" in text


def test_wrong_value_deep_in_lists_has_its_place() -> None:
    text = refusal(lambda: Start(vm_name="a", vcpu_map=[[0], [1, "x"]], onething=1))
    assert "\n  vcpu_map[1][1]: expected an integer from 0 to 4294967295; got 'x'" in text


def test_none_for_a_required_argument_is_a_wrong_value() -> None:
    text = refusal(lambda: Migrate(vm_name=None, destination="b", onething=1))
    assert text == (
        "Migrate: 2 problems\n  onething: unknown argument\n  vm_name: expected text; got None"
    )
    with pytest.raises(ArgumentError) as caught:
        Migrate(vm_name=None, destination="b", onething=1)
    assert [(p.path, p.expected, p.got) for p in caught.value.problems] == [
        ("onething", None, None),
        ("vm_name", "text", "None"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("q" * 60, "q" * 60),
        ("q" * 61, f"'{'q' * 40}'… (61 characters)"),
        ("q q", "'q q'"),
    ],
)
def test_unknown_argument_is_quoted_if_it_is_long_or_no_name(name: str, shown: str) -> None:
    text = refusal(lambda: Start(vm_name="a", **{name: 1}))
    assert text == f"Start: {shown}: unknown argument"


def test_argument_of_an_inner_struct_is_sent_there() -> None:
    text = refusal(lambda: Migrate(vm_name="a", destination="b", migration_type="live"))
    assert text == (
        "Migrate: migration_type: unknown argument; it belongs to parameter: "
        "parameter=MigrateParameter(migration_type=…)"
    )
    text = refusal(lambda: Migrate(vm_name="a", destination="b", on_timout="abort"))
    assert "parameter=MigrateParameter(on_timeout=…)" in text


@pytest.mark.parametrize("name", ["name", "vm-name", "VM_NAME", "vm_nam"])
def test_old_wire_and_misspelt_names_lead_to_the_argument(name: str) -> None:
    text = refusal(lambda: Suspend(**{name: "vm1"}))
    assert "unknown argument (did you mean 'vm_name'?)" in text
    assert f"vm_name: missing; expected text; there is {name!r} instead" in text


def test_arguments_without_names_are_refused_with_the_name() -> None:
    assert refusal(lambda: Suspend("vm1")) == (
        "Suspend: 2 problems\n"
        "  arguments must have names, such as vm_name=…; without a name came 'vm1'\n"
        "  vm_name: missing; expected text"
    )
    assert refusal(lambda: Start("vm1", 2, vm_name="a")) == (
        "Start: arguments must have names, such as vm_name=…; without a name came 'vm1', 2"
    )


@pytest.mark.parametrize(("count", "shown"), [(3, "1, 2, 3"), (4, "1, 2, 3, …"), (5, "1, 2, 3, …")])
def test_first_three_arguments_without_names_are_shown(count: int, shown: str) -> None:
    text = refusal(lambda: Start(*range(1, count + 1), vm_name="a"))
    assert (
        text == f"Start: arguments must have names, such as vm_name=…; without a name came {shown}"
    )


def test_struct_without_fields_suggests_no_name() -> None:
    class Empty(ConfigSection):
        pass

    with pytest.raises(ArgumentError) as caught:
        Empty("a")
    assert str(caught.value) == "Empty: arguments must have names; without a name came 'a'"
    assert [problem.code for problem in caught.value.problems] == ["positional-argument"]


def test_old_and_other_keys_lead_to_the_argument_however_different() -> None:
    class Options(ConfigSection):
        url: Annotated[str, Wire("Where.", old={"broker": "use url"}, aliases=("host",))]

    for name in ("broker", "host"):
        assert refusal(lambda name=name: Options(**{name: "a"})) == (
            "Options: 2 problems\n"
            f"  {name}: unknown argument (did you mean 'url'?)\n"
            f"  url: missing; expected text; there is {name!r} instead"
        )


def test_class_may_have_bases_that_are_no_structs() -> None:
    class Plain:
        __slots__ = ()

    class Options(ConfigSection, Plain):
        url: str

    assert refusal(lambda: Options()) == "Options: url: missing; expected text"


def test_long_arguments_are_shortened() -> None:
    text = refusal(lambda: Start(*["x" * 10_000] * 5, **{"y" * 10_000: 1}, vm_name="a"))
    assert len(text) < 500
    assert ", …" in text


def test_control_characters_are_escaped() -> None:
    assert "\x1b" not in refusal(lambda: Start("\x1b[2J", **{"\x1b[2J": 1}))


def test_container_and_extensions_are_known_names() -> None:
    text = refusal(lambda: Start(vm_name="a", extension=[]))
    assert "did you mean 'extensions'" in text
    text = refusal(lambda: TaskContainer(taks=[]))
    assert "tasks: missing" in text


def test_problems_are_data() -> None:
    with pytest.raises(ArgumentError) as caught:
        Migrate(vm_name="a", destnation="b")
    assert caught.value.what == "Migrate"
    assert [(p.path, p.code, p.suggestion, p.expected) for p in caught.value.problems] == [
        ("destnation", "unknown-argument", "destination", None),
        ("destination", "missing", None, "text"),
    ]


def test_sections_of_a_configuration_report_in_the_same_way() -> None:
    class Options(ConfigSection):
        url: Annotated[str, Wire("Where.")]
        timeout: Annotated[float, Wire("How long.", unit="s")] = 1.0

    assert refusal(lambda: Options(timout=2.0)) == (
        "Options: 2 problems\n"
        "  timout: unknown argument (did you mean 'timeout'?)\n"
        "  url: missing; expected text"
    )


def test_wrong_values_alone_stay_a_validation_error() -> None:
    with pytest.raises(ValidationError):
        Suspend(vm_name=3)


def test_type_error_of_a_rule_is_not_changed() -> None:
    class Broken(Rule):
        """A rule with a mistake of its author."""

        attributes = ("size",)

        def broken(self, get: Any) -> None:
            get("size") < "a"  # noqa: B015

    with isolated_registry():

        class Sized(Task, task="size", result="sized"):
            rules: ClassVar[tuple[Rule, ...]] = (Broken(),)
            size: Annotated[int, msgspec.Meta(ge=0, le=9)]

        with pytest.raises(TypeError, match="not supported between instances") as caught:
            Sized(size=1)
        assert not isinstance(caught.value, ArgumentError)

        class SizedSection(ConfigSection):
            rules: ClassVar[tuple[Rule, ...]] = (Broken(),)
            size: Annotated[int, msgspec.Meta(ge=0, le=9)]

        with pytest.raises(TypeError, match="not supported between instances") as caught:
            SizedSection(size=1)
        assert not isinstance(caught.value, ArgumentError)


@pytest.mark.parametrize("cls", message_types(), ids=lambda cls: cls.__qualname__)
def test_every_message_explains_an_unknown_argument(cls: type[Message]) -> None:
    text = refusal(lambda: cls(an_argument_that_nobody_has=1))
    assert text.startswith(f"{cls.__name__}: ")
    assert "an_argument_that_nobody_has: unknown argument" in text
    required = {info.name for info in msgspec.structs.fields(cls) if info.required}
    assert all(f"{name}: missing; expected " in text for name in required)


def test_signature_has_the_fields() -> None:
    signature = inspect.signature(Migrate)
    assert all(p.kind is p.KEYWORD_ONLY for p in signature.parameters.values())
    assert list(signature.parameters) == list(Migrate.__struct_fields__)
    assert signature.parameters["vm_name"].default is inspect.Parameter.empty


def test_copies_and_pickles_are_constructed() -> None:
    task = Start(vm_name="vm1", vcpus=2)
    assert pickle.loads(pickle.dumps(task)) == copy.deepcopy(task) == copy.copy(task) == task
    assert msgspec.structs.replace(task, vcpus=3).vcpus == 3


def test_error_can_be_pickled() -> None:
    with pytest.raises(ArgumentError) as caught:
        Migrate()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_none_for_extensions_is_none_given() -> None:
    assert Start(vm_name="vm1", extensions=None) == Start(vm_name="vm1")  # type: ignore[arg-type]


def test_export() -> None:
    assert fastlib.ArgumentError is fastlib.codec.ArgumentError


# --- help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", message_types(), ids=lambda cls: cls.__qualname__)
def test_help_of_every_message_has_its_fields(cls: type[Message]) -> None:
    doc = " ".join((cls.__doc__ or "").split())
    own = own_doc(cls)
    assert own is None or doc.startswith(" ".join(own.split()))
    if not hasattr(cls, "__wire__") and "__shape__" not in vars(cls):
        for field in fields_of(cls):
            assert f"{field.attribute}: {' '.join(field.wire.doc.split())}" in doc
            assert field.wire.unit in doc


def test_help_has_units_rules_and_defaults() -> None:
    doc = Start.__doc__ or ""
    assert "  memory: Memory of the domain. (" in doc
    assert "in KiB" in doc
    assert "Rules:\n- needs vm_name or xml\n- transient needs xml" in doc
    assert "  devs: Addresses of the devices to attach. (a list of PciAddress, optional)" in doc
    assert "  parameter: Options of the migration. (a MigrateParameter, optional)" in (
        Migrate.__doc__ or ""
    )
    assert "Memory of the domain" in pydoc.plain(pydoc.render_doc(Start))


def test_help_of_a_section_of_a_configuration() -> None:
    class Options(ConfigSection):
        """Options of a hypervisor."""

        timeout: Annotated[float, Wire("How long.", unit="s")] = 1.0

    assert Options.__doc__ == (
        "Options of a hypervisor.\n\nFields, as keyword arguments:\n"
        "  timeout: How long. (a number, in s, optional, by default 1.0)"
    )


def test_class_with_hints_that_cannot_be_resolved_keeps_its_own_docstring() -> None:
    with isolated_registry():

        class Odd(Message):
            """Odd."""

            field: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

        assert Odd.__doc__ == "Odd."


def test_signature_has_types_without_their_annotations() -> None:
    parameters = inspect.signature(Start).parameters
    assert parameters["memory"].annotation == int | None
    assert "Wire(" not in str(inspect.signature(Start))
