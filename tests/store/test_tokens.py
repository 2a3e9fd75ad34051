"""Tokens of programs: names are unique among living ones, uses are kept once a minute, revoked ones stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import update

from regwarden.core.access import Grant, Role
from regwarden.core.grants import build_grants
from regwarden.errors import Conflict, NotFound
from regwarden.store.access_schema import tokens
from regwarden.store.changes import ACCESS, read_changes
from regwarden.store.database import Database
from regwarden.store.tokens import (
    SETUP,
    NewToken,
    StoredToken,
    find_token,
    list_tokens,
    note_uses,
    revoke_token,
    save_token,
)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
VIEWER = tuple(build_grants(["viewer"], ["prod"], ["glob:team/**"]))


def save(database: Database, name: str, at: datetime = NOW, **changes: object) -> StoredToken:
    fields = {
        "public_id": f"id-{name}-{at:%d}",
        "name": name,
        "secret_sha256": b"\x00\xff" * 16,
        "grants": VIEWER,
        "made_by": "ann",
        "expires_at": at + 90 * DAY,
    }
    new = NewToken(**(fields | changes))  # type: ignore[arg-type]  # changes are of the same types
    return database.write_now(lambda connection: save_token(connection, new, at))


def names(database: Database, at: datetime | None = None) -> list[str]:
    return [token.name for token in database.read_now(lambda connection: list_tokens(connection, living_at=at))]


def test_a_token_is_kept_as_it_was_made_and_counted_as_a_change(database: Database) -> None:
    made = save(database, "ci")
    (kept,) = database.read_now(list_tokens)
    assert kept == made
    assert (kept.grants, kept.made_at, kept.expires_at) == (VIEWER, NOW, NOW + 90 * DAY)
    assert (kept.last_used_at, kept.revoked_at) == (None, None)
    assert "secret" not in repr(kept)
    assert database.read_now(read_changes) == {ACCESS: 1}


def test_a_name_is_free_again_when_its_token_has_ended(database: Database) -> None:
    first = save(database, "ci")
    with pytest.raises(Conflict) as raised:
        save(database, "ci", NOW + DAY)
    assert raised.value.code == "token-exists"
    database.write_now(lambda connection: revoke_token(connection, first.id, NOW + DAY, "bob"))
    save(database, "ci", NOW + DAY)
    save(database, "ci", NOW + 200 * DAY, public_id="third")
    assert names(database) == ["ci", "ci", "ci"]
    assert names(database, NOW + 200 * DAY) == ["ci"]


def test_a_revoked_token_says_who_and_when_and_is_not_revoked_again(database: Database) -> None:
    token = save(database, "ci")
    for at, who in ((NOW + DAY, "bob"), (NOW + 2 * DAY, "eve")):
        database.write_now(partial(revoke_token, token_id=token.id, at=at, by=who))
    (kept,) = database.read_now(list_tokens)
    assert (kept.revoked_at, kept.revoked_by) == (NOW + DAY, "bob")


def test_tokens_are_found_by_name_or_id_while_they_live(database: Database) -> None:
    token = save(database, "ci")
    other = save(database, token.public_id, public_id="other")
    find = lambda text, at=NOW: database.read_now(lambda connection: find_token(connection, text, at))  # noqa: E731 -- short
    assert find("ci") == token
    assert find("other") == other
    assert find(token.public_id) == token, "an id counts before a name"
    for text, at in (("unknown", NOW), ("ci", NOW + 90 * DAY)):
        with pytest.raises(NotFound) as raised:
            find(text, at)
        assert raised.value.code == "unknown-token"


def test_a_use_is_kept_once_a_minute_and_is_no_change(database: Database) -> None:
    token = save(database, "ci")
    for seconds, source in ((0, "a"), (30, "b"), (59, "c"), (-60, "d")):
        uses = {token.id: (NOW + timedelta(seconds=seconds), source)}
        database.write_now(partial(note_uses, uses=uses))
    (kept,) = database.read_now(list_tokens)
    assert (kept.last_used_at, kept.last_used_from) == (NOW, "a")
    later = {token.id: (NOW + timedelta(seconds=60), "e"), 999: (NOW, "nobody")}
    database.write_now(lambda connection: note_uses(connection, later))
    (kept,) = database.read_now(list_tokens)
    assert (kept.last_used_at, kept.last_used_from) == (NOW + timedelta(seconds=60), "e")
    assert database.read_now(read_changes) == {ACCESS: 1}


def test_grants_that_cannot_be_understood_give_nothing(database: Database) -> None:
    save(database, "ci")
    save(database, "other")
    for written in ("[", '[{"role": "king"}]', '[{"role": "viewer"}, {}]'):
        change = update(tokens).where(tokens.c.name == "ci").values(grants=written)
        database.write_now(lambda connection, change=change: connection.execute(change))  # type: ignore[misc]  # a default binds it
        found = database.read_now(list_tokens)
        assert [(one.name, one.grants) for one in found] == [("ci", ()), ("other", VIEWER)]


def test_the_token_of_the_first_start_ends_when_an_administrator_has_one(database: Database) -> None:
    save(database, "first-start", grants=(Grant(Role.ADMIN),), purpose=SETUP)
    save(database, "viewer")
    save(database, "local-admin", grants=tuple(build_grants(["admin"], ["prod"])))
    assert names(database, NOW) == ["first-start", "viewer", "local-admin"]
    save(database, "admin", grants=(Grant(Role.ADMIN),))
    assert names(database, NOW) == ["viewer", "local-admin", "admin"]
