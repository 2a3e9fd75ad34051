"""In which order do transactions lock what they share, so that on PostgreSQL none waits for one that waits for it?

First the rows of repositories, by registry and name: whoever changes anything of a repository has its row. Then blobs,
then manifests, each by digest, which all repositories share. Then rows of ``registries``. SQLite has one writer and
needs none of this.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy.engine import Connection

_LOCK: Final = """SELECT id FROM repositories WHERE id = ANY(%b::bigint[])
ORDER BY registry_id, name FOR NO KEY UPDATE"""
_OF_TAGS: Final = "SELECT DISTINCT repository_id FROM tags WHERE id = ANY(%b::bigint[])"


def lock_repositories(connection: Connection, repository_ids: Iterable[int]) -> None:
    """Let nobody else change anything of these repositories until the transaction ends; what they did is seen then."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_LOCK, (sorted(set(repository_ids)),))


def lock_repositories_of_tags(connection: Connection, tag_ids: Iterable[int]) -> None:
    """As ``lock_repositories``, for the repositories of these tags."""
    if connection.dialect.name == "postgresql":
        lock_repositories(connection, connection.exec_driver_sql(_OF_TAGS, (list(tag_ids),)).scalars())
