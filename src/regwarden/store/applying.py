"""How do stored deliveries become state? One write unit: read, fold, keep the new events, change rows, mark deliveries.

Everything happens in one transaction, and the unique key of ``events`` decides what is new: whatever is delivered
again, or interrupted and done again, changes nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Update, bindparam, func, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from regwarden.core.events import Action, Envelope, Event, parse_envelope
from regwarden.core.folding import Rename, fold
from regwarden.core.hosts import hosts_by_registry, normalise_host
from regwarden.core.text import printable
from regwarden.errors import InputError, RegwardenError
from regwarden.store.bulk import Join, bulk_join
from regwarden.store.chunks import chunked
from regwarden.store.deliveries import IS_PENDING
from regwarden.store.event_rows import insert_new_events
from regwarden.store.event_schema import deliveries
from regwarden.store.folded import AppliedChanges, Place, apply_changes
from regwarden.store.renaming import apply_renames, load_renames, present_name
from regwarden.store.rereads import note_rereads
from regwarden.store.schema import registries
from regwarden.store.senders import Sender, note_senders
from regwarden.store.times import from_micros, to_micros

APPLIED: Final = "applied"
QUARANTINED: Final = "quarantined"
UNKNOWN_REGISTRY: Final = "unknown-registry"
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
# Statements that every piece needs are made once: making them takes longer than a small piece.
_CHOSEN: Final = deliveries.c.id.in_(bindparam("chosen", expanding=True))
_BODIES: Final = (
    select(deliveries.c.id, deliveries.c.registry, deliveries.c.received_at, deliveries.c.body)
    .where(_CHOSEN)
    .order_by(deliveries.c.id)
)
_MARK: Final = (
    update(deliveries)
    .where(_CHOSEN)
    .values(state=bindparam("new_state"), reason=bindparam("why"), event_count=bindparam("found_count"))
)
_REGISTRY: Final = select(registries.c.id).where(registries.c.name == bindparam("of_name"))


@dataclass(frozen=True, slots=True)
class EventRegistry:
    """A registry as events may name it: ``hosts`` are its address and its aliases."""

    name: str
    url: str
    kind: str = "distribution"
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Folding:
    """How events are read: whose they are, which are our own, what class a pull has and which classes are use."""

    installation: str
    classify: Callable[[Event], str]
    use: frozenset[str]
    registries: tuple[EventRegistry, ...] = ()


@dataclass(slots=True)
class Applied:
    """What one unit has done.

    ``has_rereads``: something must be read from a registry now. ``problem``: why a delivery could not be applied
    although it could be read, which is a mistake of ours.
    """

    delivery_count: int = 0
    event_count: int = 0
    duplicate_count: int = 0
    own_count: int = 0
    quarantined_count: int = 0
    unknown_count: int = 0
    has_rereads: bool = False
    problem: str = ""


@dataclass(slots=True)
class _Read:
    """A delivery that has been looked at."""

    delivery_id: int
    registry: str
    received_at: datetime
    events: tuple[Event, ...] = ()
    state: str = APPLIED
    reason: str = ""
    new_count: int = 0


@dataclass(slots=True)
class _Batch:
    """The events of one source, each once, with the delivery that brought them."""

    events: dict[str, tuple[Event, _Read]] = field(default_factory=dict)


def apply_pending(connection: Connection, folding: Folding, *, now: datetime, limit: int) -> Applied:
    """Apply at most ``limit`` deliveries, the oldest first. Nothing is left of them if this fails.

    A single delivery whose content cannot be applied, for reasons nobody thought of, goes to quarantine.
    """
    rows = _take(connection, limit)
    if len(rows) != 1:
        return _apply(connection, rows, folding, now)
    try:
        with connection.begin_nested():
            return _apply(connection, rows, folding, now)
    except Exception as error:
        if not _is_of_content(error):
            raise
        reason = f"it cannot be applied: {printable(f'{type(error).__name__}: {error}', 300)}"
        read = _Read(rows[0].id, "", now, state=QUARANTINED, reason=reason)
        _mark(connection, [read])
        return Applied(delivery_count=1, quarantined_count=1, problem=reason)


def _is_of_content(error: Exception) -> bool:
    """Whether it is not the database that failed. It also refuses values, and what exceeds its own limits."""
    if isinstance(error, DBAPIError):
        # https://www.postgresql.org/docs/current/errcodes-appendix.html: class 54, program limit exceeded
        is_too_much = str(getattr(error.orig, "sqlstate", None) or "").startswith("54")
        return is_too_much or isinstance(error, (DataError, IntegrityError))
    return not isinstance(error, (SQLAlchemyError, RegwardenError))


def _apply(connection: Connection, rows: Sequence[Any], folding: Folding, now: datetime) -> Applied:
    applied = Applied()
    found = [_read(row) for row in rows]
    batches = _sort_by_source(found, folding, applied)
    for (source, is_known), batch in sorted(batches.items()):
        if is_known:
            _apply_known(connection, source, batch, folding, applied, now)
        else:
            _keep_unknown(connection, source, batch, applied)
    _mark(connection, found)
    applied.delivery_count = len(found)
    applied.quarantined_count = sum(one.state == QUARANTINED for one in found)
    return applied


def _take(connection: Connection, limit: int) -> Sequence[Any]:
    """The oldest pending deliveries, on PostgreSQL those that no other process is at; few if they are large."""
    sized = select(deliveries.c.id, deliveries.c.body_bytes).where(IS_PENDING).order_by(deliveries.c.id).limit(limit)
    if connection.dialect.name == "postgresql":
        sized = sized.with_for_update(skip_locked=True)
    chosen: list[int] = []
    total = 0
    for row in connection.execute(sized).all():
        total += row.body_bytes
        if chosen and total > MAX_BATCH_BYTES:
            break
        chosen.append(row.id)
    return connection.execute(_BODIES, {"chosen": chosen}).all() if chosen else []


def _read(row: Any) -> _Read:
    read = _Read(row.id, row.registry, from_micros(row.received_at))
    try:
        envelope = parse_envelope(bytes(row.body or b""), read.received_at)
    except InputError as error:
        envelope = Envelope((), (error.message,))
    read.events = envelope.events
    if envelope.faults:
        read.state, read.reason = QUARANTINED, "; ".join(envelope.faults)[:2000]
    return read


def _sort_by_source(found: Iterable[_Read], folding: Folding, applied: Applied) -> dict[tuple[str, bool], _Batch]:
    """The events by source: a registry's name, or a host that is not known (then the second part is false)."""
    names = {registry.name for registry in folding.registries}
    hosts = hosts_by_registry({one.name: (one.url, *one.hosts) for one in folding.registries})
    batches: dict[tuple[str, bool], _Batch] = {}
    for read in found:
        for event in read.events:
            if is_own_pull(event, folding.installation):
                applied.own_count += 1
                continue
            host = normalise_host(event.host)
            name = read.registry or hosts.get(host, "")
            key = (name, True) if name in names else (read.registry or host, False)
            known = batches.setdefault(key, _Batch()).events
            if event.event_id in known:
                applied.duplicate_count += 1
            else:
                known[event.event_id] = (event, read)
    return batches


