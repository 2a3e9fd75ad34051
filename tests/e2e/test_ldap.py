"""People sign in with a real slapd: TLS, aliases, empty passwords, injection, groups, and servers that fail."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import ldap3
import pytest

from regwarden import clock
from regwarden.core.role_rules import SignedIn
from regwarden.errors import Unauthorized
from regwarden.identity import ldap, ldap_tls
from regwarden.identity.ldap import LdapDirectory, open_directory
from regwarden.identity.ldap_errors import DirectoryError
from regwarden.identity.ldap_protocol import Session
from regwarden.identity.ldap_tls import Deadline, make_tls_context, parse_server
from regwarden.settings_access import LdapSettings
from tests.fixtures.directory import (
    ADMIN,
    ADMIN_PASSWORD,
    ANONYMOUS,
    GROUPS,
    PASSWORD,
    PEOPLE,
    PERMISSIVE,
    Directory,
    StartDirectory,
    with_changes,
)

pytestmark = pytest.mark.e2e
TEMPLATE = f"uid={{username}},{PEOPLE}"


@asynccontextmanager
async def opened(settings: LdapSettings) -> AsyncIterator[LdapDirectory]:
    found = open_directory(settings)
    try:
        yield found
    finally:
        await found.close()


async def sign_in(settings: LdapSettings, username: str = "alice", password: str = PASSWORD) -> SignedIn:
    async with opened(settings) as found:
        return await found.sign_in(username, password)


async def refused(settings: LdapSettings, username: str, password: str = PASSWORD) -> None:
    with pytest.raises(Unauthorized) as caught:
        await sign_in(settings, username, password)
    assert caught.value.code == "bad-login"
    assert username not in caught.value.message or not username.strip()


async def unavailable(settings: LdapSettings, *words: str) -> DirectoryError:
    with pytest.raises(DirectoryError) as caught:
        await sign_in(settings)
    assert (caught.value.http_status, caught.value.code) == (503, "directory-unavailable")
    assert all(word in caught.value.diagnostics for word in words), caught.value.diagnostics
    assert PASSWORD not in caught.value.diagnostics + caught.value.message
    return caught.value


def by_dn(settings: LdapSettings, *templates: str, with_service: bool = False) -> LdapSettings:
    changes = {"user_dn": templates or (TEMPLATE,), "user_base": ""}
    return with_changes(settings, **changes, **({} if with_service else {"bind_dn": "", "bind_password_file": ""}))


def with_start_tls(directory: Directory, **changes: object) -> LdapSettings:
    return with_changes(directory.settings, servers=(directory.url,), start_tls=True, **changes)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals are not held back, but where that is the point."""
    monkeypatch.setattr(ldap, "REFUSAL_SECONDS", 0.0)


@pytest.fixture(scope="module")
def permissive(start_directory: StartDirectory) -> Directory:
    return start_directory(PERMISSIVE)


# ---- who it is


async def test_somebody_signs_in(directory):
    who = await sign_in(with_changes(directory.settings, attributes=("gidNumber", "jpegPhoto")))
    assert (who.provider, who.name, who.display_name) == ("ldap", "alice", "Person alice")
    assert who.subject.startswith("ldap:")
    assert len(who.subject) == len("ldap:") + 36
    assert who.claims == {"gidNumber": ("5000",), "jpegPhoto": (), "dn": (f"uid=alice,{PEOPLE}",)}


@pytest.mark.parametrize("arranged", [lambda found: found, by_dn, lambda found: by_dn(found, with_service=True)])
async def test_all_spellings_of_a_name_are_one_person(directory, arranged: Callable[[LdapSettings], LdapSettings]):
    settings = arranged(directory.settings)
    found = [await sign_in(settings, name) for name in ("alice", "ALICE", "aLiCe")]
    assert {who.subject for who in found} == {found[0].subject}
    assert {who.name for who in found} == {"alice"}
    for name in (" alice", "alice ", "\talice", "alice\n", "ali\0ce", "alice\u200b", "", "a" * 300):
        await refused(settings, name)


async def test_search_and_dn_find_the_same_person(directory):
    found, same = await sign_in(directory.settings), await sign_in(by_dn(directory.settings))
    assert (found.subject, found.name, found.groups) == (same.subject, same.name, same.groups)


async def test_a_name_beyond_ascii(directory):
    for settings in (directory.settings, by_dn(directory.settings)):
        who = await sign_in(settings, "Zoë, Łucja")
        assert (who.name, who.display_name) == ("Zoë, Łucja", "Person Zoë, Łucja")


async def test_dn_templates_are_tried_in_order(directory):
    settings = by_dn(directory.settings, f"uid={{username}},ou=corner,{PEOPLE}", TEMPLATE)
    assert (await sign_in(settings)).name == "alice"
    await refused(settings, "alice", "wrong")


