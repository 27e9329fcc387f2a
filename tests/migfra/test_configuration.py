"""The configuration file: existing files, new keys, and every problem at its place."""

import os
import socket
from pathlib import Path

import pytest

from fastlib import DeclarationError, Message, ValidationError
from fastlib.codec import AtMost, Positive
from fastlib.message.describe import message_types
from fastlib.migfra import (
    ConfigSection,
    Configuration,
    ConfigurationError,
    check_configuration,
    read_configuration,
)
from fastlib.migfra.config.file import state_directory
from fastlib.migfra.config.sections import LimitsSection
from fastlib.migfra.hypervisors.dummy import DummyHypervisor
from fastlib.transport import TlsOptions

EXISTING = """\
---
communicator:
  type: mqtt
  id: fast-migfra-<hostname>
  subscribe-topic: fast/migfra/<hostname>/task
  publish-topic: fast/migfra/<hostname>/result
  host: broker
  port: 1883
  keepalive: 60
hypervisor:
  type: dummy
  never-throw: true
pscom-handler:
  request-topic: fast/pscom/<vm_name>/any_proc/request
  response-topic: fast/pscom/<vm_name>/+/response
  qos: 0
...
"""

NEW = """\
hostname: node07
communicator:
  host: broker.example.org
  username: migfra
  password-environment: SECRET_OF_A_TEST
  protocol: "5"
  qos: 2
  session-expiry: 3600
  tls: {ca-file: ca.pem, certificate: c.pem, key: k.pem, key-password-file: KEY_PASSWORD}
hypervisor: {type: dummy}
journal: {path: state/<hostname>.db, max-age: 60, max-size: 8}
limits: {containers: 2, members: 3, payload: 65536}
retry: {first: 0.5, longest: 8}
shutdown-timeout: 5
cancel-timeout: 6
progress-interval: 0.25
log: {level: debug, format: json}
metrics: {address: "::1", port: 9000}
"""


def test_existing_configuration_is_read() -> None:
    read = read_configuration(EXISTING)
    host = socket.gethostname()
    assert read.host == host
    assert read.hypervisor.type.name == "dummy"
    assert read.hypervisor.options.never_throw is True
    options = read.mqtt_options()
    assert (options.host, options.port, options.keep_alive) == ("broker", 1883, 60)
    assert options.client_id == f"fast-migfra-{host}"
    assert options.persistent
    assert read.named(read.communicator.subscribe_topic) == f"fast/migfra/{host}/task"
    assert read.named(read.communicator.publish_topic) == f"fast/migfra/{host}/result"
    assert read.node.pscom_request == "fast/pscom/<vm_name>/any_proc/request"


def test_new_options_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_A_TEST", "hush")
    password = tmp_path / "password"
    password.write_text("sesame\nand more\n")
    read = read_configuration(NEW.replace("KEY_PASSWORD", str(password)))
    options = read.mqtt_options()
    assert (options.username, options.password) == ("migfra", "hush")
    assert options.protocol == "5"
    assert options.session_expiry == 3600
    assert options.tls == TlsOptions(
        ca_file="ca.pem", certificate="c.pem", key="k.pem", key_password="sesame"
    )
    assert read.journal_path() == Path("state/node07.db")
    assert (read.limits.containers, read.limits.members, read.limits.payload) == (2, 3, 65536)
    assert (read.retry.first, read.retry.longest) == (0.5, 8.0)
    assert read.log.format == "json"
    assert "hush" not in repr(options) + repr(read)
    assert "sesame" not in repr(options) + repr(read)


def test_missing_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECRET_OF_A_TEST", raising=False)
    read = read_configuration(NEW)
    with pytest.raises(ConfigurationError, match="SECRET_OF_A_TEST"):
        read.mqtt_options()
    monkeypatch.setenv("SECRET_OF_A_TEST", "")
    with pytest.raises(ConfigurationError, match=r"key-password-file.*KEY_PASSWORD"):
        read.mqtt_options()


