"""Secrets of registries: made once, two valid at a time."""

from __future__ import annotations

from datetime import UTC, datetime

from regwarden.store.hook_secrets import ensure_hook_secret, load_hook_secrets, rotate_hook_secret

AT = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_secret_is_made_once_and_kept(database):
    assert database.write_now(lambda connection: ensure_hook_secret(connection, "prod", "first", AT)) == "first"
    assert database.write_now(lambda connection: ensure_hook_secret(connection, "prod", "second", AT)) == "first"
    assert database.read_now(load_hook_secrets) == {"prod": ("first",)}


def test_after_a_rotation_the_secret_before_it_is_valid_and_older_ones_are_not(database):
    database.write_now(lambda connection: ensure_hook_secret(connection, "dev", "other", AT))
    for secret in ("first", "second", "third"):
        database.write_now(lambda connection, secret=secret: rotate_hook_secret(connection, "prod", secret, AT))
    assert database.read_now(load_hook_secrets) == {"prod": ("third", "second"), "dev": ("other",)}
    assert database.write_now(lambda connection: ensure_hook_secret(connection, "prod", "new", AT)) == "third"
