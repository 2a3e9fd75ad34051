"""What directories answer beside yes and no: busy, elsewhere, nonsense, endless; none of it is a wrong password."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from regwarden.errors import RegwardenError
from regwarden.identity import ldap, ldap_tls
from regwarden.identity.ldap import LdapDirectory
from regwarden.identity.ldap_errors import DirectoryError, LoginRefused
from regwarden.settings import Secret
from regwarden.settings_access import LdapSettings

DN = "uid=alice,ou=people,dc=x"
BIND, SEARCH, EXTENDED = 0x60, 0x63, 0x77
Reply = Callable[[int, bytes], list[bytes]]


def ber(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes(4, "big")
    return bytes((tag, 0x84)) + length + content


def text(value: str | bytes) -> bytes:
    return ber(0x04, value.encode() if isinstance(value, str) else value)


def result(tag: int, code: int, *more: bytes, message: str = "") -> bytes:
    return ber(tag, ber(0x0A, bytes((code,))), text(""), text(message), *more)


def entry(dn: str = DN, **attributes: str) -> bytes:
    listed = [ber(0x30, text(name), ber(0x31, text(value))) for name, value in attributes.items()]
    return ber(0x64, text(dn), ber(0x30, *listed))


USER = entry(uid="alice", entryUUID="0-1", cn="Alice")


def answers(
    *, bind: int = 0, user: int = 0, search: int = 0, found: tuple[bytes, ...] = (USER,), me: str = f"dn:{DN}"
) -> Reply:
    """A directory with one user; ``bind`` answers the service account, ``user`` the user."""

    def reply(tag: int, request: bytes) -> list[bytes]:
        if tag == BIND:
            return [result(0x61, user if DN.encode() in request else bind, message="because")]
        if tag == SEARCH:
            return [*found, result(0x65, search)]
        return [result(0x78, 0, ber(0x8B, me.encode()))]

    return reply


@contextmanager
def fake_directory(reply: Reply, *, raw: bytes = b"") -> Iterator[str]:
    """Answers each request by ``reply`` (its tag and bytes), or with ``raw``, and closes the connection after that."""
    threads: list[threading.Thread] = []

    def talk(connection: socket.socket) -> None:
        with connection:
            while request := connection.recv(65536):
                if raw:
                    connection.sendall(raw)
                    return
                start = 2 if request[1] < 0x80 else 2 + request[1] - 0x80
                end = start + 2 + request[start + 1]
                number, tag = request[start:end], request[end]
                if tag not in {BIND, SEARCH, EXTENDED}:
                    return
                connection.sendall(b"".join(ber(0x30, number, one) for one in reply(tag, request)))

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=talk, args=(connection,), daemon=True))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, args=(listener,), daemon=True)
        serving.start()
        try:
            yield f"ldap://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "REFUSAL_SECONDS", 0.0)
    monkeypatch.setattr(ldap_tls, "OPERATION_SECONDS", 0.5)


async def outcome(*urls: str, password: str = "secret") -> str:
    settings = LdapSettings(
        servers=urls, insecure=True, user_base="ou=people,dc=x", bind_dn="cn=reader,dc=x", bind_password_file="p"
    )
    directory = LdapDirectory(settings, Secret("service-secret"))
    try:
        return (await directory.sign_in("alice", password)).name
    except (LoginRefused, DirectoryError) as error:
        assert "secret" not in error.diagnostics
        return error.code
    finally:
        await directory.close()


async def test_a_user_signs_in() -> None:
    with fake_directory(answers()) as url:
        assert await outcome(url) == "alice"


@pytest.mark.parametrize("code", [49, 19, 32, 34, 48, 50, 53])
async def test_refusals_of_a_user(code: int) -> None:
    with fake_directory(answers(user=code)) as url:
        assert await outcome(url) == "bad-login"


@pytest.mark.parametrize("code", [51, 52, 1, 3, 80, 10, 8, 13, 2, 99])
async def test_what_is_no_refusal_is_never_taken_for_a_wrong_password(code: int) -> None:
    with fake_directory(answers(user=code)) as url:
        assert await outcome(url) == "directory-unavailable"


@pytest.mark.parametrize("code", [49, 53, 51, 52, 10, 13])
async def test_a_service_account_that_cannot_bind(code: int) -> None:
    with fake_directory(answers(bind=code)) as url:
        assert await outcome(url) == "directory-unavailable"


@pytest.mark.parametrize("code", [51, 52, 32, 50, 11, 53, 3, 1])
async def test_a_search_that_fails(code: int) -> None:
    with fake_directory(answers(search=code, found=())) as url:
        assert await outcome(url) == "directory-unavailable"


@pytest.mark.parametrize("code", [51, 52, 80])
async def test_a_busy_server_is_left_for_the_next_one(code: int) -> None:
    with fake_directory(answers(bind=code)) as busy, fake_directory(answers()) as idle:
        assert await outcome(busy, idle) == "alice"


@pytest.mark.parametrize("code", [49, 53])
async def test_who_is_refused_is_not_sent_to_the_next_one(code: int) -> None:
    with fake_directory(answers(user=code)) as first, fake_directory(answers()) as second:
        assert await outcome(first, second) == "bad-login"


@pytest.mark.parametrize("found", [(), (USER, USER), (USER, entry("uid=b,dc=x", uid="alice"))])
async def test_one_entry_or_none(found: tuple[bytes, ...]) -> None:
    with fake_directory(answers(found=found)) as url:
        assert await outcome(url) == "bad-login"


async def test_a_search_that_found_more_than_it_was_asked_for_is_ambiguous() -> None:
    with fake_directory(answers(found=(USER, USER, USER), search=4)) as url:
        assert await outcome(url) == "bad-login"


async def test_references_to_other_servers_are_not_followed() -> None:
    reference = ber(0x73, text("ldap://127.0.0.1:1/dc=x??sub"))
    with fake_directory(answers(found=(reference, USER))) as url:
        assert await outcome(url) == "alice"
    with fake_directory(answers(found=(reference,))) as url:
        assert await outcome(url) == "bad-login"


@pytest.mark.parametrize("me", ["", "dn:", "dn:uid=bob,dc=x", "u:alice", "nonsense"])
async def test_a_bind_that_made_somebody_else_is_refused(me: str) -> None:
    with fake_directory(answers(me=me)) as url:
        assert await outcome(url) == "bad-login"


async def test_active_directory_names_who_is_signed_in_by_account() -> None:
    windows = entry(uid="alice", entryUUID="0-1", sAMAccountName="ALICE")
    with fake_directory(answers(found=(windows,), me="u:CORP\\alice")) as url:
        assert await outcome(url) == "alice"


def too_deep() -> bytes:
    return b"\x30\x84\x00\x01\x00\x00" * 5000


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x30\x03\x02\x01",
        b"\x30\x80",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x00" * 100,
        b"\xff" * 100,
        b"\x30\x0c\x02\x01\x00\x78\x07\x0a\x01\x34\x04\x00\x04\x00",
        b"\x30\x05\x02\x01\x01\x61\x00",
        b"\x30\x07\x02\x01\x01\x61\x02\x0a\x00",
        b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\xff",
        too_deep(),
    ],
)
async def test_nonsense_is_an_outage(raw: bytes) -> None:
    with fake_directory(answers(), raw=raw) as url:
        assert await outcome(url) == "directory-unavailable"


async def test_a_name_that_is_not_text_is_an_outage() -> None:
    broken = ber(0x64, text(b"\xff\xfe"), ber(0x30))
    with fake_directory(answers(found=(broken,))) as url:
        assert await outcome(url) in {"directory-unavailable", "bad-login"}


async def test_endless_answers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap_tls, "MAX_RECEIVED_BYTES", 100_000)
    large = entry(uid="alice", entryUUID="0-1", cn="x" * 300_000)
    with fake_directory(answers(found=(large,))) as url:
        assert await outcome(url) == "directory-unavailable"


async def test_answers_that_drip_end_with_the_time_of_the_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "LOGIN_SECONDS", 0.6)

    def drip(tag: int, request: bytes) -> list[bytes]:
        time.sleep(0.4)
        return answers()(tag, request)

    started = time.monotonic()
    with fake_directory(drip) as url:
        assert await outcome(url) == "directory-unavailable"
        assert time.monotonic() - started < 1.5


async def test_the_errors_are_ones_that_every_interface_reports() -> None:
    for error in (LoginRefused("x"), DirectoryError("x")):
        assert isinstance(error, RegwardenError)
        assert "x" not in (error.message + error.hint).split()
