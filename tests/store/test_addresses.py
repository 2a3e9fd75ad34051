"""Which database addresses are understood, and what of them may be shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.errors import InputError
from regwarden.store.addresses import parse_database_address


@pytest.mark.parametrize("text", [":memory:", "sqlite://", "sqlite:///:memory:", " :memory: "])
def test_a_memory_database_has_no_file(text):
    address = parse_database_address(text)
    assert (address.dialect, address.file, address.display_url) == ("sqlite", None, "sqlite:///:memory:")


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("sqlite:///inventory.sqlite3", Path("inventory.sqlite3")),
        ("sqlite:////var/lib/with space/100%25.db", Path("/var/lib/with space/100%25.db")),
        ("sqlite:///~/x.db", Path.home() / "x.db"),
    ],
)
def test_a_file_is_named_as_it_stands(text, file):
    assert parse_database_address(text).file == file


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:s3cret@db:5433/inventory",
        "postgres://me:s3cret@db:5433/inventory",
        "postgresql+psycopg://me:s3cret@db:5433/inventory",
        "host=db port=5433 user=me password=s3cret dbname=inventory",
        "postgresql://me@db:5433/inventory?password=s3cret",
    ],
)
def test_every_form_of_a_postgresql_address_means_the_same(text):
    address = parse_database_address(text)
    assert address.dialect == "postgresql"
    assert address.parameters == {
        "host": "db",
        "port": "5433",
        "user": "me",
        "password": "s3cret",
        "dbname": "inventory",
    }
    assert address.display_url == "postgresql://me@db:5433/inventory"


def test_secrets_are_not_shown_and_other_parameters_are():
    address = parse_database_address("postgresql://me:s3cret@/x?host=/run/pg&sslmode=require&sslpassword=s3cret2")
    assert address.display_url == "postgresql://me@%2Frun%2Fpg/x?sslmode=require"
    assert "s3cret" not in repr(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inventory.db",
        "mysql://me:s3cret@db/x",
        "sqlite:///",
        "sqlite:///a.db?mode=memory",
        "host=db password='s3cret",
        "hots=db password=s3cret",
    ],
)
def test_other_addresses_are_refused_with_a_hint_and_without_their_password(text):
    with pytest.raises(InputError) as caught:
        parse_database_address(text)
    assert caught.value.code == "bad-database-address"
    assert caught.value.hint
    assert "s3cret" not in f"{caught.value}{caught.value.hint}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "text",
    [
        "host=localhost port=5432 user=postgres sslmode=disable dbname=regstat",
        '"host=localhost port=5432 user=postgres sslmode=disable dbname=regstat"',
        " \"host='localhost' port=5432 user=postgres sslmode=disable dbname=regstat\" ",
    ],
)
def test_a_libpq_string_is_understood_also_in_the_quotes_that_regstat_put_round_it(text):
    address = parse_database_address(text)
    assert address.dialect == "postgresql"
    assert address.parameters == {
        "host": "localhost",
        "port": "5432",
        "user": "postgres",
        "sslmode": "disable",
        "dbname": "regstat",
    }
