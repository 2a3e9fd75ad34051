"""PostgreSQL that cannot be reached or refuses: one sentence, a hint, and never the password."""

from __future__ import annotations

import psycopg
import pytest

from regwarden.errors import Conflict, StoreError
from regwarden.store.database import Access, open_database


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql://me:s3cret@127.0.0.1:1/x", "refused"),
        ("postgresql://me:s3cret@127.0.0.1:port/x", "port"),
        ("host=127.0.0.1 port=1 user=me password=s3cret", "refused"),
    ],
)
@pytest.mark.parametrize("access", Access)
def test_a_server_that_does_not_answer_is_named(address, words, access):
    with pytest.raises(StoreError, match=words) as caught:
        open_database(address, access=access, create=True)
    assert caught.value.code == "database-unreachable"
    assert "127.0.0.1" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert "s3cret" not in str(caught.value)


def test_a_wrong_password_is_not_repeated(postgresql_server, postgresql_url):
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        open_database(postgresql_url.replace(postgresql_server.password, "wr0ng"), access=Access.READ)
    assert "wr0ng" not in str(caught.value)
    assert "PGPASSWORD" in caught.value.hint


def test_a_database_that_does_not_exist_is_named(postgresql_server):
    with pytest.raises(StoreError, match="absent") as caught:
        open_database(postgresql_server.url("absent"), access=Access.READ)
    assert "createdb" in caught.value.hint


def test_a_role_that_may_not_create_tables_is_told_what_to_grant(postgresql_server, postgresql_url):
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS limited")
        connection.execute("CREATE ROLE limited LOGIN PASSWORD 's3cret'")
    url = postgresql_url.replace(f"postgres:{postgresql_server.password}", "limited:s3cret")
    with pytest.raises(StoreError) as caught:
        open_database(url, access=Access.WRITE, create=True)
    assert caught.value.code == "database-denied"
    assert "Grant" in caught.value.hint


def test_a_name_held_by_another_process_is_a_conflict_until_it_is_given_back(postgresql_url, opened):
    first, second = opened(postgresql_url), opened(postgresql_url)
    with first.exclusive("registry one"):
        with pytest.raises(Conflict) as caught, second.exclusive("registry one"):
            pass
        assert str(caught.value) == "another regwarden process is at work on registry one"
        with second.exclusive("registry two"):
            pass
    with second.exclusive("registry one"):
        pass


def test_the_names_of_different_databases_do_not_meet(postgresql_server, postgresql_url, opened):
    other = postgresql_server.create_database()
    try:
        with (
            opened(postgresql_url).exclusive("r"),
            open_database(postgresql_server.url(other), access=Access.WRITE, create=True) as database,
            database.exclusive("r"),
        ):
            pass
    finally:
        postgresql_server.drop_database(other)


def test_a_conninfo_string_opens_the_same_database(postgresql_server, postgresql_url, opened):
    opened(postgresql_url)
    name = postgresql_url.rpartition("/")[2]
    conninfo = f"host=127.0.0.1 port={postgresql_server.port} user=postgres password={postgresql_server.password}"
    assert opened(f"{conninfo} dbname={name}", access=Access.READ).dialect == "postgresql"


def test_a_commit_is_on_the_disk_when_it_is_reported_whatever_the_server_is_set_to(postgresql_url, opened):
    def setting(connection):
        return connection.exec_driver_sql("SHOW synchronous_commit").scalar()

    with psycopg.connect(postgresql_url) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
    assert opened(postgresql_url).write_now(setting) == "on"
