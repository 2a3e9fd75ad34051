"""Who asks: tokens of programs, of people and of the file, from memory, also while the database is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.requests import Request

from regwarden.core.access import Grant, PrincipalKind, Role
from regwarden.core.robot_tokens import TokenParts, build_token, parse_token
from regwarden.errors import StoreError, Unauthorized
from regwarden.library_tokens import make_token
from regwarden.store.changes import ACCESS, note_change
from regwarden.store.tokens import list_tokens, revoke_token
from regwarden.web import authentication as module
from regwarden.web.authentication import Authentication
from tests.web.signing_in import START, World, request_with, world


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world(tmp_path, tokens_file=tmp_path / "tokens.yaml") as made:
        monkeypatch.setattr("regwarden.library_tokens.clock.now", made.clock)
        yield made


def token_of(here: World, name: str = "ci", expires: str = "90d") -> str:
    return make_token(here.database, name=name, grants=[{"role": "cleaner"}], expires=expires, principal="ann").token


def revoke(here: World, text: str) -> None:
    wanted = parse_token(text).public_id
    (found,) = (one for one in here.database.read_now(list_tokens) if one.public_id == wanted)
    here.database.write_now(lambda connection: revoke_token(connection, found.id, here.clock(), "bob"))


async def is_accepted(here: World, token: str) -> bool:
    try:
        await here.authentication.principal_of(token, "192.0.2.1")
    except Unauthorized:
        return False
    return True


async def test_a_robot_token_is_its_program(here: World) -> None:
    text = token_of(here)
    await here.authentication.reload()
    for scheme in ("Bearer", "bearer"):
        principal = await here.authentication.authenticate(request_with(f"{scheme} {text}"))
        assert (principal.name, principal.kind, principal.grants) == ("ci", PrincipalKind.TOKEN, (Grant(Role.CLEANER),))
        assert principal.id == f"token:{parse_token(text).public_id}"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Token x"])
async def test_without_a_token_nobody_asks(here: World, header: str | None) -> None:
    await here.authentication.reload()
    with pytest.raises(Unauthorized) as raised:
        await here.authentication.authenticate(request_with(header))
    assert raised.value.code == "no-token"


async def test_what_is_no_token_of_ours_is_refused_and_not_repeated(here: World) -> None:
    parts = parse_token(token_of(here))
    await here.authentication.reload()
    wrong = [
        "x",
        "a.b.c",
        "eyJhbGciOiJub25lIn0.e30.",
        "rgw_",
        build_token(TokenParts(parts.public_id, "0" * 32)),
        build_token(TokenParts("0" * 12, parts.secret)),
        build_token(parts, "rgr"),
        "ä" * 10,
        "A" * 100_000,
    ]
    for text in wrong:
        with pytest.raises(Unauthorized) as raised:
            await here.authentication.authenticate(request_with(f"Bearer {text}"))
        assert raised.value.message == "the token is not valid"


async def test_an_expired_token_is_refused_without_anything_being_read(here: World) -> None:
    text = token_of(here, expires="1d")
    await here.authentication.reload()
    here.clock.forward(hours=23, minutes=59)
    assert await is_accepted(here, text)
    here.clock.forward(minutes=1)
    assert not await is_accepted(here, text)


async def test_a_change_is_known_within_two_seconds(here: World) -> None:
    await here.authentication.reload()
    watching = asyncio.create_task(here.authentication.watch())
    try:
        text = token_of(here)
        async with asyncio.timeout(2):
            while not await is_accepted(here, text):
                await asyncio.sleep(0.02)
        revoke(here, text)
        async with asyncio.timeout(2):
            while await is_accepted(here, text):
                await asyncio.sleep(0.02)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def test_woken_it_looks_at_once(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_SECONDS", 60.0)
    await here.authentication.reload()
    watching = asyncio.create_task(here.authentication.watch())
    try:
        text = token_of(here)
        here.authentication.wake()
        async with asyncio.timeout(2):
            while not await is_accepted(here, text):
                await asyncio.sleep(0.02)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def test_while_the_database_is_gone_what_was_read_serves_on(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_SECONDS", 0.01)
    text = token_of(here)
    issued = await _sign_in(here)
    await here.authentication.reload()

    async def gone(*_arguments: object) -> None:
        raise StoreError("the database cannot be reached")

    with monkeypatch.context() as broken:
        broken.setattr(here.database, "read", gone)
        broken.setattr(here.database, "write", gone)
        watching = asyncio.create_task(here.authentication.watch())
        async with asyncio.timeout(2):
            while not here.authentication.problem:
                await asyncio.sleep(0.01)
        assert await is_accepted(here, text)
        assert await is_accepted(here, issued)
        assert not await is_accepted(here, "x.y.z")
    async with asyncio.timeout(2):
        while here.authentication.problem:
            await asyncio.sleep(0.01)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def _sign_in(here: World, name: str = "ann") -> str:
    await here.authentication.reload()
    who = await here.directory.sign_in(name, "right")
    issued = await here.sign_ins.begin(who, kind=PrincipalKind.DIRECTORY, peer="192.0.2.1", is_refreshable=True)
    return issued.access_token


async def test_before_anything_was_read_nobody_is_let_in(here: World) -> None:
    with pytest.raises(StoreError):
        await here.authentication.principal_of(token_of(here), "")


async def test_uses_are_kept_with_where_from_and_once_a_minute(here: World) -> None:
    text = token_of(here)
    await here.authentication.reload()
    await here.authentication.authenticate(request_with(f"Bearer {text}"))
    await here.authentication.keep_uses()
    here.clock.forward(seconds=30)
    await here.authentication.authenticate(request_with(f"Bearer {text}", ("192.0.2.9", 1)))
    await here.authentication.keep_uses()
    (kept,) = here.database.read_now(list_tokens)
    assert (kept.last_used_at, kept.last_used_from) == (START, "192.0.2.7")
    here.clock.forward(seconds=31)
    await here.authentication.authenticate(request_with(f"Bearer {text}", None))
    await here.authentication.keep_uses()
    (kept,) = here.database.read_now(list_tokens)
    assert (kept.last_used_at, kept.last_used_from) == (here.clock(), "")


async def test_tokens_of_the_file_are_taken_whatever_they_look_like(here: World, tmp_path: Path) -> None:
    (tmp_path / "tokens.yaml").write_text(
        "tokens: [{name: a, token: plain, role: viewer}, {name: b, token: rgw_odd}, {name: c, token: x.y.z}]"
    )
    await here.authentication.reload()
    for text, name in (("plain", "a"), ("rgw_odd", "b"), ("x.y.z", "c")):
        principal = await here.authentication.principal_of(text, "")
        assert (principal.name, principal.id) == (name, f"token:file:{name}")
        assert bool(principal.grants) == (name == "a")
    assert not await is_accepted(here, "plai")


async def test_a_person_is_who_signed_in_and_expires(here: World) -> None:
    token = await _sign_in(here)
    principal = await here.authentication.principal_of(token, "")
    assert (principal.id, principal.name, principal.display_name) == ("ldap:ann", "ann", "Ann")
    assert principal.is_person
    assert {grant.role for grant in principal.grants} == {Role.VIEWER, Role.ADMIN}
    here.clock.forward(minutes=16)
    with pytest.raises(Unauthorized) as raised:
        await here.authentication.principal_of(token, "")
    assert raised.value.code == "token-expired"


async def test_a_signed_token_cannot_say_that_it_is_a_program_or_anything_else(here: World) -> None:
    await here.authentication.reload()
    ring = here.authentication.ring()
    for kind, grants in (("king", []), ("directory", [{"role": "king"}]), ("directory", "admin")):
        claims = {"sub": "ldap:1", "sid": "s", "jti": "j", "name": "eve", "kind": kind, "grants": grants}
        assert not await is_accepted(here, ring.sign(claims, now=START, expires_at=START + timedelta(minutes=1)))


async def test_tokens_of_one_interface_do_not_open_another(here: World) -> None:
    await here.authentication.reload()
    claims = {"sub": "ann", "jti": "j", "nbf": 0, "type": "access", "fresh": False}
    old = here.authentication.ring("old").sign(claims, now=START, expires_at=START + timedelta(days=14))
    assert (await here.authentication.verify("old", old))["sub"] == "ann"
    assert not await is_accepted(here, old)
    new = await _sign_in(here)
    with pytest.raises(Unauthorized):
        await here.authentication.verify("old", new)


async def test_a_key_that_another_process_made_is_looked_for_once_a_second(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes on one database: the second makes the keys, the first has not looked since."""
    await here.authentication.reload()

    def forget_keys(connection: object) -> None:
        note_change(connection, ACCESS)  # type: ignore[arg-type]  # a connection
        connection.exec_driver_sql("DELETE FROM signing_keys")  # type: ignore[attr-defined]  # a connection

    here.database.write_now(forget_keys)
    other = Authentication(here.database, now=here.clock, installation="here")
    await other.reload()
    claims = {"sub": "ldap:1", "sid": "s", "jti": "j", "name": "ann", "kind": "directory", "grants": []}
    token = other.ring().sign(claims, now=START, expires_at=START + timedelta(minutes=1))
    assert (await here.authentication.principal_of(token, "")).name == "ann"
    looked = []
    original = here.authentication.catch_up

    async def count() -> None:
        looked.append(1)
        await original()

    monkeypatch.setattr(here.authentication, "catch_up", count)
    for number in range(20):
        header, _, rest = token.partition(".")
        assert not await is_accepted(here, f"{header[:-4]}{number:04}.{rest}")
    assert len(looked) <= 1


async def test_keys_follow_each_other_while_the_service_runs(here: World) -> None:
    await here.authentication.reload()
    first = [key["kid"] for key in here.authentication.ring().jwks(here.clock())["keys"]]
    here.clock.forward(days=31)
    assert await is_accepted(here, await _sign_in(here))
    second = [key["kid"] for key in here.authentication.ring().jwks(here.clock())["keys"]]
    assert (len(first), len(second)) == (2, 2)
    assert second[0] == first[1], "what signs now was shown before"


async def test_of_two_headers_none_is_believed(here: World) -> None:
    text = token_of(here)
    await here.authentication.reload()
    headers = [(b"authorization", f"Bearer {text}".encode())] * 2
    request = Request({"type": "http", "headers": headers, "client": None})
    with pytest.raises(Unauthorized) as raised:
        await here.authentication.authenticate(request)
    assert raised.value.code == "no-token"
