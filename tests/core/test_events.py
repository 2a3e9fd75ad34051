"""Bodies of notifications, recorded and hostile, read into events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.events import Action, Event, Target, parse_envelope
from regwarden.core.oci import media_types
from regwarden.errors import InputError
from tests.notifications import START, digest_of, envelope, event, push

RECORDED = Path(__file__).parents[1] / "data" / "notifications"
NOW = datetime(2026, 12, 1, tzinfo=UTC)
KINDS = {
    media_types.DOCKER_MANIFEST: "docker v2",
    media_types.DOCKER_LIST: "docker list",
    media_types.OCI_MANIFEST: "OCI manifest",
    media_types.OCI_INDEX: "OCI index",
    media_types.SCHEMA_1: "schema 1",
    media_types.SCHEMA_1_SIGNED: "schema 1",
}


def recordings() -> list[Any]:
    found = []
    for version in ("2.8.2", "3.1.1"):
        for line in (RECORDED / f"distribution-{version}.jsonl").read_text("utf-8").splitlines():
            recording = json.loads(line)
            found.append(pytest.param(recording, id=f"{version}-{recording['capture']}"))
    return found


def in_words(found: Event) -> str:
    """An event as the recordings' tables describe it."""
    if found.target is Target.TAG:
        words = f"{found.action} tag"
    elif found.target is Target.CONTENT:
        words = f"{found.action} manifest or blob"
    else:
        words = f"{found.action} {KINDS.get(found.media_type, 'blob')}"
    words += f" tag={shortened(found.tag)}" if found.tag else ""
    words += f" from={found.other_repository}" if found.other_repository else ""
    words += f" refs={len(found.references)}" if found.references else ""
    return words + (" (HEAD)" if found.action is Action.PULL and found.method == "HEAD" else "")


def shortened(tag: str) -> str:
    algorithm, separator, rest = tag.partition("-")
    if algorithm != "sha256" or not separator or len(rest) < 64:
        return tag
    return f"sha256-{rest[:7]}...{rest[64:]}"


def counted(sentence: str) -> list[str]:
    """``3 x push blob; push docker v2 tag=1.0`` as a list of four."""
    found: list[str] = []
    for part in sentence.split("; ") if sentence != "none" else ():
        number, separator, words = part.partition(" x ")
        found += [words] * int(number) if separator and number.isdigit() else [part]
    return found


@pytest.mark.parametrize("recording", recordings())
def test_what_registries_really_send_is_read_as_recorded(recording: dict[str, Any]) -> None:
    read: list[Event] = []
    for body in recording["bodies"]:
        found = parse_envelope(json.dumps(body, indent=3, ensure_ascii=False).encode(), NOW)
        assert found.faults == ()
        read += found.events
        assert all(one.sent_at is None and one.at.tzinfo is UTC for one in found.events)
    assert [in_words(one) for one in read] == counted(recording["events"])


def test_every_field_of_an_event_is_taken() -> None:
    body = envelope(push("team/app", "1.0", 7, 3, useragent="docker/27", host="Registry.Example.Test:443"))
    (found,) = parse_envelope(body, NOW).events
    assert (found.action, found.target, found.repository, found.tag) == (
        Action.PUSH,
        Target.MANIFEST,
        "team/app",
        "1.0",
    )
    assert (str(found.digest), found.size_bytes, found.at) == (digest_of(7), 507, START + timedelta(minutes=3))
    assert (found.host, found.user_agent, found.method) == ("registry.example.test:443", "docker/27", "PUT")
    assert (found.address, found.instance_id, found.source_address) == ("10.0.0.1:5", "i", "registry-0:5000")


