"""The exact bytes of a repository's manifests; what is not known is not there."""

from __future__ import annotations

import zlib

from sqlalchemy import select, update

from regwarden.core.oci.digests import Digest
from regwarden.store.database import Database
from regwarden.store.raw_manifests import load_raw
from regwarden.store.schema import manifests
from tests.notifications import digest_of, push, remove, take_in


def test_only_what_exists_and_is_known_is_given(database: Database) -> None:
    take_in(database, *(push("team/app", "a", number, number) for number in (1, 2, 3, 4)), push("b", "a", 5, 0))
    take_in(database, remove("team/app", 4, 9))

    def write(connection) -> None:
        for number, payload in ((1, b"one"), (3, b"three"), (4, b"four"), (5, b"five")):
            packed = zlib.compress(payload) if number != 3 else b"damaged"
            stored = Digest.parse(digest_of(number)).to_bytes()
            connection.execute(update(manifests).where(manifests.c.digest == stored).values(payload=packed))
        assert connection.execute(select(manifests.c.id).where(manifests.c.payload.is_(None))).scalars().all()

    database.write_now(write)

    def raw(repository: str, registry: str = "prod") -> dict[str, bytes]:
        return dict(database.read_now(lambda connection: load_raw(connection, registry, repository)))

    assert raw("team/app") == {digest_of(1): b"one"}
    assert raw("b") == {digest_of(5): b"five"}
    assert raw("elsewhere") == raw("b", "other") == {}