def is_own_pull(event: Event, installation: str) -> bool:
    """Whether a pull is our own reading: it is no use, and must leave no trace. Other events of ours count."""
    return event.action is Action.PULL and is_own(event, installation)


def is_own(event: Event, installation: str) -> bool:
    """Whether a request of this installation caused an event."""
    return (
        bool(installation)
        and event.user_agent.startswith("regwarden/")
        and event.user_agent.endswith(f"({installation})")
    )


def _keep_unknown(connection: Connection, host: str, batch: _Batch, applied: Applied) -> None:
    rows = [(event, read.delivery_id, read.received_at, "") for event, read in batch.events.values()]
    new = insert_new_events(connection, host, None, rows, state=UNKNOWN_REGISTRY)
    for event_id in new:
        _, read = batch.events[event_id]
        if read.state == APPLIED:
            # One that brought nothing new need not wait: the delivery that has its events does.
            read.state, read.reason = UNKNOWN_REGISTRY, f"no registry is configured for {host or 'no host'}"
    applied.unknown_count += len(new)
    applied.duplicate_count += len(rows) - len(new)


def _apply_known(
    connection: Connection, name: str, batch: _Batch, folding: Folding, applied: Applied, now: datetime
) -> None:
    registry = next(one for one in folding.registries if one.name == name)
    registry_id = ensure_registry(connection, registry, now)
    classes = {
        event_id: folding.classify(event) if event.action is Action.PULL else ""
        for event_id, (event, _) in batch.events.items()
    }
    rows = [
        (event, read.delivery_id, read.received_at, classes[event.event_id]) for event, read in batch.events.values()
    ]
    new = insert_new_events(connection, name, registry_id, rows, state=APPLIED)
    applied.event_count += len(new)
    applied.duplicate_count += len(rows) - len(new)
    if not new:
        return
    fresh = [(event, read) for event_id, (event, read) in batch.events.items() if event_id in new]
    for _, read in fresh:
        read.new_count += 1
    renamed = {Rename(e.repository, e.other_repository, e.at) for e, _ in fresh if e.action is Action.RENAME}
    apply_renames(connection, registry_id, renamed)
    renames = load_renames(connection, registry_id)
    under_present_names = [_under_present_name(event, renames) for event, _ in fresh]
    changes = fold(
        under_present_names,
        lambda event: classes[event.event_id],
        folding.use,
        is_own=lambda event: is_own(event, folding.installation),
    )
    outcome = apply_changes(connection, Place(registry_id, normalise_host(registry.url)), changes, now)
    seen = [Sender(event.instance_id, event.source_address, read.received_at) for event, read in fresh]
    rereads = [*outcome.rereads, *note_senders(connection, registry_id, seen, now)]
    note_rereads(connection, rereads)
    applied.has_rereads = applied.has_rereads or bool(rereads)
    _note_registry(connection, registry_id, [read.received_at for _, read in fresh], outcome, now)


