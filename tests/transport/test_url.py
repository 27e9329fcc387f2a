"""A broker by its URL."""

import pytest

from fastlib.transport import MqttOptions, OptionsError, TlsOptions


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("broker", MqttOptions(host="broker")),
        ("broker:1884", MqttOptions(host="broker", port=1884)),
        ("[::1]:1884", MqttOptions(host="::1", port=1884)),
        ("mqtt://broker/", MqttOptions(host="broker")),
        ("MQTT://Broker", MqttOptions(host="broker")),
        ("mqtt:1883", MqttOptions(host="mqtt", port=1883)),
        ("::1", MqttOptions(host="::1")),
        ("mqtt://::1", MqttOptions(host="::1")),
        ("[::1]", MqttOptions(host="::1")),
        ("::ffff:192.0.2.1", MqttOptions(host="::ffff:192.0.2.1")),
        ("fe80::1%eth0", MqttOptions(host="fe80::1%eth0")),
        ("[fe80::1%eth0]:1884", MqttOptions(host="fe80::1%eth0", port=1884)),
        ("mqtt://[fe80::1%25eth0.7]", MqttOptions(host="fe80::1%eth0.7")),
        (
            "mqtt://user:p@ss:w0rd@broker",
            MqttOptions(host="broker", username="user", password="p@ss:w0rd"),
        ),
        ("user:100%@broker", MqttOptions(host="broker", username="user", password="100%")),
        ("mqtts://broker", MqttOptions(host="broker", tls=TlsOptions())),
        ("ws://broker", MqttOptions(host="broker", websocket_path="/mqtt")),
        ("ws://broker/", MqttOptions(host="broker", websocket_path="/")),
        ("WS://b:8080/a/b%20c", MqttOptions(host="b", port=8080, websocket_path="/a/b%20c")),
        (
            "wss://user:p%2Fw@broker/mqtt",
            MqttOptions(
                host="broker",
                username="user",
                password="p/w",
                tls=TlsOptions(),
                websocket_path="/mqtt",
            ),
        ),
        (
            "mqtts://us%40er:p%2Fw@broker:8884",
            MqttOptions(
                host="broker", port=8884, username="us@er", password="p/w", tls=TlsOptions()
            ),
        ),
    ],
)
def test_url_gives_options(url: str, options: MqttOptions):
    assert MqttOptions.from_url(url) == options


def test_options_override_the_url():
    options = MqttOptions.from_url("mqtt://user@broker", client_id="me", username="other")
    assert (options.host, options.client_id, options.username) == ("broker", "me", "other")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://broker", "must begin with mqtt://"),
        ("mqtt://", "host"),
        ("", "host"),
        ("mqtt://broker/topic", "no more"),
        ("mqtt://u:p@b1,u:p@b2", "of several brokers, .* has one user"),
        ("u@b1:1884,u@b2:1884", "of several brokers, .* has one user"),
        ("mqtt://b1,mqtt://b2", "has one scheme and one user"),
        ("mqtts://u:p@b1, mqtts://u:p@b2", "has one scheme and one user"),
        ("mqtt://broker?x=1", "no more"),
        ("broker:port", "from 1 to 65535"),
        ("broker:99999", "from 1 to 65535"),
        ("broker:0", "from 1 to 65535"),
        ("broker:-1", "from 1 to 65535"),
        ("broker:1883:1884", "not an IPv6 address"),
        ("::1:1883", r"in brackets, such as \[::1\]:1883"),
        ("mqtt://[broker", "in brackets"),
        ("[broker]", "not an IPv6 address"),
        ("[::1]x", "in brackets"),
        ("[fe80::1%]", "not an IPv6 address"),
        ("mqtt://[::1%25lo]", "remove the zone"),
        ("mqtt://user:a/b@broker", "%2F"),
        ("mqtt://user:%ff@broker", "not UTF-8"),
        ("mqtt://:word@broker", "no user"),
        ("mqtt://@broker", "no user"),
        ("bro ker", "without spaces"),
    ],
)
def test_invalid_url_is_refused(url: str, words: str):
    with pytest.raises(OptionsError, match=words):
        MqttOptions.from_url(url)


def test_error_hides_the_password():
    with pytest.raises(OptionsError) as caught:
        MqttOptions.from_url("mqtt://user:hush@broker:port/topic")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", [b"mqtt://user:hush@broker", None, 1883])
def test_url_of_another_type_is_refused_without_its_value(url: object):
    with pytest.raises(TypeError, match="must be a str, not") as caught:
        MqttOptions.from_url(url)  # type: ignore[arg-type]
    assert "hush" not in str(caught.value)


def test_list_of_hosts_in_one_text_is_refused():
    with pytest.raises(OptionsError, match="give a list of hosts"):
        MqttOptions(host="b1,b2")


def test_host_in_brackets_is_the_address():
    assert MqttOptions(host="[::1]").host == "::1"
