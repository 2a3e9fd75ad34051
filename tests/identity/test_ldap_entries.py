"""From an entry to a person, and to groups, with what real and hostile directories put into entries."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec
import pytest

from regwarden.core.role_rules import SignedIn
from regwarden.identity.ldap_entries import (
    has_windows_name,
    identity_filter,
    identity_of,
    is_disabled,
    signed_in,
    wanted_attributes,
)
from regwarden.identity.ldap_errors import DirectoryError
from regwarden.identity.ldap_groups import MAX_GROUPS, find_groups
from regwarden.identity.ldap_protocol import Entry
from regwarden.settings_access import LdapSettings

SETTINGS = LdapSettings(servers=("ldaps://directory",), user_base="ou=people,dc=x", attributes=("gidNumber",))
WINDOWS = msgspec.structs.replace(SETTINGS, identity_attribute="objectGUID", username_attribute="sAMAccountName")
GUID = uuid.UUID("01020304-0506-0708-090a-0b0c0d0e0f10")


def entry(dn: str = "uid=alice,ou=people,dc=x", **attributes: str | bytes | Sequence[str | bytes]) -> Entry:
    found = {
        "entryuuid": "0-1",
        "uid": "alice",
        "cn": "Alice",
        **{key.lower(): value for key, value in attributes.items()},
    }
    return Entry(dn, {name: _raw(values) for name, values in found.items()})


def _raw(values: str | bytes | Sequence[str | bytes]) -> tuple[bytes, ...]:
    several = (values,) if isinstance(values, str | bytes) else values
    return tuple(value.encode() if isinstance(value, str) else value for value in several)


def person(found: Entry, settings: LdapSettings = SETTINGS) -> SignedIn:
    return signed_in(found, settings, frozenset())


def test_a_person() -> None:
    who = person(entry(gidNumber=["2", "1"]))
    assert (who.subject, who.name, who.display_name) == ("ldap:0-1", "alice", "Alice")
    assert who.claims == {"gidNumber": ("1", "2"), "dn": ("uid=alice,ou=people,dc=x",)}


def test_an_identity_of_active_directory_is_found_again() -> None:
    found = entry(objectGUID=GUID.bytes_le, sAMAccountName="alice")
    assert identity_of(found, WINDOWS) == str(GUID)
    written = identity_filter(str(GUID), WINDOWS)
    assert written == "(objectGUID=" + "".join(_as_sent(byte) for byte in GUID.bytes_le) + ")"
    with pytest.raises(ValueError, match="UUID"):
        identity_filter("*", WINDOWS)
    assert identity_filter("*)", SETTINGS) == "(entryUUID=\\2a\\29)"


def _as_sent(byte: int) -> str:
    return f"\\{byte:02x}"


@pytest.mark.parametrize("values", [[], ["a", "b"], "", "x" * 201, b"\xff", "a\nb"])
def test_without_one_identity_nobody_signs_in(values: str | bytes | list[str | bytes]) -> None:
    with pytest.raises(DirectoryError, match="cannot be asked") as caught:
        person(entry(entryUUID=values))
    assert "entryUUID" in caught.value.diagnostics


@pytest.mark.parametrize("values", [[], "", b"\xff", "a\x1b[31m", "x" * 257])
def test_without_a_fit_name_nobody_signs_in(values: str | bytes | list[str | bytes]) -> None:
    with pytest.raises(DirectoryError):
        person(entry(uid=values))


def test_of_several_names_it_is_always_the_same_one() -> None:
    assert person(entry("uid=zed,ou=people,dc=x", uid=["zed", "alice"])).name == "zed"
    assert person(entry("uid=Zed,ou=people,dc=x", uid=["ab", "zed"])).name == "zed"
    assert person(entry("cn=Alice,ou=people,dc=x", uid=["zed", "alice"])).name == "alice"


def test_hostile_values_are_left_out() -> None:
    who = person(entry(cn=b"\xff", gidNumber=["ok", "a\x00b", "x" * 2000, b"\xff"]))
    assert (who.display_name, who.claims["gidNumber"]) == ("", ("ok",))


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("userAccountControl", "514", True),
        ("userAccountControl", "512", False),
        ("userAccountControl", "x", False),
        ("nsAccountLock", "TRUE", True),
        ("loginDisabled", "FALSE", False),
        ("pwdAccountLockedTime", "000001010000Z", True),
        ("pwdAccountLockedTime", "20260101000000Z", False),
    ],
)
def test_disabled_accounts_are_known(attribute: str, value: str, expected: bool) -> None:
    assert attribute in wanted_attributes(SETTINGS)
    assert is_disabled(entry(**{attribute: value})) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("u:CORP\\Alice", True),
        ("u:alice", True),
        ("u:CORP\\bob", False),
        ("u:", False),
        ("", False),
        ("u:CORP\\", False),
    ],
)
def test_active_directory_says_who_is_signed_in_by_account(said: str, expected: bool) -> None:
    assert has_windows_name(entry(sAMAccountName="alice"), said) is expected


class Directory:
    """Groups that name each other, in memory."""

    def __init__(self, groups: dict[str, list[str]], *, above: dict[str, list[str]] | None = None) -> None:
        self.groups = groups
        self.above = above or {}
        self.reads: list[str] = []

    def search(self, top: str, query: str, attributes: Sequence[str], *, limit: int) -> list[Entry]:
        self.reads.append(query)
        # Members are written as `cn=NAME`, so that what is looked for stands in the filter as it is.
        return [self._entry(dn) for dn, members in self.groups.items() if any(f"={one})" in query for one in members)][
            :limit
        ]

    def read(self, dn: str, query: str, attributes: Sequence[str]) -> Entry | None:
        self.reads.append(dn)
        return self._entry(dn) if dn in self.groups or dn in self.above else None

    def _entry(self, dn: str) -> Entry:
        name = dn.partition("=")[2].partition(",")[0]
        return Entry(dn, {"cn": (name.encode(),), "memberof": _raw(self.above.get(dn, []))})


BY_SEARCH = msgspec.structs.replace(SETTINGS, group_base="dc=g", member_of_attribute="")
BY_ENTRY = SETTINGS


def test_each_group_is_read_once() -> None:
    directory = Directory({}, above={"cn=a": ["cn=b", "CN=A"], "cn=b": ["cn=a", "cn=c"], "cn=c": []})
    found = find_groups(directory, BY_ENTRY, Entry("uid=x", {"memberof": (b"cn=a", b"CN=a", b"cn=gone")}))
    assert found == {"a", "b", "c", "cn=a", "cn=b", "cn=c"}
    assert sorted(directory.reads) == ["cn=a", "cn=b", "cn=c", "cn=gone"]


def test_a_chain_is_followed_as_far_as_said() -> None:
    chain = {f"cn={number}": [f"cn={number - 1}"] for number in range(1, 10)}
    found = find_groups(Directory(chain), BY_SEARCH, Entry("cn=0", {}))
    assert {name for name in found if "=" not in name} == {str(number) for number in range(1, 7)}


def test_many_groups_are_asked_about_together() -> None:
    wide = {f"cn=g{number}": ["uid=x"] for number in range(120)}
    directory = Directory(wide)
    found = find_groups(directory, BY_SEARCH, Entry("uid=x", {}))
    assert len(found) == 240
    assert len(directory.reads) == 1 + 3


def test_too_many_groups_are_an_error_and_not_a_part_of_them() -> None:
    with pytest.raises(DirectoryError):
        find_groups(Directory({f"cn={n}": ["uid=x"] for n in range(MAX_GROUPS)}), BY_SEARCH, Entry("uid=x", {}))
    named = tuple(f"cn={number}".encode() for number in range(MAX_GROUPS + 1))
    with pytest.raises(DirectoryError):
        find_groups(Directory({}), BY_ENTRY, Entry("uid=x", {"memberof": named}))


def test_with_a_base_groups_elsewhere_do_not_count() -> None:
    both = msgspec.structs.replace(SETTINGS, group_base="dc=g")
    directory = Directory({"cn=a,dc=g": [], "cn=admins,dc=corner": []})
    user = Entry("uid=x", {"memberof": (b"cn=a,dc=g", b"cn=admins,dc=corner", b"nonsense")})
    assert find_groups(directory, both, user) == {"a", "cn=a,dc=g"}
