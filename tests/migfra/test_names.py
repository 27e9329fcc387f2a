"""Names of domains, expressions over them, and the XML they come from."""

import contextlib
import re
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib import Evacuate, Extension, Migrate, MigrateParameter, SwapWith, Task
from fastlib.extras import install_command
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt import names
from fastlib.migfra.virt.domain_xml import DomainXml, read_domain
from fastlib.migfra.virt.names import check_name, check_names, matching

EVIL = [
    "(a+)+$",
    "(a|aa)+$",
    "(.*a){20}b",
    "((a*)*)*b",
    "(?:a?){60}a{60}b",
    "(.*)*" * 5 + "x",
    "(a|b|ab|ba|a|b)*c",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(?:" * 900 + "a" + ")*" * 900,
]
PATIENCE = 120
"""Seconds; a backtracking engine takes longer than anyone lives."""


@pytest.mark.parametrize("pattern", EVIL)
def test_expression_matches_in_linear_time(pattern):
    begin = time.monotonic()
    with contextlib.suppress(HypervisorError):  # refused is fine, too
        matching(pattern, ["a" * 200 + "!"] * 50)
    assert time.monotonic() - begin < PATIENCE


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("vm.*", ["vm1", "vm10"]),
        ("vm1", ["vm1"]),
        ("1", []),
        ("^vm1$", ["vm1"]),
        ("vm1|other", ["vm1", "other"]),
        ("[a-z]+", ["other"]),
        (".*ß.", ["größe"]),
        ("gr.{2}e", ["größe"]),
        (r"\p{L}+", ["other", "größe"]),
        (".*", ["vm1", "vm10", "other", "größe"]),
        ("", []),
    ],
)
def test_expression_must_match_the_whole_name(pattern, expected):
    assert matching(pattern, ["vm1", "vm10", "other", "größe"]) == expected


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", r"missing \)"),
        ("*", "repetition"),
        (r"(a)\1", "back-references and look-around are not supported"),
        ("(?=a)a", "back-references and look-around are not supported"),
        ("a{1000}{1000}{1000}", "repetition"),
        ("x" * 4_001, "must have at most 4000 characters, not 4001"),
        ("(.?){1000}", "too large"),
        (r"\pL{200}", "too large"),
        ("\ud800", "surrogates"),
    ],
)
def test_unusable_expression_is_an_error(pattern, why):
    with pytest.raises(HypervisorError, match=why):
        matching(pattern, ["a"])


def test_many_names_are_an_expression():
    names = [f"{number * 7919 % 100_000:05}-node" for number in range(300)]
    assert matching("|".join(names), [*names, "other"]) == names


def test_missing_re2_is_reported_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "re2", None)
    with pytest.raises(HypervisorError, match=re.escape(install_command("migfra"))):
        matching("a", ["a"])


@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_an_error(pattern):
    try:
        matching(pattern, ["vm1"])
    except HypervisorError as error:
        assert str(error)  # noqa: PT017 - either is fine


@pytest.mark.parametrize("name", ["vm1", "VM 1", "größe", "a.b-c_d", "仮想", "a@b:c", "x" * 200])
def test_sound_name_is_accepted(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "..", ".hidden", "-x", "+", "a#", "a\\b", "a\nb", "a\0b", " a", "a ", "x" * 201,
     "\u202ea", "\ud800"],
)  # fmt: skip
def test_unsound_name_is_refused(name):
    with pytest.raises(HypervisorError, match="cannot be the name of a domain: it"):
        check_name(name)


@given(st.text("aZ09_.:- /\\+#\n\0ö\u202e", max_size=6) | st.sampled_from(["x" * 200, "x" * 201]))
def test_plain_names_need_no_look_at_each_character(name):
    assert not names._PLAIN.fullmatch(name) or names._unsound(name) is None


