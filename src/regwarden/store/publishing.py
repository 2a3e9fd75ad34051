"""How does a reading of a repository become the inventory's state of it? In short write units, the state itself last.

Every unit may be done again: a crawl that is killed between two of them reads the repository anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import delete, func, select, update
from sqlalchemy.engine import Connection, Row

from regwarden.store.chunks import chunked
from regwarden.store.database import Database
from regwarden.store.drifts import count_confirmed, withdraw_missed_deletes
from regwarden.store.event_schema import events
from regwarden.store.existence import EVERYTHING
from regwarden.store.inventory import RepositoryReading, find_repository
from regwarden.store.manifest_publishing import save_absent, save_present
from regwarden.store.naming import discard_renamed, ensure_named
from regwarden.store.problems import Replacement, load_problem_ids, split_replacement, write_problems
from regwarden.store.rereads import note_rereads
from regwarden.store.schema import (
    crawl_checkpoints,
    crawls,
    manifests,
    registries,
    removals,
    repositories,
    tag_history,
    tags,
)
from regwarden.store.tag_points import CRAWL, GONE, Known, load_points, load_removals, names_of_digests
from regwarden.store.tag_publishing import (
    Place,
    TagChanges,
    TagRow,
    is_news,
    load_tag_rows,
    mark_vanished,
    publish_tags,
    reread_after,
)
from regwarden.store.times import to_micros

UNIT_ROWS: Final = 200
_MOST_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Published:
    """How a reading changed the inventory.

    ``confirmed_count`` are changes that events had told of, ``drift_count`` those that no event had told of.
    """

    repository_id: int
    new_tag_count: int = 0
    moved_tag_count: int = 0
    confirmed_count: int = 0
    drift_count: int = 0


@dataclass(frozen=True, slots=True)
class _Step:
    """A piece of work, and about how many rows it writes."""

    row_count: int
    work: Callable[[Connection], Any]


@dataclass(frozen=True, slots=True)
class _Survey:
    """What publishing a reading has to write, worked out while others may write."""

    place: Place
    last_event_id: int
    news: tuple[str, ...]
    undated_ids: tuple[int, ...]
    marked_ids: tuple[int, ...]
    unmentioned: tuple[int, ...]  # when events told of tags that the reading knows nothing of
    deleted_count: int
    checkpoint_count: int
    problems: tuple[Replacement, ...]


async def publish(database: Database, reading: RepositoryReading, now: Callable[[], datetime]) -> Published | None:
    """Make a reading the inventory's state of that repository. Its manifests must have been kept before.

    ``None`` if the repository was renamed since its name was learned: then the reading does not count, and what the
    repository is called now is noted to be read.
    """
    repository_id = await _find_place(database, reading)
    if repository_id is None:
        return None
    total = TagChanges()
    for attempt in range(_MOST_ATTEMPTS):
        survey = await database.read(partial(_survey, repository_id=repository_id, reading=reading))
        if survey is None:  # its row was joined with that of its new name
            await database.write(lambda connection: discard_renamed(connection, reading.naming, reading.name))
            return None
        is_last = attempt == _MOST_ATTEMPTS - 1
        finish = partial(_finish, survey=survey, reading=reading, now=now, is_last=is_last)
        run = partial(_run, repository_id=repository_id, reading=reading)
        outcome = await _write(database, [*_steps(survey, reading), _Step(1, finish)], run, total)
        if outcome is None:
            return None
        if outcome:
            total.confirmed_count += survey.deleted_count
            break
    return Published(repository_id, total.new_count, total.moved_count, total.confirmed_count, total.drift_count)


async def _find_place(database: Database, reading: RepositoryReading) -> int | None:
    """The repository's id; a new one gets a row, unless it was renamed."""
    registry_id, name = reading.registry_id, reading.name
    found = await database.read(lambda connection: find_repository(connection, registry_id, name))
    if found is not None:
        return found
    return await database.write(lambda connection: ensure_named(connection, reading.naming, name))


async def _write(
    database: Database, steps: Sequence[_Step], run: Callable[..., list[Any] | None], total: TagChanges
) -> bool | None:
    """Do the work in units; returns what the last step says, ``None`` as soon as the repository is called otherwise."""
    is_finished = False
    for unit in _units(steps):
        outcomes = await database.write(partial(run, unit=unit))
        if outcomes is None:
            return None
        for outcome in outcomes:
            if isinstance(outcome, TagChanges):
                _add(total, outcome)
            is_finished = outcome is True
    return is_finished


def _add(total: TagChanges, more: TagChanges) -> None:
    total.new_count += more.new_count
    total.moved_count += more.moved_count
    total.confirmed_count += more.confirmed_count
    total.drift_count += more.drift_count


def _units(steps: Iterable[_Step]) -> Iterator[list[_Step]]:
    """Neighbouring steps that together are small enough for one transaction."""
    unit: list[_Step] = []
    row_count = 0
    for step in steps:
        if unit and row_count + step.row_count > UNIT_ROWS:
            yield unit
            unit, row_count = [], 0
        unit.append(step)
        row_count += step.row_count
    if unit:
        yield unit


