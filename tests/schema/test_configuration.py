"""The schema of the configuration file agrees with the daemon that reads the file."""

import re

import pytest
import yaml

from fastlib.codec.derivation import fields_of
from fastlib.codec.shapes import Text
from fastlib.codec.tree_shape import Tree
from fastlib.migfra import Configuration, check_configuration
from fastlib.migfra.plugin_api import discovery
from fastlib.schema import section_document
from tests.support.schema.commands import fastlib
from tests.support.schema.readers import SCHEMAS, schema, validator
from tools.pages.configuration import section_of

DOCS = SCHEMAS.parent / "docs"
BLOCKS = [
    (f"{path.name}:{number}", text)
    for path in sorted(DOCS.rglob("*.md"))
    for number, text in enumerate(
        re.findall(r"^```yaml\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    )
    if re.search("^hypervisor:", text, re.MULTILINE)
    and path.name != "extending.md"  # its hypervisor is of another package
]
DUMMY = "hypervisor: {type: dummy}\n"
LIBVIRT = "hypervisor:\n  type: libvirt\n  "


@pytest.fixture(scope="module")
def judge():
    return validator(schema("edit/configuration"))


def problems(judge, text):
    """Return the problems that the schema finds."""
    return [str(error) for error in judge.iter_errors(yaml.safe_load(text))]


@pytest.mark.parametrize(("name", "text"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_examples_of_documents_have_no_problem(judge, name, text):
    assert problems(judge, text) == []
    assert check_configuration(text).ok


def test_documents_have_examples():
    assert len(BLOCKS) > 3


@pytest.mark.parametrize(
    "text",
    [
        DUMMY,
        "hypervisor: {type: simulated}\nhostname: 1234\n",
        DUMMY + "communicator: {host: [b1, 'b2:1884'], port: 0x75b, keepalive: 60}\n",
        DUMMY + "communicator: {username: migfra, password-file: /etc/migfra/password}\n",
        DUMMY + "communicator: {tls: {}, websocket-path: /mqtt}\n",
        DUMMY + "communicator: {subscribe-topic: 'site/+/task/#'}\n",
        DUMMY + "metrics: {}\nlog: {level: debug, format: json}\n",
        LIBVIRT + "nodes: [node01, node02]\n  domain-xml: {directories: [/var/lib/images]}\n",
        LIBVIRT + "pci-ids: [{vendor: 0x15b3, device: 0x1003}]\n",
        LIBVIRT + "remote-uri: '<driver>+<transport>://root@<host>/system'\n",
        "hypervisor: {type: ponci, parent: a/b, freeze-timeout: 2.5}\n",
        DUMMY + "journal: {path: '/var/lib/migfra/<hostname>.journal', max-age: 1e3}\n",
    ],
)
def test_valid_file_has_no_problem(judge, text):
    assert check_configuration(text).ok, check_configuration(text)
    assert problems(judge, text) == []


WRONG = [
    "{}",
    "hypervisor: {}\n",
    "hypervisor: dummy\n",
    "hypervisor: {type: dumy}\n",
    "hypervisor: {type: dummy, nodes: [a]}\n",
    LIBVIRT + "node: [a]\n",
    LIBVIRT + "nodes: a\n",
    LIBVIRT + "start-timeout: 0\n",
    LIBVIRT + "start-timeout: soon\n",
    LIBVIRT + "remote-uri: qemu+ssh://node/system\n",
    LIBVIRT + "remote-uri: 'qemu://<host>/<here>'\n",
    LIBVIRT + "domain-xml: {directories: [images]}\n",
    LIBVIRT + "domain-xml: {directories: [/images/../etc]}\n",
    LIBVIRT + "domain-xml: {allow: all}\n",
    LIBVIRT + "pci-ids: [{vendor: 0x15b3}]\n",
    DUMMY + "limit: {members: 8}\n",
    DUMMY + "limits: {members: 0}\n",
    DUMMY + "limits: {members: many}\n",
    DUMMY + "limits: 8\n",
    DUMMY + "hostname: a/b\n",
    DUMMY + "shutdown-timeout: -1\n",
    DUMMY + "presence-interval: 0\n",
    DUMMY + "journal: /tmp/journal\n",
    DUMMY + "journal: {path: ''}\n",
    DUMMY + "log: {level: verbose}\n",
    DUMMY + "metrics: {port: 70000}\n",
    DUMMY + "metrics: {address: ''}\n",
    DUMMY + "retry: {first: 0}\n",
    DUMMY + "communicator: {type: amqp}\n",
    DUMMY + "communicator: {id: ''}\n",
    DUMMY + "communicator: {host: 'mqtt://broker'}\n",
    DUMMY + "communicator: {host: [b1, 'mqtt://b2']}\n",
    DUMMY + "communicator: {host: 'b1,b2'}\n",
    DUMMY + "communicator: {port: mqtt}\n",
    DUMMY + "communicator: {keepalive: 1}\n",
    DUMMY + "communicator: {publish-topic: 'a/+'}\n",
    DUMMY + "communicator: {publish-topic: ''}\n",
    DUMMY + "communicator: {subscribe-topic: 'a/#/b'}\n",
    DUMMY + "communicator: {subscribe-topic: 'a/b+'}\n",
    DUMMY + "communicator: {protocol: '3.1'}\n",
    DUMMY + "communicator: {qos: 3}\n",
    DUMMY + "communicator: {websocket-path: mqtt}\n",
    DUMMY + "communicator: {username: u, password: secret}\n",
    DUMMY + "communicator: {password-file: /a}\n",
    DUMMY + "communicator: {username: u, password-file: /a, password-environment: B}\n",
    DUMMY + "communicator: {tls: yes}\n",
    DUMMY + "communicator: {tls: {key: own.key}}\n",
    DUMMY + "communicator: {tls: {ca: ca.pem}}\n",
    DUMMY + "pscom-handler: {request-topic: 'a/#'}\n",
]


@pytest.mark.parametrize("text", WRONG, ids=[text.replace("\n", "; ") for text in WRONG])
def test_wrong_file_has_a_problem(judge, text):
    assert not check_configuration(text).ok
    assert problems(judge, text) != []


def keys(cls, above):
    """Each key of a section and of those below it, with a value of a wrong kind."""
    for field in fields_of(cls):
        below = section_of(field.shape)
        yield (*above, field.key), field, {"no": ["text"]} if below is None else 7
        if below is not None and not hasattr(field.shape, "item"):
            yield from keys(below, (*above, field.key))


def every_key():
    for path, field, wrong in keys(Configuration, ()):
        yield pytest.param(path, field, wrong, "dummy", id=".".join(path))
    for name in discovery.BUILT_IN:
        for path, field, wrong in keys(discovery.load(name).Options, ("hypervisor",)):
            yield pytest.param(path, field, wrong, name, id=f"{name}.{'.'.join(path[1:])}")


@pytest.mark.parametrize(("path", "field", "wrong", "hypervisor"), [*every_key()])
def test_value_of_a_wrong_kind_is_refused_for_every_key(judge, path, field, wrong, hypervisor):
    """The schema and the daemon refuse the same values. Hypervisors have keys with any mapping."""
    tree = {"hypervisor": {"type": hypervisor}}
    place = tree
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = wrong
    text = yaml.safe_dump(tree)
    assert (problems(judge, text) == []) == check_configuration(text).ok
    if isinstance(field.shape, Text):
        assert problems(judge, text) != []
    assert not isinstance(field.shape, Tree)


def test_hypervisors_of_other_packages_are_left_out(monkeypatch):
    monkeypatch.setattr(discovery, "names", lambda: ["dummy", "acme"])
    choice = section_document(Configuration, "c", extensions=False)["properties"]["hypervisor"]
    assert choice["properties"]["type"]["enum"] == sorted(discovery.BUILT_IN)


def test_broken_hypervisor_is_not_offered(monkeypatch):
    monkeypatch.setattr(discovery, "names", lambda: ["dummy", "acme"])
    choice = section_document(Configuration, "c")["properties"]["hypervisor"]
    assert choice["properties"]["type"]["enum"] == ["dummy"]


def test_command_prints_the_content_of_the_folder(tmp_path):
    done = fastlib("schema", "configuration", "--no-extensions", cwd=tmp_path)
    assert done.stdout == (SCHEMAS / "edit/configuration.json").read_text("utf-8")


@pytest.mark.parametrize("direction", ["emit", "load"])
def test_configuration_has_no_other_direction(direction, tmp_path):
    done = fastlib("schema", "configuration", "--direction", direction, cwd=tmp_path, status=2)
    assert f"leave out '--direction {direction}'" in done.stderr


def test_every_key_has_a_description():
    document = schema("edit/configuration")
    for key, below in document["properties"].items():
        assert below.get("description"), key
        for name, value in below.get("properties", {}).items():
            assert value.get("description"), f"{key}.{name}"
