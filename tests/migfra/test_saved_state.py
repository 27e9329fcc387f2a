"""The decision about a saved image at a start, for each part of a start that can contradict it."""

import msgspec
import pytest

from fastlib.migfra.virt.saved_state import Decision, SavedImage, StartOrder, decide

IMAGE = SavedImage(
    uuid="11111111-2222-3333-4444-555555555555",
    memory=65536,
    vcpus=2,
    pinning={0: frozenset({0, 1}), 1: frozenset({3})},
    memory_nodes=[frozenset({0})],
)
UNKNOWN = SavedImage()


def order(**parts):
    return StartOrder(name="vm1", host="hostA", **parts)


FITTING = [
    {},
    {"saved_state": "restore"},
    {"memory": 65536},
    {"memory": 65535},  # QEMU rounds up to MiB
    {"memory": 64513},
    {"vcpus": 2},
    {"vcpu_map": [[1, 0], [3]]},
    {"vcpu_map": [[0, 1]]},
    {"memnode_map": [[0]]},
    {"memory": 65536, "vcpus": 2, "saved_state": "restore"},
]


@pytest.mark.parametrize("parts", FITTING)
def test_image_is_restored_if_it_fits_the_task(parts):
    assert decide(order(**parts), IMAGE) == Decision("restore")


@pytest.mark.parametrize(
    ("vcpus", "words"),
    [(1, "vcpus (1, the image has 2 of 4)"), (2, "vcpus (2, the image has 2 of 4)"),
     (4, "vcpus (4, the image has 2 of 4)")],
)  # fmt: skip
def test_image_with_vcpus_that_could_be_added_fits_no_number_of_them(vcpus, words):
    """A start with that number would leave none that could be added."""
    image = msgspec.structs.replace(IMAGE, maximum_vcpus=4)
    decision = decide(order(vcpus=vcpus), image)
    assert decision.action == "refuse"
    assert words in str(decision.reason)
    assert decide(order(), image) == Decision("restore")
    same = msgspec.structs.replace(IMAGE, maximum_vcpus=2)
    assert decide(order(vcpus=2), same) == Decision("restore")


CONTRADICTING = [
    ({"memory": 65537}, "memory (65537 KiB, the image has 65536)"),
    ({"memory": 64512}, "memory (64512 KiB, the image has 65536)"),
    ({"vcpus": 1}, "vcpus (1, the image has 2)"),
    ({"vcpu_map": [[0, 1], [2]]}, "vcpu-map"),
    ({"vcpu_map": [[0, 1], [3], [4]]}, "vcpu-map"),
    ({"memnode_map": [[1]]}, "memnode-map"),
    ({"memnode_map": [[0], [1]]}, "memnode-map"),
    ({"xml": True}, "xml"),
    ({"devices": ["pci-ids"]}, "pci-ids"),
    ({"devices": ["ivshmem"]}, "ivshmem"),
    (
        {"memory": 1, "vcpus": 9, "xml": True},
        "memory (1 KiB, the image has 65536) and vcpus (9, the image has 2) and xml",
    ),
]


@pytest.mark.parametrize("saved_state", [None, "restore"])
@pytest.mark.parametrize(("parts", "differing"), CONTRADICTING)
def test_start_is_refused_if_the_image_cannot_honour_it(parts, differing, saved_state):
    decision = decide(order(saved_state=saved_state, **parts), IMAGE)
    assert decision.action == "refuse"
    assert decision.reason.startswith(
        f"vm1 has a saved image on hostA, which cannot be restored with {differing}; leave "
    )
    assert decision.reason.endswith("or delete it with saved-state: discard")


@pytest.mark.parametrize(("parts", "_"), [*CONTRADICTING, ({}, "")])
def test_discard_deletes_any_image(parts, _):
    for image in (IMAGE, UNKNOWN, SavedImage(problem="no memory in it")):
        assert decide(order(saved_state="discard", **parts), image) == Decision("discard")
    assert decide(order(saved_state="discard", **parts), None) == Decision("boot")
    assert decide(order(saved_state="discard", **parts), None, ["hostB"]) == Decision("discard")


@pytest.mark.parametrize("parts", [{}, {"memory": 1}, {"xml": True}])
def test_domain_without_image_boots(parts):
    assert decide(order(**parts), None) == Decision("boot")


def test_restore_without_image_is_refused():
    reason = "vm1 has no saved image on hostA to restore; leave out saved-state to boot it"
    assert decide(order(saved_state="restore"), None) == Decision("refuse", reason)


@pytest.mark.parametrize("saved_state", [None, "restore"])
@pytest.mark.parametrize("image", [None, IMAGE])
def test_image_on_another_host_forbids_the_start(saved_state, image):
    decision = decide(order(saved_state=saved_state), image, ["hostB", "hostC"])
    assert decision.action == "refuse"
    assert "a saved image on hostB, hostC, which may have its newest memory" in decision.reason


@pytest.mark.parametrize("saved_state", [None, "restore"])
def test_image_that_cannot_be_read_is_kept(saved_state):
    image = SavedImage(problem="save image is incomplete")
    assert decide(order(saved_state=saved_state), image) == Decision(
        "refuse",
        "vm1 has a saved image on hostA that cannot be restored (save image is incomplete); it is "
        "kept, and saved-state: discard deletes it",
    )


def test_changes_are_refused_for_an_image_of_unknown_content():
    assert decide(order(), UNKNOWN) == Decision("restore")
    for parts, _ in CONTRADICTING:
        assert decide(order(**parts), UNKNOWN).action == "refuse"
