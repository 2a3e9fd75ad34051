"""Notifications over HTTP: who may send, what is kept, and what is answered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.settings_sections import RegstatSettings
from regwarden.web.bodies import KEPT_HEAD_BYTES, BodyReader
from regwarden.web.hooks import CompatibleHooks, Hooks
from regwarden.web.senders import Senders
from tests.web.conftest import Storage, ask

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRETS = {"prod": ("new", "old"), "registry.example.com:5000/team": ("other",), "pässwörter": ("schlüssel",)}


def bearer(secret: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {secret}")]


def basic(user: str, password: str) -> list[tuple[str, str]]:
    return [("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())]


@pytest.fixture
def hooks(storage: Storage) -> Hooks:
    return Hooks(storage, Senders(SECRETS), lambda: NOW, BodyReader(max_body_bytes=100_000))


def compatible(storage: Storage, **settings) -> CompatibleHooks:
    chosen = RegstatSettings(listen="127.0.0.1:0", **settings)
    return CompatibleHooks(storage, Senders(SECRETS), lambda: NOW, BodyReader(max_body_bytes=100_000), chosen)


@pytest.mark.parametrize(
    ("path", "headers", "registry"),
    [
        ("/hooks/prod", bearer("new"), "prod"),
        ("/hooks/prod", bearer("old"), "prod"),
        ("/hooks/prod/", bearer("new"), "prod"),
        ("/hooks/prod", [("Authorization", "bearer   new ")], "prod"),
        ("/hooks/prod", basic("anybody", "new"), "prod"),
        ("/hooks/prod", basic("", "old"), "prod"),
        ("/hooks/registry.example.com:5000/team", bearer("other"), "registry.example.com:5000/team"),
        ("/hooks/pässwörter", basic("x", "schlüssel"), "pässwörter"),
    ],
)
async def test_whoever_has_a_secret_of_the_registry_may_send(hooks, storage, path, headers, registry):
    answer = await ask(hooks, path, b'{"events"', b": []}", headers=headers)
    assert (answer.status, answer.body) == (200, b"")
    (kept,) = storage.kept
    assert (kept.registry, kept.body, kept.body_bytes, kept.sender) == (registry, b'{"events": []}', 14, "10.1.2.3")
    assert (kept.state, kept.received_at) == ("pending", NOW)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/hooks/prod", []),
        ("/hooks/prod", bearer("wrong")),
        ("/hooks/prod", bearer("")),
        ("/hooks/prod", bearer("other")),
        ("/hooks/prod", [("Authorization", "new")]),
        ("/hooks/prod", [("Authorization", "Digest new")]),
        ("/hooks/prod", [("Authorization", "Basic new")]),
        ("/hooks/prod", [("Authorization", "Basic " + base64.b64encode(b"new").decode())]),
        ("/hooks/prod", basic("new", "")),
        ("/hooks/unknown", bearer("new")),
        ("/hooks/", bearer("new")),
        ("/hooks/prod/x", bearer("new")),
        ("/hooks//prod", bearer("new")),
    ],
)
async def test_nobody_else_may_and_their_bodies_are_not_read(hooks, storage, path, headers):
    answer = await ask(hooks, path, headers=headers, ending="hang")
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["code"] == "hook-denied"
    assert storage.kept == []


async def test_the_log_tells_of_a_registry_that_is_refused_but_not_of_each_attempt(hooks, logged):
    for secret in ("wrong-1", "wrong-2"):
        await ask(hooks, "/hooks/prod", b"{}", headers=bearer(secret))
    for name in ("one", "two\x1b[2J"):
        await ask(hooks, f"/hooks/{name}", b"{}", headers=bearer("wrong-3"))
    assert [(entry["log_level"], entry["path"], entry["sender"]) for entry in logged] == [
        ("warning", "/hooks/prod", "10.1.2.3"),
        ("warning", "/hooks/one", "10.1.2.3"),
    ]
    assert "secret is missing or wrong" in logged[0]["reason"]
    assert "wrong-1" not in str(logged)


async def test_what_is_sent_to_the_compatible_listener_in_vain_is_told(storage, logged):
    await ask(compatible(storage), "/any", b"{}", headers=bearer("wrong"))
    assert [entry["path"] for entry in logged] == ["/any"]


async def test_a_large_body_without_credentials_ends_the_connection(hooks):
    small = await ask(hooks, "/hooks/prod", headers=[("Content-Length", "800")], ending="hang")
    assert "connection" not in small.headers
    for headers in ([("Content-Length", "9999999")], [("Transfer-Encoding", "chunked")]):
        assert (await ask(hooks, "/hooks/prod", headers=headers, ending="hang")).headers["connection"] == "close"


def test_a_replaced_secret_is_valid_at_once_and_the_old_one_no_longer():
    senders = Senders({"prod": ("a",)})
    senders.replace({"prod": ("c", "b", "a")})
    valid = [secret for secret in "abc" if senders.is_authentic("prod", f"Bearer {secret}".encode())]
    assert valid == ["b", "c"]


def test_an_empty_secret_lets_nobody_in():
    senders = Senders({"prod": ("",), "dev": ()})
    for header in (None, b"", b"Bearer ", b"Bearer", b"Basic Og==", b"Basic "):
        assert not senders.is_authentic("prod", header)
        assert not senders.is_authentic("dev", header)
        assert senders.find_registry(header) is None


@given(st.binary(max_size=200))
def test_no_header_breaks_the_comparison(header):
    senders = Senders({"prod": ("a-secret-that-nobody-guesses",)})
    for value in (header, b"Basic " + header, b"Bearer " + header):
        assert not senders.is_authentic("prod", value)
        assert senders.find_registry(value) is None


@pytest.mark.parametrize("body", [b"", b"\x00", b"not json", b"\xff\xfe", b"{" * 50_000, b"\x1f\x8b\x08"])
async def test_whatever_is_sent_is_kept_as_it_is(hooks, storage, body):
    assert (await ask(hooks, "/hooks/prod", body, headers=bearer("new"))).status == 200
    assert storage.kept[0].body == body


async def test_a_put_is_as_good_as_a_post_and_other_methods_are_refused(hooks, storage):
    assert (await ask(hooks, "/hooks/prod", b"x", method="PUT", headers=bearer("new"))).status == 200
    answer = await ask(hooks, "/hooks/prod", method="GET", headers=bearer("new"))
    assert (answer.status, answer.headers["allow"]) == (405, "POST, PUT")
    assert len(storage.kept) == 1


async def test_a_body_that_is_too_large_is_acknowledged_and_set_aside_with_its_beginning(hooks, storage):
    pieces = [bytes([number]) * 30_000 for number in range(7)]
    assert (await ask(hooks, "/hooks/prod", *pieces, headers=bearer("new"))).status == 200
    (kept,) = storage.kept
    whole = b"".join(pieces)
    assert (kept.state, kept.body_bytes) == ("quarantined", len(whole))
    assert kept.body == whole[:KEPT_HEAD_BYTES]
    assert kept.body_sha256 == hashlib.sha256(whole).digest()
    assert kept.reason == "the body is larger than 100000 bytes"


async def test_a_body_of_just_the_limit_is_kept_whole(hooks, storage):
    assert (await ask(hooks, "/hooks/prod", b"x" * 100_000, headers=bearer("new"))).status == 200
    assert (storage.kept[0].state, len(storage.kept[0].body)) == ("pending", 100_000)


async def test_a_body_that_ends_too_early_is_not_kept(hooks, storage):
    answer = await ask(hooks, "/hooks/prod", b'{"events', headers=bearer("new"), ending="disconnect")
    assert (answer.status, storage.kept) == (0, [])


async def test_a_body_that_does_not_come_is_asked_for_again(storage):
    hooks = Hooks(storage, Senders(SECRETS), lambda: NOW, BodyReader(timeout_seconds=0.05, max_body_bytes=10))
    answer = await ask(hooks, "/hooks/prod", b"{", headers=bearer("new"), ending="hang")
    assert (answer.status, answer.json["code"], storage.kept) == (503, "intake-slow", [])
    answer = await ask(hooks, "/hooks/prod", b"{" * 20, headers=bearer("new"), ending="hang")
    assert answer.status == 200
    assert "its end did not come" in storage.kept[0].reason


async def test_large_bodies_at_the_same_time_do_not_take_all_memory(storage, monkeypatch):
    monkeypatch.setattr("regwarden.web.bodies.MAX_HELD_BYTES", 250_000)
    hooks = Hooks(storage, Senders(SECRETS), lambda: NOW, BodyReader(timeout_seconds=0.2))
    sent = [
        ask(hooks, "/hooks/prod", b"x" * 100_000, headers=bearer("new"), ending=ending)
        for ending in ("hang", "hang", "complete")
    ]
    *_, last = await asyncio.gather(*sent)
    assert (last.status, last.json["code"]) == (503, "intake-full")
    assert (await ask(hooks, "/hooks/prod", b"x" * 100_000, headers=bearer("new"))).status == 200


async def test_what_is_not_durable_is_not_acknowledged(hooks, storage):
    storage.is_broken = True
    answer = await ask(hooks, "/hooks/prod", b"{}", headers=bearer("new"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["code"] == "disk-full"


@pytest.mark.parametrize(("method", "path"), [("POST", "/"), ("PUT", "/a/b"), ("GET", "/hooks/x"), ("DELETE", "/*")])
async def test_regstats_listener_takes_any_path_and_method(storage, method, path):
    app = compatible(storage, unauthenticated=True)
    assert (await ask(app, path, b"{}", method=method)).status == 200
    assert (storage.kept[0].registry, storage.kept[0].body) == ("", b"{}")


async def test_regstats_listener_acknowledges_an_empty_body_and_keeps_nothing(storage):
    app = compatible(storage, unauthenticated=True)
    assert (await ask(app, "/", method="GET")).status == 200
    assert storage.kept == []


@pytest.mark.parametrize(
    ("settings", "headers", "registry"),
    [
        ({}, [], None),
        ({}, bearer("wrong"), None),
        ({}, bearer("old"), "prod"),
        ({}, basic("x", "other"), "registry.example.com:5000/team"),
        ({"unauthenticated": True}, bearer("other"), "registry.example.com:5000/team"),
        ({"unauthenticated": True}, bearer("wrong"), ""),
        ({"unauthenticated": True, "registry": "prod"}, [], "prod"),
        ({"registry": "prod"}, bearer("new"), "prod"),
        ({"registry": "prod"}, bearer("other"), None),
        ({"registry": "prod"}, [], None),
    ],
)
async def test_who_may_send_to_regstats_listener_and_for_which_registry(storage, settings, headers, registry):
    answer = await ask(compatible(storage, **settings), "/", b"{}", headers=headers)
    assert answer.status == (401 if registry is None else 200)
    assert [kept.registry for kept in storage.kept] == ([] if registry is None else [registry])