POISON = {
    "nothing": b"",
    "NUL": b"\x00",
    "not UTF-8": b"\xff\xfe\x00",
    "another document": b'{"items": []}',
    "a list": b"[]",
    "a lone surrogate": b'{"events": [{"id": "\\ud800"}]}',
    "NaN": b'{"events": [{"x": NaN}]}',
    "depth": b'{"events": [{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    "open depth": b'{"events": ' + b"[" * 100_000,
    "cut off": envelope(push("a", "1", 1, 0))[:-40],
    "too many": b'{"events": [' + b"1," * 10_000 + b"1]}",
}


@pytest.mark.parametrize("body", POISON.values(), ids=POISON.keys())
def test_what_is_no_notification_is_refused_in_one_sentence(body: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_envelope(body, NOW)
    assert caught.value.code == "bad-envelope"
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400


BAD_EVENTS = {
    "no target": {"action": "push"},
    "no object": 7,
    "an unknown action": event("sing", "a", digest=digest_of(1)),
    "no action": event("", "a", digest=digest_of(1)),
    "NUL in the name": push("a\0b", "1", 1, 0),
    "a long name": push("a" * 10_000, "1", 1, 0),
    "a bad tag": push("a", "x" * 10_000, 1, 0),
    "no digest": event("push", "a", tag="1"),
    "a short digest": event("push", "a", tag="1", digest="sha256:12"),
    "an unknown algorithm": event("push", "a", tag="1", digest="md5:" + "0" * 32),
    "the year 300000": push("a", "1", 1, 0) | {"timestamp": "300000-01-01T00:00:00Z"},
    "a time after the last one": push("a", "1", 1, 0) | {"timestamp": "9999-12-31T23:59:59-12:00"},
    "no time at all": push("a", "1", 1, 0) | {"timestamp": "yesterday"},
    "a negative size": push("a", "1", 1, 0, target={"size": -1}),
    "a huge size": push("a", "1", 1, 0, target={"size": 2**60}),
    "an impossible size": push("a", "1", 1, 0, target={"size": int("9" * 400)}),
    "a rename without names": event("rename", "a"),
    "no repository": event("push", "", digest=digest_of(1)),
}


@pytest.mark.parametrize("bad", BAD_EVENTS.values(), ids=BAD_EVENTS.keys())
def test_an_event_that_cannot_be_read_is_a_fault_and_its_neighbours_are_read(bad: Any) -> None:
    found = parse_envelope(envelope(push("a", "1", 1, 0), bad, push("a", "2", 2, 0)), NOW)
    assert [one.tag for one in found.events] == ["1", "2"]
    assert len(found.faults) == 1
    assert found.faults[0].startswith("event 2 of 3: ")
    assert found.faults[0].isprintable()


def test_texts_are_bounded_and_printable() -> None:
    odd = push("a", "1", 1, 0, useragent="\x1b[31mred\0" + "x" * 10_000, host="h\n" * 500)
    (found,) = parse_envelope(envelope(odd), NOW).events
    assert found.user_agent.startswith("[31mredx")
    assert len(found.user_agent) <= 256
    assert found.host.isprintable()


def test_of_repeated_keys_the_last_one_counts() -> None:
    body = envelope(push("a", "1", 1, 0)).replace(b'"action": "push"', b'"action": "sing", "action": "push"')
    assert [one.action for one in parse_envelope(body, NOW).events] == [Action.PUSH]


@pytest.mark.parametrize("timestamp", ["", None, "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
def test_an_event_without_a_time_happened_when_it_was_received(timestamp: str | None) -> None:
    (found,) = parse_envelope(envelope(push("a", "1", 1, 0) | {"timestamp": timestamp}), NOW).events
    assert (found.at, found.sent_at) == (NOW, None)


def test_a_clock_that_is_ahead_is_followed_a_little_and_clamped_beyond() -> None:
    for minutes, expected in ((4, NOW + timedelta(minutes=4)), (6, NOW)):
        sent = (NOW + timedelta(minutes=minutes)).isoformat()
        (found,) = parse_envelope(envelope(push("a", "1", 1, 0) | {"timestamp": sent}), NOW).events
        assert found.at == expected
        assert found.sent_at == (None if minutes == 4 else NOW + timedelta(minutes=6))


@pytest.mark.parametrize("identity", ["", None, "x" * 200, "a\0b"])
def test_an_event_without_a_usable_id_gets_one_from_its_content(identity: str | None) -> None:
    one, other = (push("a", "1", number, 0) | {"id": identity} for number in (1, 2))
    found = parse_envelope(envelope(one, other, one), NOW).events
    assert found[0].event_id == found[2].event_id != found[1].event_id
    assert found[0].event_id.startswith("content:")


def test_a_type_that_is_not_known_is_told_by_tag_and_address() -> None:
    strange: dict[str, Any] = {"media_type": "application/vnd.strange+json", "digest": digest_of(1)}
    by_tag = event("push", "a", tag="1", **strange)
    by_address = event("pull", "a", target={"url": f"https://r/v2/a/manifests/{digest_of(1)}"}, **strange)
    neither = event("pull", "a", target={"url": f"https://r/v2/a/blobs/{digest_of(1)}"}, **strange)
    found = parse_envelope(envelope(by_tag, by_address, neither), NOW).events
    assert [one.target for one in found] == [Target.MANIFEST, Target.MANIFEST, Target.BLOB]


def test_references_that_cannot_be_read_are_left_out_as_a_whole() -> None:
    good = {"mediaType": media_types.OCI_CONFIG, "size": 5, "digest": digest_of(1)}
    for bad in ({"digest": "x"}, {"digest": digest_of(2), "size": -4}):
        (found,) = parse_envelope(envelope(push("a", "1", 1, 0, target={"references": [good, bad]})), NOW).events
        assert found.references == ()


@given(st.binary(max_size=300))
def test_no_body_causes_anything_but_the_documented_error(body: bytes) -> None:
    try:
        parse_envelope(b'{"events":[' + body + b"]}", NOW)
    except InputError as error:
        assert error.code == "bad-envelope"
