"""What does a notification say? Bodies of registries' webhooks, read into events that the rest can rely on.

Facts: the envelope of Distribution 2.x and 3.x (https://distribution.github.io/distribution/about/notifications/) and
the additions of GitLab's registry (``rename``). Everything in a body is hostile: nothing of it is kept unchecked, and
one event that cannot be read does not spoil its neighbours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from regwarden.core.oci.descriptors import MAX_SIZE_BYTES, Descriptor, Platform, build_platform
from regwarden.core.oci.digests import Digest
from regwarden.core.oci.media_types import essence, is_manifest
from regwarden.core.oci.references import MAX_REPOSITORY_LENGTH, parse_repository_name, parse_tag_name
from regwarden.core.text import printable
from regwarden.errors import InputError

MAX_EVENTS: Final = 2_000  # registries send one; all of a body are applied in one transaction, half a second at most
MAX_REFERENCES: Final = 10_000
MAX_COMMAS: Final = 2_000_000  # a body of nothing but small values would become forty times its size
FUTURE_TOLERANCE: Final = timedelta(minutes=5)
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)

_MAX_TEXT: Final = 256
_MAX_ID: Final = 128
_NAMES: Final = 4096


class Action(StrEnum):
    """What was done."""

    PUSH = "push"
    PULL = "pull"
    MOUNT = "mount"
    DELETE = "delete"
    RENAME = "rename"


class Target(StrEnum):
    """What it was done to. ``CONTENT`` is a deleted manifest or blob: the event does not say which."""

    MANIFEST = "manifest"
    BLOB = "blob"
    TAG = "tag"
    REPOSITORY = "repository"
    CONTENT = "content"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One checked event. ``at`` is the registry's time; where that lies in the future it is when it was received.

    ``sent_at`` is the registry's time where ``at`` is not. ``other_repository`` is where a blob was mounted from, or
    what a path was renamed to. Texts are bounded and printable.
    """

    event_id: str
    action: Action
    target: Target
    at: datetime
    sent_at: datetime | None = None
    repository: str
    tag: str = ""
    digest: Digest | None = None
    media_type: str = ""
    size_bytes: int | None = None
    other_repository: str = ""
    references: tuple[Descriptor, ...] = ()
    request_id: str = ""
    address: str = ""
    host: str = ""
    method: str = ""
    user_agent: str = ""
    actor: str = ""
    source_address: str = ""
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A delivery's events, and a sentence for each that cannot be read."""

    events: tuple[Event, ...]
    faults: tuple[str, ...] = ()


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Reference(msgspec.Struct, rename="camel"):
    media_type: str = ""
    size: int = 0
    digest: str = ""
    urls: list[str] | None = None
    platform: _Platform | None = None


class _Rename(msgspec.Struct):
    kind: str = msgspec.field(name="type", default="")
    old: str = msgspec.field(name="from", default="")
    new: str = msgspec.field(name="to", default="")


class _Target(msgspec.Struct, rename="camel"):
    media_type: str | None = None
    size: int | None = None
    digest: str | None = None
    repository: str | None = None
    from_repository: str | None = None
    url: str | None = None
    tag: str | None = None
    references: list[_Reference] | None = None
    rename: _Rename | None = None


class _Request(msgspec.Struct):
    id: str | None = None
    addr: str | None = None
    host: str | None = None
    method: str | None = None
    useragent: str | None = None


class _Actor(msgspec.Struct):
    name: str | None = None


class _Source(msgspec.Struct):
    addr: str | None = None
    instance_id: str | None = msgspec.field(name="instanceID", default=None)


class _Event(msgspec.Struct):
    id: str | None = None
    timestamp: str | None = None
    action: str | None = None
    target: _Target | None = None
    request: _Request | None = None
    actor: _Actor | None = None
    source: _Source | None = None


class _Envelope(msgspec.Struct):
    events: list[msgspec.Raw]


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_EVENT: Final = msgspec.json.Decoder(_Event)
_NOWHERE: Final = (_Request(), _Actor(), _Source())


def parse_envelope(body: bytes, received_at: datetime) -> Envelope:
    """Read the body of a delivery, received at ``received_at`` (aware UTC).

    Raises ``InputError`` (code ``bad-envelope``) if it is no envelope at all.
    """
    if body.count(b",") > MAX_COMMAS:
        raise InputError("it has more parts than are read", code="bad-envelope")
    try:
        found = _ENVELOPE.decode(body).events
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InputError(f"not a notification: {_reason(error)}", code="bad-envelope") from None
    if len(found) > MAX_EVENTS:
        raise InputError(f"it has {len(found)} events, more than the {MAX_EVENTS} that are read", code="bad-envelope")
    events: list[Event] = []
    faults: list[str] = []
    for number, raw in enumerate(found, 1):
        try:
            events.append(_read_event(bytes(raw), received_at))
        except InputError as error:
            faults.append(printable(f"event {number} of {len(found)}: {error.message}", 500))
    return Envelope(tuple(events), tuple(faults))