def test_all_problems_are_reported_with_positions() -> None:
    wrong = """\
communicator: {type: amqp, port: 0, publish-topic: a/+, password: hush, password-file: x}
hypervisor: {type: dummy, never-throw: 3, nevr-throw: true}
retry: {first: 9, longest: 1}
shutdown-timeout: -1
limts: {}
log: {level: loud}
"""
    report = check_configuration(wrong)
    assert not report.ok
    assert report.message is None
    found = [(p.path, p.line, p.column) for p in report.problems]
    assert found == [
        ("communicator.type", 1, 22),
        ("communicator.port", 1, 34),
        ("communicator.publish-topic", 1, 52),
        ("communicator.password", 1, 57),
        ("communicator.password-file", 1, 88),
        ("hypervisor.never-throw", 2, 40),
        ("hypervisor.nevr-throw", 2, 43),
        ("retry.first", 3, 16),
        ("shutdown-timeout", 4, 19),
        ("limts", 5, 1),
        ("log.level", 6, 14),
    ]
    assert all(problem.severity == "error" for problem in report.problems)
    texts = " ".join(map(str, report.problems))
    assert "did you mean 'limits'?" in texts
    assert "hush" not in texts
    assert "C++" not in texts
    with pytest.raises(ConfigurationError) as raised:
        read_configuration(wrong)
    assert len(raised.value.problems) == 11


@pytest.mark.parametrize(
    ("hypervisor", "said"),
    [
        ("{type: dumy}", "did you mean 'dummy'?"),
        ("{never-throw: true}", "missing; expected one of dummy"),
        ("dummy", "expected a mapping with the key 'type', such as hypervisor: {type: dummy}; got"),
        ("[]", "expected a mapping with the key 'type', such as hypervisor: {type: libvirt}; got"),
        (
            "{type: dummy, nver-throw: true}",
            "unknown key; the keys of 'hypervisor' are never-throw, type (did you mean 'never-",
        ),
        ("{type: dummy, zz: true}", "unknown key; the keys of 'hypervisor' are never-throw, type"),
        ("{type: [dummy]}", "expected the name of a hypervisor"),
    ],
)
def test_hypervisor_type_is_checked(hypervisor: str, said: str) -> None:
    (problem,) = check_configuration(f"hypervisor: {hypervisor}").problems
    assert problem.path.startswith("hypervisor")
    assert said in str(problem)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("journal: /tmp/x", "journal: expected a mapping, such as journal: {path: /tmp/x}; got "),
        ("log: debug", "log: expected a mapping, such as log: {level: debug}; got 'debug'"),
        ("log: loud", "log: expected a mapping, such as log: {level: info}; got 'loud'"),
        ("metrics: 9000", "metrics: expected a mapping, such as metrics: {port: 9000}; got "),
        ("metrics: yes", "metrics: expected a mapping, such as metrics: {port: 9741}; got 'yes'"),
        ("communicator: b1", "expected a mapping, such as communicator: {host: b1}; got 'b1'"),
        ("communicator: mqtt://u:s3cret@b",
         "expected a mapping, such as communicator: {host: broker.example.org}; got 'mqtt://***@b"),
        ("communicator: {tls: yes}",
         "communicator.tls: expected a mapping, such as tls: {ca-file: /etc/ssl/broker-ca.pem}, or "
         "{} for the certificates of the system; without the key there is no TLS; got 'yes'"),
        ("retry: 5", "retry: expected a mapping, such as retry: {first: 1, longest: 60}; got '5'"),
        ("limits: []", "limits: expected a mapping, such as limits: {containers: 32}; got an "),
        ("pscom-handler: 1", "expected a mapping, such as pscom-handler: {qos: 1}; got '1'"),
        ("journal: {zzz: x}",
         "journal.zzz: unknown key; the keys of 'journal' are max-age, max-size, path, "
         "repetition-window"),
        ("journal: {pth: x}", "journal.pth: unknown key (did you mean 'path'?)"),
        ("zzz: {}", "zzz: unknown key; the keys of the file are cancel-timeout, "),
        ("jurnal: {}", "jurnal: unknown key (did you mean 'journal'?)"),
    ],
)  # fmt: skip
def test_error_shows_an_example_of_the_section(section: str, said: str) -> None:
    (problem,) = check_configuration(f"hypervisor: {{type: dummy}}\n{section}").problems
    assert said in str(problem)
    assert "s3cret" not in str(problem)