# ---- who it is not


async def test_a_wrong_password_and_an_unknown_user_are_answered_alike(directory, monkeypatch):
    monkeypatch.setattr(ldap, "REFUSAL_SECONDS", 0.5)
    for name in ("alice", "nobody"):
        started = clock.monotonic()
        await refused(directory.settings, name, "wrong")
        assert clock.monotonic() - started >= 0.5


@pytest.mark.parametrize(
    "name", ["*", "ali*", "alice)(uid=*", "*)(objectClass=*", "alice)(|(uid=*", "bob*(x)", "a\\2a"]
)
async def test_nothing_can_be_injected(directory, name):
    await refused(directory.settings, name)
    await refused(by_dn(directory.settings), name)


async def test_somebody_whose_name_is_made_of_special_characters_signs_in(directory):
    for settings in (directory.settings, by_dn(directory.settings)):
        assert (await sign_in(settings, "bob*(x)\\")).name == "bob*(x)\\"
        await refused(settings, "bob*(x)\\", "wrong")


async def test_a_dn_cannot_be_left(directory):
    await refused(by_dn(directory.settings), f"alice,{PEOPLE}")
    await refused(by_dn(directory.settings, f"uid={{username}},ou=corner,{PEOPLE}"), f"alice,{PEOPLE}")


@pytest.mark.parametrize("arranged", [lambda found: found, by_dn])
async def test_an_empty_password_lets_nobody_in(directory, permissive, arranged):
    for settings in (arranged(directory.settings), arranged(permissive.settings)):
        await refused(settings, "alice", "")
        await refused(settings, "alice", "\0")


def test_the_permissive_server_takes_an_empty_password_for_nobody(permissive):
    """Why there is a Who-Am-I after each bind."""
    settings = permissive.settings
    server = parse_server(permissive.tls_url, starts_tls=False)
    with Session(server, make_tls_context(settings), Deadline(clock.monotonic() + 5)) as session:
        session._connection.authentication = ldap3.ANONYMOUS
        session._connection.bind(read_server_info=False)
        assert session._result_code() == 0
        assert session.who_am_i() == ""


async def test_who_is_signed_in_as_nobody_is_refused(directory, monkeypatch):
    monkeypatch.setattr(Session, "who_am_i", lambda self: "")
    await refused(directory.settings, "alice")
    monkeypatch.setattr(Session, "who_am_i", lambda self: f"dn:uid=carol,{PEOPLE}")
    await refused(directory.settings, "alice")


async def test_two_entries_with_one_name_are_nobody(directory):
    settings = with_changes(directory.settings, username_attribute="mail")
    assert (await sign_in(settings, "1001@example.org")).name == "1001@example.org"
    await refused(settings, "shared@example.org")


async def test_a_disabled_user_is_refused(directory):
    for settings in (directory.settings, by_dn(directory.settings)):
        await refused(settings, "disabled")


# ---- groups


NESTED = {"team", "department", "company", "loop-a", "loop-b"}


def names(who: SignedIn) -> set[str]:
    return {group for group in who.groups if "=" not in group}


@pytest.mark.parametrize("changes", [{}, {"member_of_attribute": ""}])
async def test_groups_in_groups_count_and_loops_end(directory, changes):
    who = await sign_in(with_changes(directory.settings, **changes))
    assert names(who) == NESTED
    assert f"cn=team,{GROUPS}" in who.groups


@pytest.mark.parametrize(
    ("depth", "expected"),
    [(0, {"team"}), (1, {"team", "department", "loop-a"}), (2, NESTED)],
)
async def test_how_far_up_groups_count_is_limited(directory, depth, expected):
    assert names(await sign_in(with_changes(directory.settings, group_depth=depth))) == expected


async def test_groups_named_by_the_entry_count_wherever_they_are_unless_a_base_is_given(directory):
    assert names(await sign_in(with_changes(directory.settings, group_base=""))) == {*NESTED, "admins"}
    assert "admins" not in names(await sign_in(directory.settings))


async def test_groups_that_cannot_be_searched_are_an_outage_and_not_no_groups(directory):
    settings = with_changes(directory.settings, group_base=f"ou=gone,{GROUPS}")
    await unavailable(settings, "ou=gone")


# ---- searching as nobody, as gitlab-registry-usage-rest did


async def test_an_anonymous_search_with_a_required_attribute(start_directory):
    directory = start_directory(ANONYMOUS)
    settings = with_changes(
        directory.settings, bind_dn="", bind_password_file="", user_filter="(gidNumber=5000)", group_base=""
    )
    assert (await sign_in(settings)).name == "alice"
    await refused(settings, "alice", "wrong")
    await refused(settings, "guest")


