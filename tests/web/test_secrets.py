"""Where the secrets of notifications come from, and that a change of them is noticed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from regwarden.settings import RegistrySettings
from regwarden.store.database import Access, open_database
from regwarden.store.hook_secrets import load_hook_secrets, rotate_hook_secret
from regwarden.web.secrets import HookSecrets

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path):
    with open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}", access=Access.WRITE, create=True) as database:
        yield database


def registry(name: str, *files: Path) -> RegistrySettings:
    return RegistrySettings(name=name, url=f"https://{name}.example", hook_secret_files=tuple(map(str, files)))


def is_valid(secrets: HookSecrets, name: str, secret: str) -> bool:
    return secrets.senders.is_authentic(name, f"Bearer {secret}".encode())


async def test_every_registry_gets_a_secret_of_its_own_once(database):
    secrets = HookSecrets(database, [registry("a"), registry("b")])
    await secrets.ensure(lambda: NOW)
    made = database.read_now(load_hook_secrets)
    assert set(made) == {"a", "b"}
    assert len({*made["a"], *made["b"]}) == 2
    assert all(len(secret) >= 43 for (secret,) in made.values())
    assert is_valid(secrets, "a", made["a"][0])
    await HookSecrets(database, [registry("a"), registry("b")]).ensure(lambda: NOW)
    assert database.read_now(load_hook_secrets) == made


async def test_a_rotation_is_noticed_and_the_former_secret_stays_valid(database):
    secrets = HookSecrets(database, [registry("a")])
    await secrets.ensure(lambda: NOW)
    (former,) = database.read_now(load_hook_secrets)["a"]
    database.write_now(lambda connection: rotate_hook_secret(connection, "a", "fresh", NOW))
    assert not is_valid(secrets, "a", "fresh")
    await secrets.reload()
    assert is_valid(secrets, "a", "fresh")
    assert is_valid(secrets, "a", former)


async def test_files_overrule_the_database_and_stay_in_force_while_they_cannot_be_read(database, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("one\nignored\n")
    second.write_text("two\n")
    database.write_now(lambda connection: rotate_hook_secret(connection, "a", "of-the-database", NOW))
    secrets = HookSecrets(database, [registry("a", first, second)])
    await secrets.ensure(lambda: NOW)
    assert [is_valid(secrets, "a", word) for word in ("one", "two", "of-the-database")] == [True, True, False]
    first.unlink()
    await secrets.reload()
    assert is_valid(secrets, "a", "one")
    first.write_text("three")
    await secrets.reload()
    assert [is_valid(secrets, "a", word) for word in ("one", "three")] == [False, True]


async def test_a_registry_whose_file_is_missing_from_the_beginning_has_no_secret(database, tmp_path):
    secrets = HookSecrets(database, [registry("a", tmp_path / "none")])
    await secrets.ensure(lambda: NOW)
    assert not is_valid(secrets, "a", "")
    assert database.read_now(load_hook_secrets) == {}


async def test_a_registry_that_is_no_longer_configured_may_still_send(database):
    database.write_now(lambda connection: rotate_hook_secret(connection, "gone", "kept", NOW))
    secrets = HookSecrets(database, [])
    await secrets.ensure(lambda: NOW)
    assert is_valid(secrets, "gone", "kept")