def _run(
    connection: Connection, *, repository_id: int, reading: RepositoryReading, unit: Sequence[_Step]
) -> list[Any] | None:
    """Do a unit of work with the repository to itself; nothing (``None``) if it is called otherwise by now.

    What events and our own deletions change waits for it, or is seen by it: on PostgreSQL they lock the same row,
    and would otherwise be overwritten with what was known before them.
    """
    same = select(repositories.c.name).where(repositories.c.id == repository_id).with_for_update(key_share=True)
    name = connection.execute(same).scalar()
    if discard_renamed(connection, reading.naming, reading.name) or name != reading.name:
        return None
    return [step.work(connection) for step in unit]


def _steps(survey: _Survey, reading: RepositoryReading) -> Iterator[_Step]:
    place, repository_id = survey.place, survey.place.repository_id
    for names in chunked(survey.news, UNIT_ROWS):
        yield _Step(len(names), partial(publish_tags, place=place, reading=reading, names=names))
    for ids in chunked(survey.undated_ids, UNIT_ROWS):
        yield _Step(len(ids), partial(_date_tags, ids=ids))
    for digests in chunked(sorted(reading.manifests), UNIT_ROWS):
        yield _Step(len(digests), partial(save_present, repository_id=repository_id, reading=reading, digests=digests))
    for digests in chunked(sorted(reading.absent), UNIT_ROWS):
        yield _Step(len(digests), partial(save_absent, repository_id=repository_id, reading=reading, digests=digests))
    for replacement in survey.problems:
        yield _Step(replacement.row_count, partial(write_problems, replacement=replacement))
    for ids in chunked(survey.marked_ids, UNIT_ROWS):
        yield _Step(len(ids), partial(_unmark, ids=ids))
    if survey.marked_ids or reading.vanished:
        yield _Step(1, partial(withdraw_missed_deletes, crawl_id=reading.crawl_id, repository=reading.name))
    for names in chunked(reading.vanished, UNIT_ROWS):
        yield _Step(len(names), partial(mark_vanished, place=place, reading=reading, names=names))
    for _ in range(0, survey.checkpoint_count, UNIT_ROWS):
        yield _Step(UNIT_ROWS, partial(_drop_checkpoints, repository_id=repository_id, crawl_id=reading.crawl_id))


def _survey(connection: Connection, *, repository_id: int, reading: RepositoryReading) -> _Survey | None:
    context = _load_context(connection, repository_id)
    if context is None:
        return None
    before = load_tag_rows(connection, repository_id)
    settled_at = to_micros(reading.settled_at)
    is_watched = reading.is_complete and _is_watched(context)
    place = Place(
        repository_id,
        settled_at,
        has_history=context.events_since is not None or context.crawl_id is not None,
        is_watched=is_watched,
    )
    whole = Replacement(reading.registry_id, repository_id, (), reading.problems, reading.started_at, reading.examined)
    known_problems = load_problem_ids(connection, reading.registry_id, repository_id)
    checkpoints = select(func.count()).where(crawl_checkpoints.c.repository_id == repository_id)
    checkpoints = checkpoints.where(crawl_checkpoints.c.crawl_id == reading.crawl_id)
    return _Survey(
        place=place,
        last_event_id=connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one(),
        news=tuple(
            name for name in sorted(reading.tags) if is_news(reading.tags[name], before.get(name), reading.margin)
        ),
        undated_ids=_undated(connection, repository_id),
        marked_ids=tuple(row.id for row in before.values() if row.vanished_in is not None),
        unmentioned=_unmentioned(before, reading, settled_at) if reading.is_complete else (),
        deleted_count=len(_told_deletions(connection, place, before, reading, context.settled_at))
        if is_watched and context.settled_at is not None
        else 0,
        checkpoint_count=connection.execute(checkpoints).scalar_one(),
        problems=tuple(split_replacement(whole, known_problems, UNIT_ROWS)),
    )


def _load_context(connection: Connection, repository_id: int) -> Row[Any] | None:
    """Since when events come in, and when the repository, if it is there, and the whole registry were read before."""
    columns = repositories.c
    return connection.execute(
        select(columns.seen_at, columns.settled_at, columns.crawl_id, registries.c.events_since)
        .add_columns(crawls.c.started_at.label("crawled_at"), registries.c.crawl_state)
        .select_from(repositories.join(registries).outerjoin(crawls, crawls.c.id == registries.c.crawl_id))
        .where(columns.id == repository_id)
    ).one_or_none()


def _is_watched(context: Row[Any]) -> bool:
    """Whether events should have told of every change since the repository, or the registry, was last read."""
    if context.events_since is None:
        return False
    if context.seen_at is not None:
        return bool(context.seen_at >= context.events_since)
    is_whole = context.crawl_state == "complete" and context.crawled_at is not None
    return bool(is_whole and context.crawled_at >= context.events_since)


