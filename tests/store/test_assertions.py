"""Is every token of an identity provider taken once, by whichever process, and the sealing key the same for all?"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import select

from regwarden.store.access_schema import spent_assertions
from regwarden.store.assertions import ensure_seal_key, spend_assertion
from regwarden.store.times import from_micros

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
END = NOW + timedelta(minutes=5)


def spend(jti, issuer="https://sso.example.com", expires_at=END):
    return partial(spend_assertion, issuer=issuer, jti=jti, expires_at=expires_at)


async def test_a_token_is_taken_once(database):
    assert await database.write(spend("one"))
    assert not await database.write(spend("one"))
    assert not await database.write(spend("one", expires_at=END + timedelta(days=1)))
    assert await database.write(spend("two"))
    assert await database.write(spend("one", issuer="https://other.example.com"))


async def test_of_many_at_the_same_time_one_is_taken(database):
    assert sorted(await asyncio.gather(*(database.write(spend("one")) for _ in range(8)))) == [False] * 7 + [True]


async def test_it_is_kept_longer_than_anybody_accepts_the_token(database):
    await database.write(spend("one"))
    kept = await database.read(
        lambda connection: connection.execute(select(spent_assertions.c.expires_at)).scalar_one()
    )
    assert from_micros(kept) > END + timedelta(seconds=60)


async def test_the_key_that_seals_is_made_once(database):
    assert await database.write(lambda connection: ensure_seal_key(connection, "first", NOW)) == "first"
    assert await database.write(lambda connection: ensure_seal_key(connection, "second", NOW)) == "first"