def test_domain_xml_gives_name_memory_and_vcpus():
    xml = """<domain type='kvm'><name>vm1</name><memory unit='GiB'>2</memory>
    <vcpu placement='static'>4</vcpu><devices><disk><name>no</name></disk></devices></domain>"""
    assert read_domain(xml) == DomainXml(name="vm1", memory=2 << 20, vcpus=4)
    assert read_domain("<domain><name>a&amp;b</name></domain>") == DomainXml(name="a&b")


@pytest.mark.parametrize(
    ("memory", "kib"),
    [
        ("<memory>1024</memory>", 1024),
        ("<memory unit='KiB'>1024</memory>", 1024),
        ("<memory unit='b'>2048</memory>", 2),
        ("<memory unit='MB'>1</memory>", 977),
        ("<memory unit='g'>1</memory>", 1 << 20),
    ],
)
def test_memory_is_converted_to_kib(memory, kib):
    assert read_domain(f"<domain><name>a</name>{memory}</domain>").memory == kib


BOMB = """<!DOCTYPE domain [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<domain><name>&b;</name></domain>"""
OUTSIDE = """<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/hostname">]>
<domain><name>&x;</name></domain>"""


@pytest.mark.parametrize(
    ("xml", "why"),
    [
        (BOMB, "document type declaration"),
        (OUTSIDE, "document type declaration"),
        ("<!DOCTYPE domain SYSTEM 'http://x/y'><domain/>", "document type declaration"),
        ("<domain><name>&x;</name></domain>", "not well-formed: undefined entity"),
        ("<domain><name>a</domain>", "not well-formed: mismatched tag: line 1"),
        ("", "not well-formed: no element found"),
        ("<network><name>a</name></network>", "describes <network>"),
        ("<domain/>", "has no <name>"),
        ("<domain><name/></domain>", "has no <name>"),
        ("<domain><name>a</name><name>b</name></domain>", "<name> twice"),
        ("<domain><name>a/b</name></domain>", "cannot be the name of a domain"),
        ("<domain><name>a</name><memory>many</memory></domain>", "'many' as <memory>"),
        ("<domain><name>a</name><memory unit='stone'>1</memory></domain>", "the unit 'stone'"),
        ("<domain><name>a</name><vcpu>-1</vcpu></domain>", "'-1' as <vcpu>"),
        ("<domain><name>a</name><uuid>" + " " * 900_000 + "</uuid></domain>", "has 32 hexadecimal"),
        ("<domain>" * 100, "nested more than 64 deep"),
        ("<domain>\ud800</domain>", "surrogate"),
        ("<domain>" + " " * (1 << 20), "more than 1048576 characters"),
    ],
)
def test_bad_xml_is_an_error(xml, why):
    with pytest.raises(HypervisorError, match=why):
        read_domain(xml)


@given(st.text(alphabet="<>/domainae&;!'\"=[] \n"))
def test_any_text_is_a_domain_or_an_error(xml):
    try:
        read_domain(xml)
    except HypervisorError as error:
        assert str(error)  # noqa: PT017 - either is fine


@pytest.mark.parametrize(
    "task",
    [
        Migrate(vm_name="a/b", destination="b"),
        Migrate(vm_name="a", destination="../b"),
        Evacuate(destinations=["a", "#"]),
        Migrate(
            vm_name="a",
            destination="b",
            parameter=MigrateParameter(swap_with=SwapWith(vm_name="+")),
        ),
    ],
    ids=repr,
)
def test_names_are_checked_at_any_depth(task):
    with pytest.raises(HypervisorError, match="cannot be the name of a"):
        check_names(task)


@pytest.mark.usefixtures("isolated_registry")
def test_names_in_extensions_are_checked():
    class Copy(Task, task="copy", result="copied"):
        """A task of another package."""

    class Copies(Extension, of=Copy):
        """An option that another package adds."""

        destinations: tuple[str, ...] | None = None

    with pytest.raises(HypervisorError, match="cannot be the name of a"):
        check_names(Copy(extensions=[Copies(destinations=("a", "b/"))]))