def _undated(connection: Connection, repository_id: int) -> tuple[int, ...]:
    """Tags whose manifest's time is learned later, because its config was passed over at first."""
    found = (
        select(tags.c.id)
        .join(manifests, manifests.c.id == tags.c.manifest_id)
        .where(tags.c.repository_id == repository_id, tags.c.created_at.is_distinct_from(manifests.c.created_at))
    )
    return tuple(connection.execute(found).scalars())


def _unmentioned(before: dict[str, TagRow], reading: RepositoryReading, settled_at: int) -> tuple[int, ...]:
    """Of tags that the reading should have found, and neither found nor missed: when an event told of them.

    The event came in while the repository was read.
    """
    mentioned = {*reading.tags, *reading.vanished}
    return tuple(
        row.event_at
        for name, row in before.items()
        if row.event_at is not None and row.event_at < settled_at and name not in mentioned
    )


def _told_deletions(
    connection: Connection, place: Place, before: dict[str, TagRow], reading: RepositoryReading, since: int
) -> set[str]:
    """Tags that are gone because events told of it since the last complete reading, beyond doubt in time."""
    repository_id, until = place.repository_id, place.settled_at
    moment = removals.c.at
    removed = set(
        connection.execute(
            select(removals.c.digest).where(removals.c.repository_id == repository_id, moment > since, moment < until)
        ).scalars()
    )
    gone = select(tag_history.c.tag).where(
        tag_history.c.repository_id == repository_id,
        tag_history.c.digest == GONE,
        tag_history.c.cause != CRAWL,
        tag_history.c.effective_at >= since,
        tag_history.c.effective_at < until,
    )
    candidates = set(connection.execute(gone).scalars())
    candidates |= names_of_digests(connection, repository_id, (bytes(digest) for digest in removed))
    names = sorted(candidates - set(before) - set(reading.tags))
    known = Known(load_points(connection, repository_id, names))
    winners = {name: winner for name in names if (winner := known.winner(name)) is not None}
    removed_at = load_removals(connection, repository_id, {one.digest for one in winners.values()}, since=since)
    told = set()
    for name, winner in winners.items():
        removal = Known(removed_at=removed_at).removal(winner.digest) if winner.digest != GONE else winner.effective_at
        if removal is not None and since <= removal < until and (winner.digest != GONE or winner.cause != CRAWL):
            told.add(name)
    return told


def _date_tags(connection: Connection, *, ids: Sequence[int]) -> None:
    created = select(manifests.c.created_at).where(manifests.c.id == tags.c.manifest_id).scalar_subquery()
    connection.execute(update(tags).where(tags.c.id.in_(ids)).values(created_at=created))


def _unmark(connection: Connection, *, ids: Sequence[int]) -> None:
    connection.execute(update(tags).where(tags.c.id.in_(ids)).values(vanished_in=None))


def _drop_checkpoints(connection: Connection, *, repository_id: int, crawl_id: int) -> None:
    columns = crawl_checkpoints.c
    ours = columns.crawl_id == crawl_id, columns.repository_id == repository_id
    some = select(columns.tag).where(*ours).order_by(columns.tag).limit(UNIT_ROWS)
    connection.execute(delete(crawl_checkpoints).where(*ours, columns.tag.in_(some)))


def _finish(
    connection: Connection,
    *,
    survey: _Survey,
    reading: RepositoryReading,
    now: Callable[[], datetime],
    is_last: bool,
) -> bool:
    """Record that the repository was read; ``False`` if events have changed it meanwhile, so it is weighed again."""
    repository_id = survey.place.repository_id
    if not is_last and _has_new_events(connection, reading, survey.last_event_id):
        return False
    newest = select(func.max(tags.c.created_at)).where(tags.c.repository_id == repository_id).scalar_subquery()
    values: dict[str, Any] = {
        "state": reading.state,
        "crawl_id": reading.crawl_id,
        "catalog_position": reading.catalog_position,
        "problem_count": len(reading.problems),
        "vanished_in": None,
        "newest_created_at": newest,
    }
    if reading.is_complete:
        values["seen_at"] = to_micros(reading.started_at)
        values["settled_at"] = survey.place.settled_at
        values["read_until"] = to_micros(now())
        if reading.is_verified:
            values["verified_at"] = to_micros(reading.started_at)
    contradictions = list(survey.unmentioned)
    removed = load_removals(connection, repository_id, (), since=survey.place.settled_at)
    if removed:
        contradictions.append(removed[EVERYTHING])
    else:
        values["deleted_at"] = None
    connection.execute(update(repositories).where(repositories.c.id == repository_id).values(values))
    count_confirmed(connection, reading.crawl_id, survey.deleted_count)
    if contradictions:
        note_rereads(connection, [reread_after(reading, max(contradictions))])
    return True


def _has_new_events(connection: Connection, reading: RepositoryReading, last_event_id: int) -> bool:
    found = select(events.c.id).where(
        events.c.id > last_event_id,
        events.c.registry_id == reading.registry_id,
        events.c.repository == reading.name,
        events.c.action != "pull",
    )
    return connection.execute(found.limit(1)).first() is not None