def test_examples_of_sections_are_valid() -> None:
    from fastlib.migfra.config import sections

    shown = {
        "communicator": sections.CommunicatorSection,
        "journal": sections.JournalSection,
        "limits": sections.LimitsSection,
        "log": sections.LogSection,
        "metrics": sections.MetricsSection,
        "pscom-handler": sections.PscomSection,
        "retry": sections.RetrySection,
    }
    for key, section in shown.items():
        assert check_configuration(f"hypervisor: {{type: dummy}}\n{key}: {section.example}").ok, key
    tls = sections.TlsSection.example.partition(", or ")[0]
    assert check_configuration(f"hypervisor: {{type: dummy}}\ncommunicator: {{tls: {tls}}}").ok
    assert check_configuration("hypervisor: {type: dummy}\ncommunicator: {tls: {}}").ok


@pytest.mark.parametrize("text", ["", "a: [", b"\xff", "[]", "hypervisor: {type: dummy", "- a"])
def test_text_other_than_a_configuration_is_an_error(text: str | bytes) -> None:
    assert not check_configuration(text).ok


def test_second_document_is_an_error() -> None:
    """Nothing reads it, so an operator would take it for the configuration of the daemon."""
    report = check_configuration("hypervisor: {type: dummy}\n---\n# other\nhostname: b\n")
    assert [str(problem) for problem in report.problems] == [
        "line 4, column 1: the configuration must be one document, and this is another one; "
        "remove it, or the line '---' before it"
    ]
    assert not report.ok
    assert not check_configuration("hypervisor: {type: dummy}\n---\n{a: [").ok


@pytest.mark.parametrize("end", ["---\n", "...\n", "---\n---\n# nothing\n"])
def test_empty_documents_after_the_configuration_are_allowed(end: str) -> None:
    assert check_configuration(f"---\nhypervisor: {{type: dummy}}\n{end}").ok


def test_missing_hypervisor_is_reported_with_an_example() -> None:
    (problem,) = check_configuration("hostname: node01").problems
    assert str(problem) == (
        "line 1, column 1: hypervisor: missing; expected a mapping with the key 'type', such as "
        "hypervisor: {type: libvirt}"
    )


def test_wrong_number_is_reported_with_its_unit() -> None:
    report = check_configuration(
        "{hypervisor: {type: dummy}, shutdown-timeout: 60s, limits: {payload: 4 MiB}}"
    )
    assert [problem.message for problem in report.problems] == [
        "expected a number, in s; got '60s'",
        "expected an integer from 1024 to 16777216, in bytes; got '4 MiB'",
    ]


def test_host_name_must_fit_into_a_topic() -> None:
    with pytest.raises(ConfigurationError, match="line 1, column 12: hostname: expected a name"):
        read_configuration("{hostname: a/b, hypervisor: {type: dummy}}")


def test_state_directory_depends_on_environment_and_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/elsewhere")
    assert state_directory() == tmp_path
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_directory() == Path("/var/lib/migfra")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_directory() == tmp_path / "migfra"


def test_configuration_round_trips() -> None:
    read = read_configuration(NEW)
    assert read_configuration(read.to_yaml()) == read


def test_configuration_is_not_among_the_messages() -> None:
    class PluginOptions(ConfigSection):
        size: int = 1

    sections = {Configuration, LimitsSection, DummyHypervisor.Options, PluginOptions}
    assert not any(issubclass(section, Message) for section in sections)
    assert not sections & set(message_types())


def test_config_section_refuses_a_title() -> None:
    with pytest.raises(DeclarationError, match="Titled: the class statement's keywords: got an"):

        class Titled(ConfigSection, task="titled"):
            pass


def test_config_section_checks_rules_when_constructed() -> None:
    class Times(ConfigSection):
        rules = (AtMost("first", "longest"), Positive("first"))

        first: float = 1.0
        longest: float | None = None

    assert Times(first=2.0, longest=2.0).longest == 2.0
    with pytest.raises(ValidationError, match="first: is greater than longest"):
        Times(first=2.1, longest=2.0)
    with pytest.raises(ValidationError, match="first: expected a number greater than 0"):
        Times.from_yaml("first: 0")


@pytest.mark.usefixtures("isolated_registry")
def test_package_whose_messages_cannot_be_loaded_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "bad_messages-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-messages\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fastlib.messages]\nbad = no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    report = check_configuration("hypervisor: {type: dummy}")
    assert report.ok
    (warning,) = report.warnings
    assert "bad-messages" in warning.message


