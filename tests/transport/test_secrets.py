"""No part of a URL's user information is in any error, log or repr."""

import logging
import traceback
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastlib.redaction import hide_secrets_of_line, hide_user_information
from fastlib.transport import MqttOptions, OptionsError, TlsOptions
from fastlib.transport.broker_url import parse_broker_url
from fastlib.transport.mqtt.link import mqtt_link
from tests.support.mosquitto import free_port

USER, PASSWORD = "Us3rMark", "S3cretMark"

around = st.text(
    st.one_of(st.sampled_from("/?#@:[]%&=\\ \t\n\r\0%40é℀\udcff"), st.characters()), max_size=4
)


@st.composite
def urls(draw: st.DrawFn) -> str:
    """URLs with a user and a password, and often something wrong with them."""
    scheme = draw(st.sampled_from(["mqtt://", "mqtts://", "", "http://", "mqtt:/", "mqtt:", "//"]))
    user = draw(around) + USER + draw(around)
    password = draw(around) + PASSWORD + draw(around)
    if draw(st.booleans()):
        user, password = (quote(part, safe="", errors="replace") for part in (user, password))
    host = draw(st.sampled_from(["broker", "[::1]", "::1", "[::1", "fe80::1%eth0", "", "a b"]))
    rest = draw(st.sampled_from(["", ":1883", ":99999", ":x", "/", "/topic", "?a=b", "#c", "@d"]))
    return f"{scheme}{user}:{password}@{host}{rest}{draw(around)}"


@given(urls())
@example(f"mqtt://{USER}:{PASSWORD}/xyz@broker")
@example(f"{USER}:{PASSWORD}/x://@broker")
@example(f"mqtt://{USER}:{PASSWORD}%ff@broker")
@example(f"mqtt://{USER}:{PASSWORD}℀@broker")
def test_errors_and_reprs_have_no_part_of_the_user_information(url: str):
    error: OptionsError | None = None
    try:
        options = MqttOptions.from_url(url)
    except OptionsError as refused:
        error = refused
    else:
        shown = f"{options!r} {options} {options.__rich_repr__()!r} {parse_broker_url(url)!r}"
    if error is not None:
        # A handler of logs may show the context as well, which `from None` only hides.
        assert (error.__cause__, error.__context__) == (None, None)
        shown = "".join(traceback.format_exception(error)) + repr(error.args)
    assert USER.lower() not in shown.lower()
    assert PASSWORD.lower() not in shown.lower()


@pytest.mark.parametrize("text", [f"mqtt://{USER}:{PASSWORD}@b", f"{USER}:{PASSWORD}@b", "a@b"])
def test_url_in_place_of_a_host_is_refused_without_its_text(text: str):
    with pytest.raises(OptionsError, match="must be a host name or an address") as caught:
        MqttOptions(host=text)
    assert PASSWORD not in str(caught.value)


def test_logs_and_errors_of_a_connection_have_no_user_information(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.DEBUG)
    url = f"mqtt://{USER}:{PASSWORD}@127.0.0.1:{free_port()}"
    link = mqtt_link(MqttOptions.from_url(url, retry_min=0.01))
    opened = link.open(lambda _: None, lambda _: None, lambda: None, timeout=0.1)
    error = opened.exception(timeout=60)
    link.close(0).result(timeout=60)
    shown = "".join(traceback.format_exception(error)) + caplog.text + link.name
    assert "127.0.0.1" in shown
    assert USER not in shown
    assert PASSWORD not in shown


def test_reprs_of_options_hide_secrets():
    options = MqttOptions(
        username="migfra",
        password=PASSWORD,
        tls=TlsOptions(certificate="c", key="k", key_password=PASSWORD),
    )
    assert repr(options) == (
        "MqttOptions(username='migfra', password='***', "
        "tls=TlsOptions(certificate='c', key='k', key_password='***'))"
    )
    assert "***" in repr(options.__rich_repr__())
    assert PASSWORD not in repr(options.__rich_repr__())


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("unknown: mqtt://u:p@ss/w@host:1", "unknown: mqtt://***@host:1"),
        ("got 'u:pass@host'", "got '***@host'"),
        ("invalid choice: 'x'", "invalid choice: 'x'"),
        ("fast/migfra/+/task", "fast/migfra/+/task"),
    ],
)
def test_user_information_in_foreign_texts_is_hidden(text: str, hidden: str):
    assert hide_user_information(text) == hidden


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        ("  password: s3cret", "  password: ******"),
        ('  "password" : "s3 cret"', '  "password" : *********'),
        ("  password-file: /etc/x", "  password-file: /etc/x"),
        ("  key-password-file: /etc/x", "  key-password-file: /etc/x"),
        ("  host: mqtt://u:p@b", "  host: mqtt://***@b"),
        ("  host: u:p@b", "  host: ***@b"),
        ("<graphics passwd='s3cret'/>", "<graphics passwd=**********"),
        ("  vm-name: vm1", "  vm-name: vm1"),
    ],
)
def test_secrets_of_a_line_are_hidden_in_place(line: str, hidden: str):
    assert hide_secrets_of_line(line) == hidden
    assert len(hidden) == len(line)


@pytest.mark.parametrize("part", ["[", "pass", "pass-", ":", "://", "@:", "'", " ", "a:", "token="])
@pytest.mark.parametrize("end", ["", "@"])
def test_long_text_is_searched_in_linear_time(part: str, end: str) -> None:
    """A hostile file may have such a line. Where the time is quadratic, this takes minutes."""
    text = part * (60_000 // len(part)) + end
    assert hide_user_information(text)[-1] == text[-1]
    assert len(hide_secrets_of_line(text)) == len(text)
