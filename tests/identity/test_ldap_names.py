"""Names written into filters and DNs come out again as they were, and are one value there, whatever they contain."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.identity.ldap_errors import LoginRefused
from regwarden.identity.ldap_names import (
    MAX_NAME_LENGTH,
    check_password,
    check_username,
    escape_dn,
    escape_filter,
    is_below,
    parse_dn,
    same_dn,
)

PEOPLE = "ou=people,dc=example,dc=org"
usernames = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp")) | st.sampled_from(' ,+"\\<>;=#*()'), min_size=1, max_size=40
).filter(lambda text: text == text.strip())


@pytest.mark.parametrize(
    "name",
    [
        "",
        " alice",
        "alice ",
        "\u00a0alice",
        "ali\0ce",
        "ali\nce",
        "ali\x7fce",
        "ali\u202ece",
        "ali\u200bce",
        "\ud800",
        "ali\u2028ce",
        "\ufeffalice",
        "\ue000",
        "a" * (MAX_NAME_LENGTH + 1),
    ],
)
def test_what_nobody_can_be_called_is_refused(name: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        check_username(name)
    assert caught.value.http_status == 401
    assert caught.value.code == "bad-login"


@pytest.mark.parametrize("name", ["alice", "a b", "Zoë", "李", "bob*(x)\\", "a" * MAX_NAME_LENGTH, "#1", 'x"y'])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert check_username(name) == name


@pytest.mark.parametrize("password", ["", "\0", "a\0b", "x" * 1025])
def test_a_password_is_never_empty_or_endless(password: str) -> None:
    with pytest.raises(LoginRefused):
        check_password(password)


@pytest.mark.parametrize("password", [" ", " x ", "pässwörd", "\ud800", "x" * 1024])
def test_other_passwords_stay_as_they_are(password: str) -> None:
    assert check_password(password) == password


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("alice", "alice"),
        ("*", "\\2a"),
        ("a)(uid=*", "a\\29\\28uid=\\2a"),
        ("a\\b", "a\\5cb"),
        ("\0", "\\00"),
        ("é", "\\c3\\a9"),
        (b"\x01\xff", "\\01\\ff"),
        (" a ", "\\20a\\20"),
    ],
)
def test_filters_are_escaped(value: str | bytes, escaped: str) -> None:
    assert escape_filter(value) == escaped


@given(st.text(st.characters(codec="utf-8")))
def test_a_value_in_a_filter_is_one_value(value: str) -> None:
    escaped = escape_filter(value)
    assert not set("*()\0") & set(escaped)
    assert escaped.isascii()
    raw = bytearray()
    while escaped:
        taken = 3 if escaped[0] == "\\" else 1
        raw += bytes.fromhex(escaped[1:3]) if taken == 3 else escaped[:1].encode()
        escaped = escaped[taken:]
    assert raw.decode() == value


@pytest.mark.parametrize(
    ("value", "escaped"),
    [("alice", "alice"), ("a,b", "a\\,b"), ("#1", "\\#1"), ('"', '\\"'), ("a+b=c", "a\\+b\\=c"), ("a b", "a b")],
)
def test_dns_are_escaped(value: str, escaped: str) -> None:
    assert escape_dn(value) == escaped


@given(usernames)
def test_a_value_in_a_dn_is_one_value(value: str) -> None:
    parsed = parse_dn(f"uid={escape_dn(check_username(value))},{PEOPLE}")
    assert parsed is not None
    assert parsed[1:] == parse_dn(PEOPLE)
    folded = " ".join(unicodedata.normalize("NFKC", value).casefold().split(" "))
    assert [kind for kind, _ in parsed[0]] == ["uid"]
    assert parsed[0][0][1].replace(" ", "") == folded.replace(" ", "")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("uid=alice,dc=example", "UID=Alice, DC=EXAMPLE"),
        ("uid=a\\,b,dc=x", "uid=a\\2cb,dc=x"),
        ("uid=a\\\\,dc=x", "uid=a\\5c,dc=x"),
        ('uid="a,b",dc=x', "uid=a\\,b,dc=x"),
        ("cn=a+uid=b,dc=x", "uid=b+cn=a,dc=x"),
        ("uid=Zo\\c3\\ab,dc=x", "uid=Zoë,dc=x"),
        ("uid=a  b,dc=x", "uid=a b;dc=x"),
    ],
)
def test_the_same_dn_may_be_written_in_many_ways(one: str, two: str) -> None:
    assert same_dn(one, two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("", ""),
        ("alice", "alice"),
        ("uid=alice,dc=x", ""),
        ("uid=alice,dc=x", "uid=bob,dc=x"),
        ("uid=a\\,dc=x", "uid=a,dc=x"),
        ("uid=a,dc=x\\", "uid=a,dc=x\\"),
        ("uid=alice", "uid=alice,dc=x"),
    ],
)
def test_what_is_not_the_same_dn(one: str, two: str) -> None:
    assert not same_dn(one, two)


def test_where_an_entry_lies() -> None:
    assert is_below(f"cn=a,{PEOPLE}", "OU=People, dc=example,dc=org")
    assert is_below(PEOPLE, PEOPLE)
    assert not is_below("cn=a,ou=corner,dc=example,dc=org", PEOPLE)
    assert not is_below(f"cn=a\\,{PEOPLE}", PEOPLE)
    assert not is_below("cn=a", "")
    assert not is_below("", "")


@given(st.text(max_size=60))
def test_any_text_is_a_dn_or_none(text: str) -> None:
    parse_dn(text)