async def test_a_directory_that_shows_nothing_to_nobody_is_unavailable_and_not_a_wrong_password(directory):
    await unavailable(with_changes(directory.settings, bind_dn="", bind_password_file=""))


# ---- TLS


async def test_start_tls(directory):
    assert (await sign_in(with_start_tls(directory))).name == "alice"
    assert (await sign_in(by_dn(with_start_tls(directory)))).name == "alice"


@pytest.mark.parametrize(
    ("certificate", "words"),
    [({"days": -1}, "expired"), ({"address": "127.0.0.2"}, "mismatch")],
)
async def test_a_certificate_that_is_wrong_is_not_accepted(start_directory, certificate, words):
    directory = start_directory(**certificate)
    await unavailable(directory.settings, words)
    await unavailable(with_start_tls(directory), words)
    directory.stop()


async def test_an_authority_nobody_trusts_is_not_accepted(directory):
    await unavailable(with_changes(directory.settings, ca_bundle=""), "certificate")
    await unavailable(with_start_tls(directory, ca_bundle=""), "certificate")


async def test_authorities_that_cannot_be_read(directory, tmp_path):
    await unavailable(with_changes(directory.settings, ca_bundle=str(tmp_path / "gone.pem")), "gone.pem")


async def test_without_tls_only_when_said_so(directory):
    plain = with_changes(directory.settings, servers=(directory.url,), insecure=True)
    assert (await sign_in(plain)).name == "alice"


# ---- again, with the roles of now


async def test_somebody_is_looked_up_again(directory):
    for settings in (directory.settings, by_dn(directory.settings, with_service=True)):
        async with opened(settings) as found:
            who = await found.sign_in("ALICE", PASSWORD)
            assert await found.look_up(who.login) == who


async def test_who_signed_in_by_dn_without_a_service_account_is_not_looked_up(directory):
    async with opened(by_dn(directory.settings)) as found:
        who = await found.sign_in("alice", PASSWORD)
        assert who.login == ""
        for login in ("", json.dumps({"id": "1", "dn": f"uid=alice,{PEOPLE}"})):
            with pytest.raises(Unauthorized):
                await found.look_up(login)


@pytest.mark.parametrize("login", ["", "{}", "[]", '"x"', '{"id": 1, "dn": "x"}', '{"id": "*", "dn": "uid=alice"}'])
async def test_what_no_session_kept_finds_nobody(directory, login):
    async with opened(directory.settings) as found:
        with pytest.raises(Unauthorized):
            await found.look_up(login)


async def test_what_changed_in_the_directory_counts_at_the_next_look(start_directory):
    directory = start_directory()
    async with opened(directory.settings) as found:
        who = await found.sign_in("guest", PASSWORD)
        assert names(who) == {"others"}
        change(directory, f"cn=others,{GROUPS}", "member", ldap3.MODIFY_REPLACE, f"uid=alice,{PEOPLE}")
        assert names(await found.look_up(who.login)) == set()
        alice = await found.sign_in("alice", PASSWORD)
        assert "others" in names(alice)
        change(directory, f"uid=alice,{PEOPLE}", "pwdAccountLockedTime", ldap3.MODIFY_ADD, "000001010000Z")
        with pytest.raises(Unauthorized):
            await found.look_up(alice.login)
        with as_admin(directory) as connection:
            assert connection.delete(f"uid=guest,{PEOPLE}")
        with pytest.raises(Unauthorized):
            await found.look_up(who.login)


@contextmanager
def as_admin(directory: Directory) -> Iterator[ldap3.Connection]:
    server = ldap3.Server(directory.url, get_info=ldap3.NONE)
    connection = ldap3.Connection(server, ADMIN, ADMIN_PASSWORD, auto_bind=ldap3.AUTO_BIND_NO_TLS)
    try:
        yield connection
    finally:
        connection.unbind()


def change(directory: Directory, dn: str, attribute: str, kind: str, value: str) -> None:
    with as_admin(directory) as connection:
        assert connection.modify(dn, {attribute: [(kind, [value])]}), connection.result


# ---- servers that fail


async def test_a_service_account_that_is_refused_is_no_wrong_password_of_a_user(directory, tmp_path):
    (tmp_path / "password").write_text("wrong-secret\n")
    settings = with_changes(directory.settings, bind_password_file=str(tmp_path / "password"))
    error = await unavailable(settings, "cn=reader", "bind_password_file")
    assert "wrong-secret" not in error.diagnostics


async def test_a_server_that_is_down(directory):
    await unavailable(with_changes(directory.settings, servers=(f"ldaps://127.0.0.1:{free_port()}",)), "refused")
    await unavailable(with_changes(directory.settings, servers=("ldaps://directory.invalid",)), "address")


