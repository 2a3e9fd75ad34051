"""Does a request survive what networks and servers do, within its limits, and is every end a clear error?"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import pytest
import structlog

from regwarden import clock
from regwarden.core.oci.digests import Digest
from regwarden.errors import InputError, RegistryDenied, RegistryError, RegistryProtocolError, RegistryUnreachable
from regwarden.registries.api import FetchedManifest, Traffic
from regwarden.registries.client.limits import Gate, Limits
from regwarden.telemetry import configure_logging
from regwarden.testing.scripted import HeaderRule, ScriptedRegistry
from regwarden.testing.scripted_replies import (
    Answer,
    CloseWithoutAnswer,
    EndlessBody,
    Garbage,
    Reply,
    Reset,
    Silence,
    SlowDrip,
    Truncated,
    error_reply,
    json_reply,
    manifest_reply,
    tags_reply,
)
from tests.registries.conftest import QUICK, Connect

PAYLOAD = b'{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:' + b"0" * 64 + b'","size":1},"layers":[]}'
GOOD = manifest_reply(PAYLOAD)
PATH = "/v2/team/app/manifests/latest"


async def _fetch(connect: Connect, *answers: Answer, limits: Limits = QUICK) -> tuple[FetchedManifest, Traffic]:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", PATH, *answers)
        connector = connect(registry.url, limits)
        fetched = await connector.fetch_manifest("team/app", "latest")
        assert isinstance(fetched, FetchedManifest)
        return fetched, connector.traffic


@pytest.mark.parametrize(
    "fault",
    [
        Reset(),
        CloseWithoutAnswer(),
        Truncated(GOOD, 10),
        Reset(after=GOOD),
        error_reply(500),
        Reply(502, b"<html>bad gateway</html>"),
        Reply(503, b"", {"Retry-After": "0"}),
        Reply(504),
        error_reply(429, "TOOMANYREQUESTS"),
        error_reply(429, "TOOMANYREQUESTS", headers={"Retry-After": "0"}),
    ],
    ids=lambda fault: f"{type(fault).__name__}{getattr(fault, 'status', '')}",
)
async def test_a_passing_fault_is_survived(connect: Connect, fault: Answer) -> None:
    fetched, traffic = await _fetch(connect, fault, fault, GOOD)
    assert fetched.payload == PAYLOAD
    assert traffic.requests == 3
    assert traffic.retries == 2


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        (Reset(), RegistryUnreachable, "registry-unreachable"),
        (Truncated(GOOD, 10), RegistryUnreachable, "registry-unreachable"),
        (error_reply(503), RegistryError, "registry-failing"),
        (error_reply(429), RegistryError, "registry-throttled"),
    ],
)
async def test_a_lasting_fault_ends_as_a_temporary_error(
    connect: Connect, fault: Answer, kind: type[RegistryError], code: str
) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", PATH, fault, is_repeated=True)
        connector = connect(registry.url, replace(QUICK, retries=2))
        with pytest.raises(kind) as caught:
            await connector.fetch_manifest("team/app", "latest")
    assert caught.value.code == code
    assert connector.traffic.retries == 2
    assert caught.value.temporary
    assert caught.value.message


async def test_what_is_tried_again_is_never_told_on_stdout(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog.reset_defaults()
    _, traffic = await _fetch(connect, error_reply(503), GOOD)
    assert traffic.retries == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


async def test_what_is_tried_again_is_logged_where_a_log_is_kept(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging()
    try:
        await _fetch(connect, error_reply(503), GOOD)
    finally:
        structlog.reset_defaults()
    told = capsys.readouterr()
    assert told.out == ""
    assert "trying again" in told.err
    assert "503" in told.err


async def test_a_blob_asked_for_as_manifest_is_not_retried_for_long(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", PATH, *[error_reply(500)] * 4)
        with pytest.raises(RegistryError) as caught:
            await connect(registry.url, replace(QUICK, retries=20)).fetch_manifest("team/app", "latest")
    assert caught.value.status == 500


async def test_the_wait_that_the_registry_asks_for_is_kept_and_capped(connect: Connect) -> None:
    limits = replace(QUICK, retry_wait_seconds=0.4)
    started = time.monotonic()
    await _fetch(connect, error_reply(429, headers={"Retry-After": "3600"}), GOOD, limits=limits)
    assert 0.35 < time.monotonic() - started < 3


async def test_the_wait_may_be_given_as_a_date(connect: Connect) -> None:
    now = clock.now()
    headers = {
        "Date": format_datetime(now, usegmt=True),
        "Retry-After": format_datetime(now + timedelta(seconds=1), usegmt=True),
    }
    started = time.monotonic()
    await _fetch(connect, error_reply(429, headers=headers), GOOD, limits=replace(QUICK, retry_wait_seconds=5))
    assert 0.9 < time.monotonic() - started < 4


async def test_one_refused_request_slows_all_others(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", PATH, error_reply(429, headers={"Retry-After": "9"}), GOOD)
        registry.expect("GET", "/v2/team/other/tags/list?n=1000", tags_reply("team/other", ["a"]))
        connector = connect(registry.url, replace(QUICK, retry_wait_seconds=0.4))
        first = asyncio.create_task(connector.fetch_manifest("team/app", "latest"))
        while connector.traffic.throttled == 0:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        await connector.list_tags("team/other")
        assert time.monotonic() - started > 0.25
        await first


async def test_an_endless_body_is_cut_at_the_limit(connect: Connect) -> None:
    with pytest.raises(RegistryProtocolError, match="larger than the limit") as caught:
        await _fetch(connect, EndlessBody(), limits=replace(QUICK, manifest_bytes=100_000))
    assert caught.value.code == "registry-too-large"


async def test_a_body_that_announces_too_much_is_not_read(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", PATH, Reply(200, b"x" * 200_000))
        connector = connect(registry.url, replace(QUICK, manifest_bytes=1000))
        with pytest.raises(RegistryProtocolError, match="larger than the limit"):
            await connector.fetch_manifest("team/app", "latest")


async def test_an_endless_error_page_is_still_only_an_error(connect: Connect) -> None:
    with pytest.raises(RegistryDenied):
        await _fetch(connect, EndlessBody(403, {"Content-Type": "text/html"}))


@pytest.mark.parametrize("fault", [Silence(), SlowDrip(GOOD, pause_seconds=0.2)], ids=["silence", "drip"])
async def test_an_answer_that_takes_too_long_is_given_up(connect: Connect, fault: Answer) -> None:
    started = time.monotonic()
    with pytest.raises(RegistryUnreachable, match="in time") as caught:
        await _fetch(connect, fault, limits=replace(QUICK, request_timeout_seconds=0.3))
    assert caught.value.temporary
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("fault", [Garbage(), Reply(200, b"x", {"Content-Encoding": "gzip"})], ids=["garbage", "gzip"])
async def test_what_is_not_understood_is_a_protocol_error_at_once(connect: Connect, fault: Answer) -> None:
    with pytest.raises(RegistryProtocolError):
        await _fetch(connect, fault)


async def test_an_unknown_host_is_said_at_once(connect: Connect) -> None:
    with pytest.raises(RegistryUnreachable, match=r"registry\.invalid is not known") as caught:
        await connect("https://registry.invalid").ping()
    assert caught.value.hint


async def test_a_closed_port_is_said_at_once(connect: Connect) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    connector = connect(f"http://127.0.0.1:{port}")
    with pytest.raises(RegistryUnreachable, match=r"no connection to 127\.0\.0\.1"):
        await connector.ping()
    assert connector.traffic.requests == 1


async def test_a_metadata_address_is_never_connected_to(connect: Connect) -> None:
    with pytest.raises(RegistryUnreachable, match="never connected"):
        await connect("http://169.254.169.254").ping()


async def test_the_budget_counts_every_request(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", PATH, error_reply(503), error_reply(503))
        connector = connect(registry.url, replace(QUICK, request_budget=2))
        with pytest.raises(RegistryError) as caught:
            await connector.fetch_manifest("team/app", "latest")
    assert caught.value.code == "request-budget"


async def test_no_more_requests_at_once_than_allowed(connect: Connect) -> None:
    busy, most = 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal busy, most
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(0.01)
            busy -= 1
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"tags":null}')
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connector = connect(f"http://127.0.0.1:{port}", replace(QUICK, connections=3))
        await asyncio.gather(*(connector.list_tags(f"r{number}") for number in range(20)))
        await connector.close()
    assert most == 3


async def test_the_request_rate_is_kept(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", "/v2/a/tags/list?n=1000", tags_reply("a", []), is_repeated=True)
        connector = connect(registry.url, replace(QUICK, requests_per_second=20))
        started = time.monotonic()
        await asyncio.gather(*(connector.list_tags("a") for _ in range(30)))
        assert time.monotonic() - started > 0.4


async def test_the_byte_rate_is_kept(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        registry.expect("GET", PATH, manifest_reply(b" " * 30_000), is_repeated=True)
        connector = connect(registry.url, replace(QUICK, received_bytes_per_second=100_000))
        started = time.monotonic()
        for _ in range(5):
            await connector.fetch_manifest("team/app", "latest")
        assert time.monotonic() - started > 0.4


async def test_the_largest_clock_skew_is_kept(connect: Connect) -> None:
    ahead, behind = clock.now() + timedelta(hours=2), clock.now() - timedelta(minutes=5)
    async with ScriptedRegistry() as registry:
        answers = [
            tags_reply("a", []),
            json_reply({"tags": []}, headers={"Date": format_datetime(ahead, usegmt=True)}),
            json_reply({"tags": []}, headers={"Date": format_datetime(behind, usegmt=True)}),
            json_reply({"tags": []}, headers={"Date": "yesterday"}),
        ]
        registry.expect("GET", "/v2/a/tags/list?n=1000", *answers)
        connector = connect(registry.url)
        for _ in answers:
            await connector.list_tags("a")
    skew = connector.traffic.clock_skew
    assert skew is not None
    assert abs(skew - timedelta(hours=2)) < timedelta(seconds=5)


async def test_requests_carry_our_name_and_ask_for_no_compression(connect: Connect) -> None:
    async with ScriptedRegistry() as registry:
        is_ours: Callable[[str | None], bool] = lambda value: value is not None and value.endswith(" (abc)")  # noqa: E731
        rules: dict[str, HeaderRule] = {
            "User-Agent": is_ours,
            "Accept-Encoding": "identity",
            "Cookie": None,
            "Authorization": None,
        }
        registry.expect("GET", PATH, Reply(200, PAYLOAD, {"Set-Cookie": "a=b"}), GOOD, headers=rules)
        connector = connect(registry.url, installation="abc")
        await connector.fetch_manifest("team/app", "latest")
        await connector.fetch_manifest("team/app", "latest")


async def test_what_a_registry_says_is_shortened_and_without_secrets(connect: Connect) -> None:
    message = "denied for Bearer abcdef123456 at https://ann:pw@storage/x?X-Amz-Signature=deadbeef " + "x" * 1000
    with pytest.raises(RegistryDenied) as caught:
        await _fetch(connect, error_reply(403, "DENIED", message))
    said = caught.value.diagnostics
    assert "DENIED" in said
    assert len(said) <= 300
    for secret in ("abcdef123456", "ann:pw", "deadbeef"):
        assert secret not in said


async def test_traffic_counts_bodies_and_bytes(connect: Connect) -> None:
    _, traffic = await _fetch(connect, GOOD)
    assert traffic.manifest_bodies == 1
    assert traffic.received_bytes == len(PAYLOAD)


def test_digests_in_these_tests_are_real() -> None:
    assert GOOD.headers["Docker-Content-Digest"] == str(Digest.of(PAYLOAD))


@pytest.mark.parametrize("rate", [5e-324, 0.0, -1.0, math.nan])
def test_a_rate_that_nothing_could_keep_is_refused(rate: float):
    with pytest.raises(InputError, match="too slow"):
        Gate(Limits(requests_per_second=rate))
