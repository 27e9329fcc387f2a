"""Password files, and user names and passwords that MQTT cannot send."""

import codecs
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastlib.transport import MqttOptions, OptionsError
from fastlib.transport.credentials import read_password_file
from fastlib.transport.mqtt.link import mqtt_link


@pytest.mark.parametrize(
    ("data", "password"),
    [
        (b"s3cret\n", "s3cret"),
        (b"s3cret", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b"s3cret\r\nsecond line", "s3cret"),
        (b" with spaces \n", " with spaces "),
        ("pässwörd €\n".encode(), "pässwörd €"),
        (codecs.BOM_UTF8 + "pässwörd\n".encode(), "pässwörd"),
        ("pässwörd\r\n".encode("utf-16"), "pässwörd"),
        (codecs.BOM_UTF16_BE + "pässwörd\n".encode("utf-16-be"), "pässwörd"),
        ("pässwörd\n".encode("utf-32"), "pässwörd"),
    ],
)
def test_first_line_of_the_file_is_the_password(tmp_path: Path, data: bytes, password: str):
    file = tmp_path / "password"
    file.write_bytes(data)
    assert read_password_file(file) == password


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no password in its first line"),
        (b"\n", "no password in its first line"),
        (b"\r\ns3cret", "no password in its first line"),
        (codecs.BOM_UTF8, "no password in its first line"),
        (b"s3cr\xfct\n", "is not UTF-8"),
        (codecs.BOM_UTF16_LE + b"s3cre", "is not UTF-8"),
    ],
)
def test_unusable_file_is_refused_without_its_text(tmp_path: Path, data: bytes, words: str):
    file = tmp_path / "secret-file"
    file.write_bytes(data)
    with pytest.raises(OptionsError, match=words) as caught:
        read_password_file(file)
    assert str(file) in str(caught.value)
    assert "s3cr" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("path", "words"),
    [("missing", "No such file"), (".", "Is a directory"), ("a\0b", "null byte")],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, path: str, words: str):
    with pytest.raises(OptionsError, match=words):
        read_password_file(f"{tmp_path}/{path}")


def test_endless_file_is_not_read_to_its_end():
    with pytest.raises(OptionsError, match="at most 65535 bytes"):
        mqtt_link(MqttOptions(username="user", password_file="/dev/zero"))


def test_password_file_does_not_depend_on_the_locale(tmp_path: Path):
    file = tmp_path / "password"
    file.write_bytes("pässwörd €\n".encode())
    code = (
        "import sys\n"
        "from fastlib.transport.credentials import read_password_file\n"
        "print(ascii(read_password_file(sys.argv[1])))\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.strip() == ascii("pässwörd €")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"username": "us\0er"}, "`username` must not have a NUL"),
        ({"username": "us\udcffer"}, "`username` has characters that are not Unicode"),
        ({"username": "u", "password": "s3cr\udcfft"}, "`password` has characters"),
        ({"username": "u", "password": "s3cret" * 20_000}, "at most 65535 bytes, not 120000"),
    ],
)
def test_text_that_mqtt_cannot_send_is_refused(options: dict[str, str], words: str):
    with pytest.raises(OptionsError, match=words) as caught:
        MqttOptions(**options)  # type: ignore[arg-type]
    assert "s3cr" not in str(caught.value)
    assert caught.value.__context__ is None
