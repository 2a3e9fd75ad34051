"""Sign-ins: a refresh token is good once, and a family of tokens ends as a whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import func, insert, select

from regwarden.store.access_schema import sessions, signing_keys, spent_assertions, spent_refreshes
from regwarden.store.access_state import KEPT_AFTER_END, load_access, purge_access
from regwarden.store.changes import ACCESS, read_changes
from regwarden.store.database import Database
from regwarden.store.sessions import (
    REUSED,
    NewSession,
    SignedInAs,
    StoredSession,
    end_session,
    end_sessions_of,
    find_session,
    list_sessions,
    load_ended,
    load_not_before,
    rotate_refresh,
    save_session,
)
from regwarden.store.times import to_micros

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ANN = SignedInAs(subject="ldap:1", kind="directory", name="ann", display_name="Ann")
FIRST, SECOND, THIRD = (bytes([number]) * 32 for number in (1, 2, 3))


def begin(database: Database, public_id: str = "s1", who: SignedInAs = ANN, **changes: object) -> None:
    fields = {"provider": "ldap", "login": "uid=ann", "expires_at": NOW + 8 * HOUR, "refresh_sha256": FIRST}
    new = NewSession(public_id=public_id, principal=who, **(fields | changes))  # type: ignore[arg-type]  # the same types
    database.write_now(lambda connection: save_session(connection, new, NOW))


def find(database: Database, public_id: str = "s1") -> StoredSession:
    found = database.read_now(lambda connection: find_session(connection, public_id))
    assert found is not None
    return found


def rotate(database: Database, spent: bytes, new: bytes, at: datetime = NOW + HOUR, public_id: str = "s1") -> bool:
    work = partial(rotate_refresh, public_id=public_id, spent=spent, new=new, principal=ANN, at=at)
    return database.write_now(work)


def ended(database: Database, at: datetime = NOW) -> frozenset[str]:
    return database.read_now(lambda connection: load_ended(connection, at))


def test_a_sign_in_is_kept_with_who_signed_in(database: Database) -> None:
    begin(database, made_from="192.0.2.1")
    kept = find(database)
    assert (kept.principal, kept.provider, kept.login, kept.made_from) == (ANN, "ldap", "uid=ann", "192.0.2.1")
    assert (kept.made_at, kept.expires_at, kept.interface) == (NOW, NOW + 8 * HOUR, "api")
    assert kept.is_living(NOW)
    assert not kept.is_living(NOW + 8 * HOUR)
    assert database.read_now(lambda connection: find_session(connection, "s2")) is None


def test_one_principal_has_many_sign_ins_and_the_newest_spelling(database: Database) -> None:
    begin(database)
    begin(database, "s2", SignedInAs(subject="ldap:1", kind="directory", name="Ann"), refresh_sha256=SECOND)
    begin(database, "s3", SignedInAs(subject="ldap:2", kind="directory", name="bob"), refresh_sha256=None)
    found = database.read_now(lambda connection: list_sessions(connection, subject="ldap:1"))
    assert [(one.public_id, one.principal.name) for one in found] == [("s1", "Ann"), ("s2", "Ann")]


def test_a_refresh_token_is_good_once(database: Database) -> None:
    begin(database)
    assert rotate(database, FIRST, SECOND)
    assert find(database).refresh_sha256 == SECOND
    assert find(database).refreshed_at == NOW + HOUR
    assert rotate(database, SECOND, THIRD)
    assert ended(database) == frozenset()


def test_a_spent_refresh_token_ends_the_family(database: Database) -> None:
    begin(database)
    begin(database, "s2", refresh_sha256=bytes(32))
    assert rotate(database, FIRST, SECOND)
    assert not rotate(database, FIRST, THIRD)
    assert find(database).revoked_reason == REUSED
    assert not rotate(database, SECOND, THIRD), "the one that was valid is not any more"
    assert ended(database) == {"s1"}


def test_a_wrong_refresh_token_ends_nothing(database: Database) -> None:
    begin(database)
    begin(database, "s2", refresh_sha256=SECOND)
    assert rotate(database, SECOND, THIRD, public_id="s2")
    assert not rotate(database, THIRD, SECOND)
    assert not rotate(database, SECOND, THIRD), "spent, but in another family"
    assert ended(database) == frozenset()


def test_an_expired_sign_in_is_not_prolonged(database: Database) -> None:
    begin(database)
    assert not rotate(database, FIRST, SECOND, NOW + 8 * HOUR)


def test_of_many_that_show_a_refresh_token_at_once_one_is_served_and_the_family_ends(database: Database) -> None:
    begin(database)
    with ThreadPoolExecutor(8) as pool:
        served = list(pool.map(lambda number: rotate(database, FIRST, bytes([50 + number]) * 32), range(8)))
    assert served.count(True) == 1
    assert ended(database) == {"s1"}


def test_an_ended_sign_in_is_known_until_its_tokens_have_expired(database: Database) -> None:
    begin(database)
    assert database.write_now(lambda connection: end_session(connection, "s1", "signed out", NOW))
    assert not database.write_now(lambda connection: end_session(connection, "s1", "again", NOW + HOUR))
    assert find(database).revoked_reason == "signed out"
    assert ended(database, NOW + 8 * HOUR) == {"s1"}, "for a moment longer: clocks differ"
    assert ended(database, NOW + 9 * HOUR) == frozenset()
    assert not rotate(database, FIRST, SECOND)
    assert database.read_now(lambda connection: list_sessions(connection, living_at=NOW)) == []


def test_all_sign_ins_of_somebody_end_together(database: Database) -> None:
    begin(database)
    begin(database, "s2", refresh_sha256=SECOND)
    begin(database, "s3", SignedInAs(subject="ldap:2", kind="directory", name="bob"), refresh_sha256=THIRD)
    before = database.read_now(read_changes)[ACCESS]
    assert database.write_now(lambda connection: end_sessions_of(connection, "ldap:1", "ended by bob", NOW + HOUR)) == 2
    assert database.write_now(lambda connection: end_sessions_of(connection, "ldap:9", "ended by bob", NOW)) == 0
    assert ended(database) == {"s1", "s2"}
    assert database.read_now(load_not_before) == {"ldap:1": NOW + HOUR}
    assert database.read_now(read_changes)[ACCESS] > before


def test_what_has_expired_long_ago_is_purged_and_nothing_else(database: Database) -> None:
    begin(database)
    begin(database, "s2", expires_at=NOW + 24 * HOUR, refresh_sha256=THIRD)
    rotate(database, FIRST, SECOND)

    def add(connection: object) -> None:
        for number, until in enumerate((NOW, NOW + KEPT_AFTER_END + 9 * HOUR)):
            row = {"issuer": "i", "jti": str(number), "expires_at": to_micros(until)}
            connection.execute(insert(spent_assertions).values(row))  # type: ignore[attr-defined]  # a connection
            times = dict.fromkeys(("made_at", "signs_from", "signs_until", "verifies_until"), to_micros(until))
            key = {"kid": str(number), "interface": "api", "private_key": b"k", **times}
            connection.execute(insert(signing_keys).values(key))  # type: ignore[attr-defined]  # a connection

    database.write_now(add)
    now = NOW + 8 * HOUR + KEPT_AFTER_END + timedelta(seconds=1)
    assert not database.write_now(lambda connection: purge_access(connection, now))
    tables = (sessions, spent_refreshes, spent_assertions, signing_keys)
    counted = select(*(select(func.count()).select_from(table).scalar_subquery() for table in tables))
    assert tuple(database.read_now(lambda found: found.execute(counted).one())) == (1, 0, 1, 1)
    assert find(database, "s2").public_id == "s2"


def test_the_state_has_everything_and_the_number_of_its_change(database: Database) -> None:
    begin(database)
    database.write_now(lambda connection: end_session(connection, "s1", "signed out", NOW))
    state = database.read_now(lambda connection: load_access(connection, NOW))
    assert state.ended == {"s1"}
    assert not state.tokens
    assert not state.keys
    assert state.number == database.read_now(read_changes)[ACCESS]


def test_a_job_with_the_subject_of_a_person_changes_nothing_about_the_person(database: Database) -> None:
    person = SignedInAs(subject="oidc:https://idp:7", kind="oidc", name="ann")
    job = SignedInAs(subject="oidc:https://idp:7", kind="workload", name="7")
    begin(database, who=person)
    begin(database, "s2", who=job)
    assert find(database).principal == person
    assert find(database, "s2").principal == job
    begin(database, "s3", who=person)
    assert database.write_now(lambda connection: end_sessions_of(connection, person.subject, "", NOW + HOUR)) == 3
    assert ended(database) == {"s1", "s2", "s3"}
    assert database.read_now(load_not_before) == {person.subject: NOW + HOUR}
