"""What people hold by hand: a text to a protection, kept with its reason, ended by its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from regwarden import clock
from regwarden.core.observed import Hold
from regwarden.core.quantities import parse_moment_or_duration
from regwarden.core.selectors import parse_selector
from regwarden.errors import InputError, NotFound
from regwarden.store import audit, protections, reports

if TYPE_CHECKING:
    from regwarden.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Protected:
    """A protection that was made; ``until`` of ``None`` is until it is removed."""

    id: int
    registry: str
    repository: str
    tag: str
    digest: str
    until: datetime | None
    reason: str
    made_by: str
    made_at: datetime


def make_protection(
    database: Database, *, text: str, reason: str, until: str | None, registry: str | None, principal: str
) -> Protected:
    """Keep a protection. Raises ``InputError`` and ``NotFound``."""
    if not reason.strip():
        raise InputError("a protection needs a reason", hint="Others will want to know why.", code="bad-protection")

    def work(connection: Any) -> Protected:
        known = [one.registry for one in reports.registry_overview(connection)]
        now = clock.now()
        hold = parse_hold(text, registry, known)
        ends = _parse_until(until, now)
        hold = Hold(
            id=0,
            registry=hold.registry,
            repository=hold.repository,
            tag=hold.tag,
            digest=hold.digest,
            until=ends,
            reason=reason.strip(),
            by=principal,
        )
        number = protections.save_protection(connection, hold, now)
        subject = text if text.startswith(f"{hold.registry}/") else f"{hold.registry}/{text}"
        audit.record(
            connection,
            at=now,
            principal=principal,
            action="protection-add",
            subject=subject,
            detail={"id": number, "reason": hold.reason, "until": None if ends is None else ends.isoformat()},
        )
        return Protected(
            id=number,
            registry=hold.registry,
            repository=hold.repository,
            tag=hold.tag,
            digest=hold.digest,
            until=ends,
            reason=hold.reason,
            made_by=principal,
            made_at=now,
        )

    return database.write_now(work)


def find_protections(connection: Any, registry: str | None, include_ended: bool) -> list[dict[str, object]]:  # noqa: FBT001 -- from one place
    """Protections as rows, by id."""
    now = None if include_ended else clock.now()
    return [
        {
            "id": one.hold.id,
            "registry": one.hold.registry,
            "repository": one.hold.repository,
            "tag": one.hold.tag,
            "digest": one.hold.digest,
            "until": one.hold.until,
            "reason": one.hold.reason,
            "made_by": one.hold.by,
            "made_at": one.made_at,
            "removed_at": one.removed_at,
        }
        for one in protections.list_protections(connection, registry=registry, now=now)
    ]


def end_protections(database: Database, ids: Sequence[int], principal: str) -> None:
    """End protections, all or none. Raises ``NotFound``."""

    def work(connection: Any) -> None:
        now = clock.now()
        for number in ids:
            protections.remove_protection(connection, number, now)
            audit.record(connection, at=now, principal=principal, action="protection-remove", detail={"id": number})

    database.write_now(work)


def parse_hold(text: str, registry: str | None, known: Sequence[str]) -> Hold:
    """What a text means, in ``registry`` or the only one that is known. Raises ``InputError`` and ``NotFound``."""
    selector = parse_selector(text, known_registries=known)
    name = selector.registry or registry or (known[0] if len(known) == 1 else "")
    if not name:
        listed = ", ".join(sorted(known)) or "none; run regwarden crawl first"
        hint = f"Add --registry NAME. Known: {listed}."
        raise InputError("it is not said which registry is meant", hint=hint, code="bad-protection")
    if name not in known:
        hint = f"It has: {', '.join(sorted(known)) or 'none'}."
        raise NotFound(f"the inventory has no registry {name[:160]!r}", hint=hint, code="unknown-registry")
    if selector.tag is not None and selector.tag.exact is None:
        hint = "Protect tags by a pattern in a policy: protect: [{tags: {any: [...]}}]."
        raise InputError("a protection by hand names one tag", hint=hint, code="bad-protection")
    return Hold(
        id=0,
        registry=name,
        repository="glob:**" if selector.repository is None else str(selector.repository),
        tag="" if selector.tag is None else str(selector.tag.exact),
        digest="" if selector.digest is None else str(selector.digest),
    )


def _parse_until(until: str | None, now: datetime) -> datetime | None:
    if until is None:
        return None
    value = parse_moment_or_duration(until.strip())
    ends = value if isinstance(value, datetime) else now + value
    if ends <= now:
        raise InputError(f"{until!r} is over already", hint="Give a date that is to come.", code="bad-protection")
    return ends