def ensure_registry(connection: Connection, registry: EventRegistry, now: datetime) -> int:
    """The id of a registry, which is added if nothing was known of it."""
    row = {"name": registry.name, "url": registry.url, "kind": registry.kind, "first_seen_at": to_micros(now)}
    known = connection.execute(_REGISTRY, {"of_name": registry.name}).scalar()
    if known is None:
        bulk_join(connection, registries, [row], Join(least=("first_seen_at",)), conflict=("name",))
        known = connection.execute(_REGISTRY, {"of_name": registry.name}).scalar_one()
    return int(known)


def _under_present_name(event: Event, renames: Sequence[tuple[str, str, int]]) -> Event:
    if not renames or event.action is Action.RENAME:
        return event
    return replace(event, repository=present_name(event.repository, to_micros(event.at), renames))


def _note_registry(
    connection: Connection, registry_id: int, received: Sequence[datetime], outcome: AppliedChanges, now: datetime
) -> None:
    values = {"registry": registry_id, "first": to_micros(min(received)), "last": to_micros(max(received))}
    if outcome.is_changed:
        values["now"] = to_micros(now)
    connection.execute(_registry_update(connection.dialect.name, is_changed=outcome.is_changed), values)


@lru_cache
def _registry_update(dialect: str, *, is_changed: bool) -> Update:
    columns = registries.c
    least, greatest = (func.min, func.max) if dialect == "sqlite" else (func.least, func.greatest)
    first, last = (bindparam(name, type_=columns.events_since.type) for name in ("first", "last"))
    changed: dict[str, Any] = {"changed_at": bindparam("now")} if is_changed else {}
    return (
        update(registries)
        .where(columns.id == bindparam("registry"))
        .values(
            events_since=least(func.coalesce(columns.events_since, first), first),
            delivered_at=greatest(func.coalesce(columns.delivered_at, last), last),
            **changed,
        )
    )


def _mark(connection: Connection, found: Sequence[_Read]) -> None:
    """Note what became of the deliveries: nearly always the same of all."""
    outcomes: dict[tuple[str, str, int], list[int]] = {}
    for read in found:
        outcomes.setdefault((read.state, read.reason, read.new_count), []).append(read.delivery_id)
    for (state, reason, count), ids in outcomes.items():
        for chunk in chunked(ids):
            values = {"new_state": state, "why": reason, "found_count": count}
            connection.execute(_MARK, {**values, "chosen": chunk})
