"""The texts of `fastlib.display`: names, numbers, messages and rows of tables."""

import random

import pytest

from fastlib import Query, Result, ResultContainer, Start, TaskContainer
from fastlib.display.json_lines import encode_json
from fastlib.display.message_text import summarize, summarize_briefly
from fastlib.display.text import (
    byte_size,
    duration,
    join_names,
    natural_key,
    plural,
    printable,
)
from fastlib.message.agent import Init
from fastlib.message.node import Presence, Progress
from fastlib.number_ranges import number_ranges


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536 << 10, "1.5 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_byte_size_uses_largest_unit(number, text):
    assert byte_size(number) == text


def test_byte_size_rounds_to_given_decimals():
    assert byte_size(1536 << 10, 0) == "2 MiB"


def test_duration_below_a_second_is_in_milliseconds():
    assert (duration(0.25), duration(2)) == ("250 ms", "2.0 s")


def test_plural_of_one_has_no_s():
    assert (plural(1, "host"), plural(2000, "host")) == ("1 host", "2,000 hosts")


def test_join_names_counts_names_beyond_the_limit():
    names = [f"vm{number}" for number in range(10)]
    assert join_names(names[:8]) == ", ".join(names[:8])
    assert join_names(names) == "vm0, vm1, vm2, vm3, vm4, vm5, vm6 and 3 more"


def test_printable_escapes_only_control_characters():
    assert printable("ü'\\") == "ü'\\"
    assert printable("ü'\\\033\n") == r"ü'\\x1b\n"


def test_brief_summary_shortens_names_and_groups_results():
    container = TaskContainer(tasks=[Start(vm_name=f"vm{number}") for number in range(10)])
    assert summarize_briefly(container) == ("start vm vm0, vm1, vm2, vm3, vm4, vm5, vm6 and 3 more")
    results = [Result(vm_name="vm1", status="error", details="\033[31mred")] * 4
    results.append(Result(vm_name="vm2", status="success"))
    error = r"error vm1: \x1b[31mred"
    assert summarize_briefly(ResultContainer(result="vm started", results=results)) == (
        f"vm started: success vm2; {error}; {error}; {error}; 1 more errors"
    )


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Presence(status="online"), "is online"),
        (Presence(status="online", degraded="full"), "is online, degraded"),
        (Progress(task="stop vm", vm_name="a", phase="wait", percent=5), "stop vm a: wait 5 %"),
        (TaskContainer(tasks=[Query()]), "query node"),
        (Init(hostname="a"), "Init(hostname='a')"),
        (None, "unreadable message"),
    ],
)
def test_brief_summary_of_other_messages(message, text):
    assert summarize_briefly(message) == text


def test_summary_of_other_message_is_its_representation():
    assert summarize(Init(hostname="a\n")) == r"Init(hostname='a\n')"


def test_summary_of_a_degraded_daemon_has_the_reason():
    presence = Presence(status="online", hypervisor="qemu", degraded="the disk\033 is full")
    assert summarize(presence) == r"online qemu, degraded: the disk\x1b is full"


@pytest.mark.parametrize("name", ["n/a", None])
def test_progress_of_whole_task_has_no_domain(name):
    progress = Progress(task="evacuate node", vm_name=name, phase="place")
    assert summarize(progress) == "evacuate node: place"
    assert summarize_briefly(progress) == "evacuate node: place"


def test_progress_of_waiting_domain_has_its_place():
    progress = Progress(task="migrate vm", vm_name="vm1", phase="queued", position=2)
    assert summarize(progress) == "migrate vm: vm1: queued, place 2"


def test_json_has_text_for_numbers_that_json_lacks():
    assert encode_json({"a": [float("nan"), 1.5]}) == b'{"a":[".nan",1.5]}'


def test_names_are_sorted_by_their_numbers():
    names = ["0", "00", "9", "10", "n", "n1", "n1b", "n02", "n2", "n10", "n2-9", "n2-10", "²"]
    names = sorted(names, key=natural_key)
    shuffled = random.Random(0).sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == names
    assert [name for name in names if name.startswith("n")] == [
        "n", "n1", "n1b", "n02", "n2", "n2-9", "n2-10", "n10",
    ]  # fmt: skip
    long = "n" + 6000 * "9"
    assert sorted([f"{long}9", long], key=natural_key) == [long, f"{long}9"]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([3], "3"), ([1, 0, 2, 2, 8], "0-2, 8"), ([0, 2, 4], "0, 2, 4"), ([0, 1], "0-1")],
)
def test_numbers_are_shown_as_ranges(numbers, text):
    assert number_ranges(numbers, ", ") == text


def test_summary_of_offline_presence_has_its_time():
    presence = Presence.from_yaml("{status: offline, version: '1.0', time: 2026-11-01T08:00:00Z}")
    assert summarize(presence) == "offline since 2026-11-01T08:00:00Z 1.0"