@pytest.mark.parametrize(
    "text",
    [
        "communicator: mqtt://u:s3cret@broker",
        "communicator: {host: 'mqtt://u:s3cret@broker'}",
        "communicator: {host: 'u:s3cret@broker'}",
        "communicator: {port: 'u:s3cret@broker'}",
        "communicator: {tls: 'u:s3cret/x@broker'}",
        "communicator: {password: s3cret}",
        "mqtt://u:s3cret@broker",
    ],
)
def test_problems_do_not_repeat_passwords(text: str):
    report = check_configuration(f"{text}\n")
    assert report.errors
    assert "s3cret" not in "; ".join(str(problem) for problem in report.problems)


def test_missing_variable_is_not_named_where_it_may_be_a_password():
    read = read_configuration(
        "communicator: {username: u, password-environment: s3cret}\nhypervisor: {type: dummy}\n"
    )
    with pytest.raises(ConfigurationError, match="no variable of this name") as caught:
        read.mqtt_options()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", ["::1", "fe80::1%eth0", "broker.example.org", "192.0.2.1"])
def test_host_of_the_broker_may_be_an_address(host: str):
    text = f"communicator: {{host: '{host}'}}\nhypervisor: {{type: dummy}}\n"
    assert read_configuration(text).mqtt_options().host == host


@pytest.mark.parametrize(
    ("host", "brokers"),
    [
        ("b1", (("b1", 1890),)),
        ("[b1]", (("b1", 1890),)),
        ("[b1, 'b2:1884', '::1']", (("b1", 1890), ("b2", 1884), ("::1", 1890))),
    ],
)
def test_several_brokers_may_be_configured(host: str, brokers: object):
    configuration = Configuration.from_yaml(
        f"hypervisor: {{type: dummy}}\ncommunicator: {{host: {host}, port: 1890}}\n"
    )
    assert configuration.mqtt_options().brokers == brokers
    assert Configuration.from_yaml(configuration.to_yaml()) == configuration


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("[]", "empty"),
        ("[b1, b1]", "twice"),
        ("{b1: 1883}", "a host or a list of hosts"),
        ("[{b1: 1883}]", "text"),
        ("[b1, 'b2:x']", "1 to 65535"),
    ],
)
def test_unusable_brokers_are_problems(host: str, words: str):
    with pytest.raises(ValidationError, match=words):
        Configuration.from_yaml(f"hypervisor: {{type: dummy}}\ncommunicator: {{host: {host}}}\n")


def test_limits_of_the_broker_and_pauses_reach_the_connection() -> None:
    text = (
        "communicator: {qos: 0, largest-packet: 131072, retry-min: 0.1, retry-max: 5}\n"
        "hypervisor: {type: dummy}\n"
    )
    options = Configuration.from_yaml(text).mqtt_options()
    assert (options.qos, options.largest_packet) == (0, 131072)
    assert (options.retry_min, options.retry_max) == (0.1, 5)
    assert Configuration.from_yaml("hypervisor: {type: dummy}").mqtt_options().qos == 2


@pytest.mark.parametrize(
    "section",
    ["qos: 3", "largest-packet: 0", "retry-min: 0", "retry-min: 40", "retry-max: -1"],
)
def test_limits_of_the_broker_out_of_range_are_problems(section: str) -> None:
    with pytest.raises(ValidationError):
        Configuration.from_yaml(f"communicator: {{{section}}}\nhypervisor: {{type: dummy}}\n")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("broker: {host: a}", "communicator"),
        ("mqtt: {host: a}", "communicator"),
        ("journal: {file: /x}", "path"),
        ("logging: {level: debug}", "log"),
        ("metrics: {listen: a}", "address"),
        ("communicator: {tls: {cert: a}}", "certificate"),
        ("communicator: {user: a}", "username"),
        ("communicatr: {host: a}", "communicator"),
        ("zzz: 1", None),
    ],
)
def test_unknown_key_leads_to_the_right_one(text: str, meant: str | None) -> None:
    """Also from the words of other programs."""
    (problem,) = check_configuration(f"{text}\nhypervisor: {{type: dummy}}\n").errors
    assert problem.suggestion == meant
    assert (problem.line, problem.code) == (1, "unknown-key")
