"""Tokens are made, shown and ended; the first start has one token, and only where nobody else can reach it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from regwarden import connect
from regwarden.core.robot_tokens import parse_token
from regwarden.errors import Conflict, InputError, NotFound
from regwarden.library_tokens import (
    SETUP_NAME,
    SetupToken,
    TokenMade,
    end_session,
    end_sessions_of,
    end_token,
    ensure_setup_token,
    find_sessions,
    find_tokens,
    make_token,
)
from regwarden.settings import Settings
from regwarden.settings_access import AuthSettings, LdapSettings, OidcSettings
from regwarden.store.audit import AuditFilter, list_audit
from regwarden.store.database import Access, Database, open_database
from regwarden.store.sessions import NewSession, SignedInAs, save_session
from regwarden.store.tokens import list_tokens
from tests.control_service import control_service

NOW = datetime(2026, 11, 1, tzinfo=UTC)
DAY = timedelta(days=1)
VIEWER = [{"role": "viewer"}]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr("regwarden.library_tokens.clock.now", lambda: NOW)
    with closing(open_database(f"sqlite:///{tmp_path / 'a.sqlite3'}", access=Access.WRITE, create=True)) as database:
        yield database


def make(database: Database, name: str = "ci", expires: str | None = None) -> TokenMade:
    return make_token(database, name=name, grants=VIEWER, expires=expires, principal="ann")


def begin(database: Database, public_id: str, subject: str) -> None:
    who = SignedInAs(subject=subject, kind="directory", name=subject[5:])
    new = NewSession(public_id=public_id, principal=who, provider="ldap", login="x", expires_at=NOW + DAY)
    database.write_now(lambda connection: save_session(connection, new, NOW))


def actions(database: Database) -> list[str]:
    return [entry.action for entry in database.read_now(lambda connection: list_audit(connection, AuditFilter()))]


def test_a_token_is_made_shown_once_and_on_record(database: Database) -> None:
    made = make(database)
    (kept,) = database.read_now(list_tokens)
    assert kept.secret_sha256 == parse_token(made.token).secret_sha256
    assert made.expires_at == NOW + 90 * DAY
    assert made.token not in repr(made)
    (row,) = database.read_now(find_tokens)
    assert (row["id"], row["name"], row["roles"]) == (made.id, "ci", ["viewer"])
    assert "secret" not in str(row)
    (entry,) = database.read_now(lambda connection: list_audit(connection, AuditFilter()))
    assert (entry.action, entry.principal, entry.subject) == ("token-create", "ann", "ci")
    assert parse_token(made.token).secret not in str(entry)


@pytest.mark.parametrize(
    ("expires", "until"),
    [("1d", NOW + DAY), ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)), ("1500d", NOW + 1500 * DAY)],
)
def test_a_token_expires_when_it_is_said(database: Database, expires: str, until: datetime) -> None:
    assert make(database, expires=expires).expires_at == until


@pytest.mark.parametrize("expires", ["0d", "2000d", "2020-01-01", "9999999999d", "never", ""])
def test_a_token_cannot_last_for_ever_or_be_over(database: Database, expires: str) -> None:
    with pytest.raises(InputError):
        make(database, expires=expires)
    assert database.read_now(list_tokens) == []


@pytest.mark.parametrize("name", ["", " ci", "ci\n", "-ci", "c i", "x" * 101, "ü"])
def test_names_are_plain(database: Database, name: str) -> None:
    with pytest.raises(InputError) as raised:
        make(database, name)
    assert raised.value.code == "bad-token-request"


def test_a_token_needs_a_role(database: Database) -> None:
    for grants, code in (([], "bad-token-request"), ([{"role": "king"}], "bad-grant")):
        with pytest.raises(InputError) as raised:
            make_token(database, name="ci", grants=grants, expires=None, principal="ann")
        assert raised.value.code == code


def test_a_token_is_revoked_by_name_or_id(database: Database) -> None:
    first, second = make(database, "one"), make(database, "two")
    end_token(database, first.id, "bob")
    end_token(database, "two", "bob")
    assert database.read_now(find_tokens) == []
    rows = database.read_now(lambda connection: find_tokens(connection, include_ended=True))
    assert [(row["id"], row["revoked_by"]) for row in rows] == [(first.id, "bob"), (second.id, "bob")]
    with pytest.raises(NotFound):
        end_token(database, "two", "bob")
    assert actions(database) == ["token-create", "token-create", "token-revoke", "token-revoke"]


def test_a_sign_in_is_ended_by_who_may(database: Database) -> None:
    begin(database, "s1", "ldap:ann")
    begin(database, "s2", "ldap:bob")
    for wrong, subject in (("s1", "ldap:bob"), ("unknown", None)):
        with pytest.raises(NotFound) as raised:
            end_session(database, wrong, "bob", subject=subject)
        assert raised.value.code == "unknown-session"
    end_session(database, "s2", "bob", subject="ldap:bob")
    end_session(database, "s1", "root")
    with pytest.raises(NotFound):
        end_session(database, "s1", "root")
    rows = database.read_now(lambda connection: find_sessions(connection, include_ended=True))
    assert [(row["id"], row["ended_reason"]) for row in rows] == [("s1", "ended by root"), ("s2", "ended by bob")]
    assert database.read_now(find_sessions) == []


def test_all_sign_ins_of_somebody_are_ended(database: Database) -> None:
    for public_id in ("s1", "s2"):
        begin(database, public_id, "ldap:ann")
    assert end_sessions_of(database, "ldap:ann", "root") == 2
    assert end_sessions_of(database, "ldap:ann", "root") == 0


def test_the_first_start_has_a_token_for_a_day(database: Database) -> None:
    made = ensure_setup_token(database, Settings(), is_loopback_only=True, now=NOW)
    assert made.token is not None
    assert made.token not in repr(made)
    (kept,) = database.read_now(list_tokens)
    assert (kept.name, kept.purpose, kept.expires_at) == (SETUP_NAME, "setup", NOW + DAY)
    again = ensure_setup_token(database, Settings(), is_loopback_only=True, now=NOW)
    assert again.token is None, "shown once"
    assert "regwarden token create" in again.hint
    make_token(database, name="admin", grants=[{"role": "admin"}], expires=None, principal="ann")
    assert [row["name"] for row in database.read_now(find_tokens)] == ["admin"]
    assert ensure_setup_token(database, Settings(), is_loopback_only=True, now=NOW) == SetupToken()


def test_a_token_of_the_first_start_that_has_expired_is_made_again(database: Database) -> None:
    ensure_setup_token(database, Settings(), is_loopback_only=True, now=NOW)
    assert ensure_setup_token(database, Settings(), is_loopback_only=True, now=NOW + DAY).token


def test_where_others_can_reach_the_service_there_is_a_hint_and_no_token(database: Database) -> None:
    found = ensure_setup_token(database, Settings(), is_loopback_only=False, now=NOW)
    assert found.token is None
    assert "regwarden token create" in found.hint
    assert database.read_now(list_tokens) == []
    make(database)
    assert ensure_setup_token(database, Settings(), is_loopback_only=False, now=NOW).hint == ""


@pytest.mark.parametrize(
    "settings",
    [
        Settings(ldap=LdapSettings(servers=("ldaps://ldap.example.com",))),
        Settings(oidc=(OidcSettings(name="sso", issuer="https://sso.example.com"),)),
        Settings(auth=AuthSettings(tokens_file="/etc/regwarden/tokens.yaml")),
    ],
)
def test_where_people_can_sign_in_there_is_none(database: Database, settings: Settings) -> None:
    for is_loopback_only in (True, False):
        found = ensure_setup_token(database, settings, is_loopback_only=is_loopback_only, now=NOW)
        assert (found.token, found.hint) == (None, "")


def test_the_library_makes_lists_and_revokes_tokens(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'b.sqlite3'}", environ={}) as inventory:
        made = inventory.create_token("ci", roles=["cleaner"], repositories=["glob:team/**"])
        assert made.token.startswith("rgw_")
        assert made.grants == [{"role": "cleaner", "repositories": ["glob:team/**"]}]
        assert [row.name for row in inventory.tokens()] == ["ci"]
        with pytest.raises(Conflict):
            inventory.create_token("ci", roles=["viewer"])
        inventory.revoke_token("ci")
        assert inventory.tokens() == []
        assert inventory.sessions() == []
        assert len(inventory.tokens(include_ended=True)) == 1


def test_beside_a_service_it_is_asked_to_do_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'c.sqlite3'}"
    done: list[str] = []
    with control_service(url, done.append) as database, connect(url, environ={}) as inventory:
        made = inventory.create_token("ci", roles=["viewer"], expires="1d")
        assert parse_token(made.token).public_id == made.id
        inventory.revoke_token(made.id)
        who = SignedInAs(subject="ldap:ann", kind="directory", name="ann")
        ends = datetime.now(UTC) + DAY
        new = NewSession(public_id="s1", principal=who, provider="ldap", login="x", expires_at=ends)
        database.write_now(lambda connection: save_session(connection, new, datetime.now(UTC)))
        inventory.end_session("s1")
        with pytest.raises(NotFound):
            inventory.end_session("s1")
    assert done == ["token-create", "token-revoke", "session-end"]


@pytest.mark.parametrize(
    ("settings", "is_loopback_only"),
    [(Settings(), False), (Settings(auth=AuthSettings(tokens_file="/tokens.yaml")), True)],
)
def test_the_first_token_ends_where_others_can_come_in(database, settings, is_loopback_only):
    assert ensure_setup_token(database, Settings(), is_loopback_only=True, now=NOW).token
    found = ensure_setup_token(database, settings, is_loopback_only=is_loopback_only, now=NOW)
    assert found.token is None
    assert database.read_now(lambda connection: list_tokens(connection, living_at=NOW)) == []
    assert bool(found.hint) is not is_loopback_only
