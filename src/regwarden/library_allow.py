"""Entries of the allow-list: what somebody writes to an entry, kept with its reason; ended by its number; asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from regwarden import clock
from regwarden.core.allow_images import MAX_IMAGE_LENGTH, Image, compared_host, parse_image
from regwarden.core.allowlist import Outcome
from regwarden.core.globs import GLOB_CHARACTERS
from regwarden.core.oci.digests import Digest
from regwarden.core.patterns import PatternKind, parse_pattern
from regwarden.core.quantities import parse_moment_or_duration
from regwarden.errors import InputError
from regwarden.store import audit
from regwarden.store.allow import AllowFilter, AllowRecord, list_entries, remove_entry, save_entry
from regwarden.store.decisions import DecisionFilter, list_decisions

if TYPE_CHECKING:
    from regwarden.store.database import Database

MOST_REASON_CHARACTERS: Final = 2000
MOST_EVIDENCE: Final = 50
MOST_PATTERNS: Final = 100
EFFECTS: Final = ("allow", "deny")


class AllowRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an entry is to be. ``expires`` and ``not_before`` are moments or how long from now."""

    image: str = ""
    pattern: str = ""
    effect: str = "allow"
    name: str = ""
    tags: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_before: str | None = None
    expires: str | None = None
    reason: str = ""
    evidence: dict[str, str] = {}
    is_protecting: bool = True


def make_entry(database: Database, asked: AllowRequest, principal: str) -> AllowRecord:
    """Put an entry on the list. Raises ``InputError`` (codes ``bad-allow-entry``, ``bad-image``, ``bad-pattern``)."""
    now = clock.now()
    record = build_record(asked, principal, now)

    def work(connection: Any) -> AllowRecord:
        number = save_entry(connection, record)
        detail = {"id": number, "reason": record.reason}
        audit.record(
            connection,
            at=now,
            principal=principal,
            action=f"allow-add-{record.effect}",
            subject=record.image or record.pattern,
            detail=detail,
        )
        return replace(record, id=number)

    return database.write_now(work)


def build_record(asked: AllowRequest, principal: str, now: datetime) -> AllowRecord:
    """The entry that is asked for."""
    _check(asked)
    image = parse_image(asked.image) if asked.image else Image("")
    begins, ends = _moment(asked.not_before, now), _moment(asked.expires, now)
    if ends is not None and ends <= max(now, begins or now):
        raise _bad("expires", "it would be over before it begins", hint="Give a moment that is to come.")
    return AllowRecord(
        effect=asked.effect,
        image=_kept_text(image),
        digest="" if image.digest is None else str(Digest.from_bytes(image.digest)),
        pattern=asked.pattern,
        name=asked.name,
        tags=asked.tags,
        clusters=asked.clusters,
        namespaces=asked.namespaces,
        not_before=begins,
        expires_at=ends,
        reason=asked.reason.strip(),
        evidence=asked.evidence,
        is_protecting=asked.is_protecting,
        made_at=now,
        made_by=principal,
        updated_at=now,
    )


def entry_row(record: AllowRecord) -> dict[str, Any]:
    """An entry as lists show it."""
    row = asdict(record)
    row["digest"] = record.digest or None
    return row


def find_entries(connection: Any, wanted: AllowFilter) -> list[dict[str, Any]]:
    """Entries as rows, by id."""
    return [entry_row(one) for one in list_entries(connection, wanted)]


def build_filter(
    *, effect: str | None = None, image: str | None = None, include_ended: bool = False, after_id: int = 0, limit: int
) -> AllowFilter:
    """Which entries are meant; ``image`` is a digest, a text as it was given, or a name. Raises ``InputError``."""
    if effect is not None and effect not in EFFECTS:
        raise _bad("effect", f"{effect[:80]!r} is no effect", hint="There are allow and deny.")
    parsed = parse_image(image) if image else None
    return AllowFilter(
        effect=effect,
        image=None if parsed is None else _kept_text(parsed),
        digest=None if parsed is None else parsed.digest,
        now=None if include_ended else clock.now(),
        after_id=after_id,
        limit=limit,
    )