def _read_event(raw: bytes, received_at: datetime) -> Event:
    try:
        found = _EVENT.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InputError(_reason(error)) from None
    target = found.target
    if target is None:
        raise InputError("it has no target")
    action = _action(found.action)
    request, actor, source = (found.request or _NOWHERE[0], found.actor or _NOWHERE[1], found.source or _NOWHERE[2])
    at, sent_at = _moment(found.timestamp, received_at)
    tag = _tag(target.tag) if target.tag else ""
    digest = _digest(target.digest) if target.digest else None
    repository, other = _places(action, target)
    return Event(
        event_id=_identity(found.id, raw),
        action=action,
        target=_kind(action, target, tag, digest),
        at=at,
        sent_at=sent_at,
        repository=repository,
        tag=tag,
        digest=digest,
        media_type=essence(_text(target.media_type)),
        size_bytes=_size(target.size) if action is not Action.DELETE else None,
        other_repository=other,
        references=_references(target),
        request_id=_text(request.id),
        address=_text(request.addr),
        host=_text(request.host).lower(),
        method=_text(request.method).upper(),
        user_agent=_text(request.useragent),
        actor=_text(actor.name),
        source_address=_text(source.addr),
        instance_id=_text(source.instance_id),
    )


def _action(text: str | None) -> Action:
    try:
        return Action(text or "")
    except ValueError:
        raise InputError(f"{(text or '')[:40]!r} is not an action that is known") from None


def _kind(action: Action, target: _Target, tag: str, digest: Digest | None) -> Target:
    """What the event is about; raises ``InputError`` where the action needs what is not there."""
    if action is Action.RENAME:
        return Target.REPOSITORY
    if action is Action.DELETE:
        if tag:
            return Target.TAG
        return Target.CONTENT if digest is not None else Target.REPOSITORY
    if digest is None:
        raise InputError(f"a {action} without a digest")
    if action is Action.MOUNT:
        return Target.BLOB
    # The path of the address is a hint for types not known here; the address itself is never asked.
    if tag or is_manifest(target.media_type or "") or "/manifests/" in (target.url or ""):
        return Target.MANIFEST
    return Target.BLOB


def _places(action: Action, target: _Target) -> tuple[str, str]:
    """The repository, and the one that it was mounted from or renamed to."""
    if action is Action.RENAME:
        if target.rename is None:
            raise InputError("a rename that does not say from what to what")
        return _repository(target.rename.old), _repository(target.rename.new)
    other = target.from_repository
    return _repository(target.repository or ""), _repository(other) if other else ""


def _moment(text: str | None, received_at: datetime) -> tuple[datetime, datetime | None]:
    """When it happened, and what the registry's clock said where that cannot be."""
    if not text:
        return received_at, None
    try:
        sent_at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        raise InputError(f"{text[:60]!r} is not a time") from None
    if sent_at.tzinfo is None:
        sent_at = sent_at.replace(tzinfo=UTC)
    if sent_at < EARLIEST:  # Go's zero time, and clocks that were never set
        return received_at, None
    try:
        sent_at = sent_at.astimezone(UTC)
    except OverflowError:  # the last hours of the year 9999, west of Greenwich
        raise InputError(f"{text[:60]!r} is not a time") from None
    if sent_at > received_at + FUTURE_TOLERANCE:
        return received_at, sent_at
    return sent_at, None


def _identity(text: str | None, raw: bytes) -> str:
    """The event's id, or one made from its bytes where it has none that can be kept."""
    if text and len(text) <= _MAX_ID and text.isprintable():
        return text
    return f"content:{hashlib.sha256(raw).hexdigest()}"


def _references(target: _Target) -> tuple[Descriptor, ...]:
    """The references that can be read; as a whole or not at all, because a part would be taken for the whole."""
    found = target.references or ()
    if len(found) > MAX_REFERENCES:
        return ()
    try:
        return tuple(
            Descriptor(
                media_type=essence(_text(one.media_type)),
                digest=_digest(one.digest),
                size_bytes=_size(one.size) or 0,
                platform=_platform(one.platform),
                is_foreign=bool(one.urls),
            )
            for one in found
        )
    except InputError:
        return ()


def _platform(platform: _Platform | None) -> Platform | None:
    if platform is None or not platform.os:
        return None
    return build_platform(platform.os, platform.architecture, platform.variant)


def _size(size: int | None) -> int | None:
    if size is not None and not 0 <= size <= MAX_SIZE_BYTES:
        raise InputError(f"{str(size)[:40]} bytes is not a size")
    return size


@lru_cache(_NAMES)
def _repository(text: str) -> str:
    if len(text) > MAX_REPOSITORY_LENGTH:
        raise InputError(f"a repository whose name has {len(text)} characters")
    return parse_repository_name(text)


@lru_cache(_NAMES)
def _tag(text: str) -> str:
    return parse_tag_name(text)


@lru_cache(_NAMES)
def _digest(text: str) -> Digest:
    return Digest.parse(text)


def _text(text: str | None) -> str:
    return printable(text, _MAX_TEXT) if text else ""


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else printable(str(error), 200)