async def test_a_connection_that_ended_meanwhile_is_made_anew(start_directory):
    directory = start_directory()
    async with opened(directory.settings) as found:
        assert (await found.sign_in("alice", PASSWORD)).name == "alice"
        directory.stop()
        with pytest.raises(DirectoryError):
            await found.sign_in("alice", PASSWORD)
        directory.start()
        assert (await found.sign_in("alice", PASSWORD)).name == "alice"


async def test_the_connection_of_the_service_is_used_again(directory, monkeypatch):
    made: list[str] = []

    def counting(*args: object) -> object:
        made.append("one")
        return ldap_tls.connect(*args)  # type: ignore[arg-type]  # passed on as they come

    monkeypatch.setattr("regwarden.identity.ldap_protocol.connect", counting)
    async with opened(directory.settings) as found:
        for _ in range(3):
            await found.sign_in("alice", PASSWORD)
    assert len(made) == 1 + 3


@contextmanager
def silent_server(context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Takes connections and, with a context, begins TLS; then says nothing."""
    kept: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            kept.append(context.wrap_socket(raw, server_side=True) if context else raw)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"ldaps://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    for one in kept:
        one.close()


def own_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "srv.crt", folder / "srv.key")
    return context


@pytest.fixture(params=["never answers", "stalls inside TLS"])
def slow_url(request: pytest.FixtureRequest, directory: Directory) -> Iterator[str]:
    context = own_context(directory.folder) if "TLS" in request.param else None
    with silent_server(context) as url:
        yield url


async def test_a_slow_server_is_not_waited_for(directory, slow_url, monkeypatch):
    monkeypatch.setattr(ldap_tls, "OPERATION_SECONDS", 0.3)
    started = clock.monotonic()
    await unavailable(with_changes(directory.settings, servers=(slow_url,)))
    assert clock.monotonic() - started < 2


async def test_a_whole_sign_in_has_its_time(directory, slow_url, monkeypatch):
    monkeypatch.setattr(ldap, "LOGIN_SECONDS", 0.4)
    started = clock.monotonic()
    await unavailable(with_changes(directory.settings, servers=(slow_url, directory.tls_url)))
    assert clock.monotonic() - started < 2


async def test_the_next_server_is_asked_and_the_failed_one_left_alone_for_a_while(directory, slow_url, monkeypatch):
    monkeypatch.setattr(ldap_tls, "OPERATION_SECONDS", 0.3)
    async with opened(with_changes(directory.settings, servers=(slow_url, directory.tls_url))) as found:
        assert (await found.sign_in("alice", PASSWORD)).name == "alice"
        started = clock.monotonic()
        assert (await found.sign_in("alice", PASSWORD)).name == "alice"
        assert clock.monotonic() - started < 0.3
        assert [server.url for server in found._servers.in_order()] == [directory.tls_url, slow_url]
        monkeypatch.setattr("regwarden.identity.ldap_servers.clock.monotonic", lambda: started + 31)
        assert [server.url for server in found._servers.in_order()] == [slow_url, directory.tls_url]


async def test_a_wrong_password_is_not_tried_at_the_next_server(directory):
    settings = with_changes(directory.settings, servers=(directory.tls_url, "ldaps://directory.invalid"))
    await refused(settings, "alice", "wrong")


async def test_what_cannot_be_a_name_or_a_password_is_refused_before_a_server_is_asked(directory):
    gone = with_changes(directory.settings, servers=("ldaps://directory.invalid",))
    for name, password in ((" alice", PASSWORD), ("ali\0ce", PASSWORD), ("alice", ""), ("a" * 257, PASSWORD)):
        await refused(gone, name, password)


async def test_many_sign_in_at_the_same_time(directory):
    async with opened(directory.settings) as found:
        names_and_passwords = [("alice", PASSWORD), ("carol", PASSWORD), ("alice", "wrong"), ("nobody", PASSWORD)] * 8
        tried = [found.sign_in(name, password) for name, password in names_and_passwords]
        answers = await asyncio.gather(*tried, return_exceptions=True)
    told = [one.name if isinstance(one, SignedIn) else getattr(one, "code", repr(one)) for one in answers]
    assert told == ["alice", "carol", "bad-login", "bad-login"] * 8


async def test_too_many_at_a_time_are_turned_away(directory, monkeypatch):
    monkeypatch.setattr(ldap, "_MAX_WAITING", 0)
    await unavailable(directory.settings, "too slow")


async def test_after_the_end_nobody_signs_in(directory):
    found = open_directory(directory.settings)
    await found.sign_in("alice", PASSWORD)
    await found.close()
    with pytest.raises(DirectoryError):
        await found.sign_in("alice", PASSWORD)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