def end_entries(database: Database, ids: Sequence[int], principal: str) -> None:
    """End entries, all or none. Raises ``NotFound`` (code ``no-allow-entry``)."""

    def work(connection: Any) -> None:
        now = clock.now()
        for number in ids:
            ended = remove_entry(connection, number, principal, now)
            subject = ended.image or ended.pattern
            detail = {"id": number, "effect": ended.effect}
            audit.record(connection, at=now, principal=principal, action="allow-remove", subject=subject, detail=detail)

    database.write_now(work)


def build_decision_filter(
    *,
    image: str | None = None,
    outcome: str | None = None,
    principal: str | None = None,
    since: str | datetime | None = None,
    before_id: int | None = None,
    limit: int,
) -> DecisionFilter:
    """Which answers are meant. Raises ``InputError``."""
    if outcome is not None and outcome not in tuple(Outcome):
        raise _bad("outcome", f"{outcome[:80]!r} is no answer", hint="There are allow, deny and unknown.")
    if isinstance(since, str):
        value = parse_moment_or_duration(since)
        since = value if isinstance(value, datetime) else clock.now() - value
    return DecisionFilter(
        image=image, outcome=outcome, principal=principal, since=since, before_id=before_id, limit=limit
    )


def find_decisions(connection: Any, wanted: DecisionFilter) -> list[dict[str, Any]]:
    """Answers as rows, the newest first."""
    return [asdict(one) for one in list_decisions(connection, wanted)]


def _check(asked: AllowRequest) -> None:
    if asked.effect not in EFFECTS:
        raise _bad("effect", f"{asked.effect[:80]!r} is no effect", hint="There are allow and deny.")
    if not asked.image and not asked.pattern:
        raise _bad("image", "an entry needs an image or a pattern", hint="Give a digest, a reference or --pattern.")
    if asked.tags and asked.image:
        raise _bad("tags", "tags belong to a pattern, not to an image", hint="Give --pattern instead of the image.")
    _check_text("reason", asked.reason, MOST_REASON_CHARACTERS)
    _check_text("name", asked.name, MAX_IMAGE_LENGTH)
    for name, patterns in (
        ("pattern", (asked.pattern,) if asked.pattern else ()),
        ("tags", asked.tags),
        ("clusters", asked.clusters),
        ("namespaces", asked.namespaces),
    ):
        if len(patterns) > MOST_PATTERNS:
            raise _bad(name, f"there are {len(patterns)} patterns", hint=f"At most {MOST_PATTERNS}.")
        for text in patterns:
            parse_pattern(text, bare=PatternKind.GLOB if GLOB_CHARACTERS & set(text) else PatternKind.EXACT)
    _check_evidence(asked.evidence)


def _check_evidence(evidence: Mapping[str, str]) -> None:
    if len(evidence) > MOST_EVIDENCE:
        raise _bad("evidence", f"there are {len(evidence)} pieces of evidence", hint=f"At most {MOST_EVIDENCE}.")
    for key, value in evidence.items():
        if not key:
            raise _bad("evidence", "evidence has no name", hint="Write NAME=VALUE.")
        _check_text("evidence", key, 100)
        _check_text("evidence", value, MOST_REASON_CHARACTERS)


def _check_text(field: str, text: str, most: int) -> None:
    if len(text) > most:
        raise _bad(field, f"it has {len(text)} characters", hint=f"At most {most}.")
    if not text.isprintable():
        raise _bad(field, "it has characters that cannot be printed", hint="Write it in one line.")


def _moment(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    value = parse_moment_or_duration(text.strip())
    return value if isinstance(value, datetime) else now + value


def _kept_text(image: Image) -> str:
    """As it was given; of a tag's reference the host is in the form that is compared, so that it is found by it."""
    first, slash, rest = image.text.partition("/")
    if image.is_tag_question and slash and image.names[0].startswith(f"{compared_host(first)}/"):
        return f"{compared_host(first)}/{rest}"
    return image.text


def _bad(field: str, message: str, *, hint: str) -> InputError:
    return InputError(f"{field}: {message}", hint=hint, code="bad-allow-entry")
