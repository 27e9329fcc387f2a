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
        ("mqtts://broker", MqttOptions(host="broker", tls=TlsOptions())),
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
        ("http://broker", "'http'"),
        ("mqtt://", "host"),
        ("", "host"),
        ("mqtt://broker/topic", "no more"),
        ("mqtt://broker?x=1", "no more"),
        ("broker:port", "cannot be read"),
        ("broker:99999", "cannot be read"),
        ("mqtt://[broker", "cannot be read"),
    ],
)
def test_invalid_url_is_refused(url: str, words: str):
    with pytest.raises(OptionsError, match=words):
        MqttOptions.from_url(url)


def test_error_hides_the_password():
    with pytest.raises(OptionsError) as caught:
        MqttOptions.from_url("mqtt://user:hush@broker:port/topic")
    assert "hush" not in str(caught.value)
