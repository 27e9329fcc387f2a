"""Access to the page: tokens, their files, cookies, names of the server."""

import pytest

from fastlib.dashboard import Access, AccessError
from fastlib.dashboard.access import (
    FAILURE_SECONDS,
    MAX_ADDRESSES,
    MAX_FAILURES,
    SESSION_SECONDS,
    is_loopback,
    new_token,
    read_token,
)

TOKEN = "0123456789abcdef"


def test_missing_token_file_is_made_for_its_owner_only(tmp_path):
    file = tmp_path / "token"
    token = read_token(file)
    assert len(token) >= 43, "256 bits"
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_token(file) == token
    assert new_token() != token


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("short\n", 0o600, "a token of 16 to 1024 printable"),
        ("", 0o600, "a token of 16"),
        ("x" * 1025, 0o600, "a token of 16"),
        ("0123456789abcdé" * 2, 0o600, "ASCII"),
        (TOKEN, 0o640, "chmod 600"),
    ],
)
def test_unusable_token_file_is_refused_with_a_remedy(tmp_path, content, mode, words):
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(AccessError, match=words):
        read_token(file)


def test_token_file_in_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(AccessError, match="No such file"):
        read_token(tmp_path / "missing" / "token")


def test_first_line_of_the_file_is_the_token(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\r\na comment\n")
    file.chmod(0o600)
    assert read_token(file) == TOKEN


def test_only_the_token_is_the_token():
    access = Access(TOKEN)
    assert access.is_token(TOKEN)
    for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é\ud800"):
        assert not access.is_token(wrong)
    assert not Access().is_token("")
    with pytest.raises(AccessError):
        Access("short")


def test_cookie_is_valid_until_its_end_and_for_its_token_only():
    access = Access(TOKEN)
    cookie = access.new_cookie(1000.0)
    assert access.is_cookie(cookie, 1000.0)
    assert access.is_cookie(cookie, 1000.0 + SESSION_SECONDS - 1)
    assert not access.is_cookie(cookie, 1000.0 + SESSION_SECONDS)
    assert not Access("another token of 16").is_cookie(cookie, 1000.0)
    until, _, signature = cookie.partition(".")
    for wrong in (f"{int(until) + 1}.{signature}", until, f"{until}.", f".{signature}", "é.é", ""):
        assert not access.is_cookie(wrong, 1000.0)
    assert TOKEN not in cookie


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8073",
        "LOCALHOST.:1",
        "127.0.0.1",
        "10.0.0.5:80",
        "[::1]:8073",
        "cluster.example:1",
    ],
)
def test_own_names_and_addresses_are_ours(host):
    assert Access(names=["cluster.example"]).is_our_name(host)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:8073",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        ":80",
    ],
)
def test_other_names_are_refused(host):
    assert not Access(names=["cluster.example"]).is_our_name(host)


def test_wrong_tokens_throttle_their_address_for_a_while():
    access = Access(TOKEN)
    for _ in range(MAX_FAILURES):
        assert not access.is_throttled("10.0.0.1", 5.0)
        access.note_failure("10.0.0.1", 5.0)
    assert access.is_throttled("10.0.0.1", 6.0)
    assert not access.is_throttled("10.0.0.2", 6.0)
    assert not access.is_throttled("10.0.0.1", 5.0 + FAILURE_SECONDS)
    for number in range(MAX_ADDRESSES + 5):
        access.note_failure(str(number), 7.0)
        access.note_failure(str(number), 7.0)
    assert len(access._failures) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        *((name, True) for name in ("127.0.0.1", "127.8.8.8", "::1", "localhost")),
        *((name, False) for name in ("0.0.0.0", "::", "10.0.0.5", "cluster.example")),
    ],
)
def test_loopback_addresses_are_distinguished_from_others(address, loopback):
    assert is_loopback(address) is loopback
