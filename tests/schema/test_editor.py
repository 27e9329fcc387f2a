"""The real yaml-language-server of editors with the schemas for editors."""

import pytest

from tests.support.language_server import YamlServer
from tests.support.npm_packages import installed, needs_npm
from tests.support.schema.readers import SCHEMAS

pytestmark = [pytest.mark.load, needs_npm]


@pytest.fixture(scope="module")
def editor(pytestconfig):
    schemas = {
        SCHEMAS / "edit" / f"{kind}.json": f"*.{kind}.yaml"
        for kind in ("task", "result", "configuration")
    }
    with YamlServer(installed(pytestconfig, "readers"), schemas) as server:
        yield server


EXAMPLES = SCHEMAS / "examples"
START = "task: start vm\nvm-configurations:\n  - vm-name: vm1\n    "
STOP = "task: stop vm\nlist:\n  - vm-name: vm1\n    "
MIGRATE = "task: migrate vm\nvm-name: vm1\ndestination: node02\nparameter:\n  "


@pytest.mark.parametrize("kind", ["task", "result"])
def test_examples_have_no_problem(editor, kind):
    texts = {path.name: path.read_text("utf-8") for path in EXAMPLES.glob(f"*.{kind}.yaml")}
    assert len(texts) > 10
    problems = {name: editor.problems(text, kind=kind) for name, text in texts.items()}
    assert {name: found for name, found in problems.items() if found} == {}


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        (START + "memory: lots\n", 4, 13, 'Value must be "an integer, in KiB".'),
        (START + "memory: -1\n", 4, 13, "Value is below the minimum of 0."),
        (START + "memory: [1]\n", 4, 13, 'Value must be "an integer, in KiB".'),
        (START + "memory: an integer, in KiB\n", 4, 13, "Matches a schema that is not allowed."),
        (START + "vcpu-map: [[a]]\n", 4, 17, 'Value must be "an integer".'),
        (START + "saved-state: keep\n", 4, 18,
         'Value is not accepted. Valid values: "restore", "discard".'),
        (START + "transient: true\n", 3, 5, 'Missing property "xml".'),
        (START + "devs: []\n    dev: []\n", 4, 5, "Property devs is not allowed."),
        (START + "devs: [{pci-addr: here}]\n", 4, 23,
         'Value must be "a PCI address such as 0000:01:02.3".'),
        (START + "pci-ids: [{vendor: x, device: 1}]\n", 4, 24,
         'Value must be "an integer from 0x0 to 0xffff".'),
        (STOP + "force: maybe\n", 4, 12, 'Value must be "true or false".'),
        (STOP + "forse: true\n", 4, 5, "Property forse is not allowed."),
        (STOP + "name: vm1\n", 4, 11,
         "Value must be \"left out: 'name' is the old spelling, which no peer reads; "
         "write 'vm-name'\"."),
        (MIGRATE + "max-downtime: soon\n", 5, 17, 'Value must be "an integer, in ms".'),
        ("task: stop vm\nlist: [{vm-name: a}]\nexpires: tomorrow\n", 3, 10,
         'Value must be "a time with a zone in the years 1 to 9999, such as '
         '2026-11-29T06:30:00Z".'),
        ("list: [{vm-name: a}]\n", 1, 1, 'Missing property "task".'),
        ("task: migrate vm\nvm-name: a\n", 1, 1, 'Missing property "destination".'),
    ],
)  # fmt: skip
def test_mistake_is_shown_in_words(editor, text, line, column, words):
    assert editor.problems(text) == [(line, column, words)]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("hypervisor: {type: dumy}\n", 1, 20,
         'Value is not accepted. Valid values: "dummy", "libvirt", "ponci", "simulated".'),
        ("hypervisor:\n  type: dummy\n  node: [a]\n", 3, 3, "Property node is not allowed."),
        ("hypervisor: {type: dummy}\nlimit: {}\n", 2, 1, "Property limit is not allowed."),
        ("hypervisor: {type: dummy}\nlimits: {members: lots}\n", 2, 19,
         'Value must be "an integer from 1 to 100000".'),
        ("hostname: a\n", 1, 1, 'Missing property "hypervisor".'),
    ],
)  # fmt: skip
def test_mistake_in_configuration_is_shown_in_words(editor, text, line, column, words):
    assert editor.problems(text, kind="configuration") == [(line, column, words)]


def test_keys_of_the_configuration_are_offered(editor):
    offered = editor.completions("hypervisor:\n  type: libvirt\n  ", kind="configuration")
    assert {"nodes", "start-timeout", "domain-xml"} <= offered.keys()
    assert "freeze-timeout" not in offered


def test_misspelt_title_shows_all_titles(editor):
    ((line, column, words),) = editor.problems("task: stop vms\nlist: []\n")
    assert (line, column) == (1, 7)
    assert '"start vm", "stop vm"' in words


@pytest.mark.parametrize(
    "text",
    [
        START + 'memory: "4096"\n',
        START + "memory: 0x1000\n",
        START + "memory: ~\n",
        START + "dev: [{addr: '01:00.0'}]\n",
        STOP + "force: yes\n",
        STOP + "force: null\n",
        MIGRATE + "retry-counter: 3\n",
        MIGRATE + "swap-with: vm2\n",
        "task: stop vm\nlist: [{vm-name: 1234}]\nid: 1\n",
    ],
)
def test_other_forms_that_fastlib_reads_have_no_problem(editor, text):
    assert editor.problems(text) == []


def test_titles_are_offered(editor):
    offered = editor.completions("task: ")
    assert {"start vm", "stop vm", "migrate vm", "query node"} <= offered.keys()


def test_keys_of_the_task_are_offered(editor):
    offered = editor.completions("task: stop vm\n")
    assert {"list", "id", "expires", "idempotency-key"} <= offered.keys()
    assert "vm-configurations" not in offered
    assert offered["id"].startswith("id: ")


def test_keys_of_a_member_are_offered_without_other_spellings(editor):
    offered = editor.completions(START)
    assert {"memory", "vcpus", "devs", "saved-state"} <= offered.keys()
    assert not {"dev", "name", "force"} & offered.keys()
    assert offered["memory"].startswith("memory: ")


def test_keys_of_the_parameter_are_offered(editor):
    offered = editor.completions(MIGRATE)
    assert {"migration-type", "max-downtime", "retry_counter"} <= offered.keys()
    assert not {"retry-counter", "live-migration"} & offered.keys()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (START + "saved-state: ", {"restore", "discard"}),
        (MIGRATE + "migration-type: ", {"live", "warm", "offline"}),
        (STOP + "force: ", {"true", "false"}),
        (START + "memory: ", set()),
    ],
)
def test_values_are_offered_in_the_written_form_only(editor, text, values):
    assert editor.completions(text).keys() == values


def test_meaning_and_unit_are_shown(editor):
    shown = editor.hover(START + "memory: 4096\n", 4, 7)
    assert "Memory of the domain. In KiB." in shown


def test_mistake_in_a_result_is_shown(editor):
    text = "result: vm stopped\nlist:\n  - vm-name: vm1\n    status: done\n"
    (problem,) = editor.problems(text, kind="result")
    assert problem[:2] == (4, 13)
    assert '"success", "error"' in problem[2]
