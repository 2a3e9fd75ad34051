"""Putting manifests and tags back into one repository: noted before, verified by reading the bytes, noted after.

Proving blobs and putting manifests may take hours, so each tag is asked for once more before it is put.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from regwarden.core.text import printable
from regwarden.core.undo import LossCode, Restore, Taken, Undo
from regwarden.errors import RegistryDenied, RegistryError, RegistryMissing
from regwarden.flows.services import Services
from regwarden.flows.undo_looking import WritableRegistry
from regwarden.registries.api import FetchedManifest
from regwarden.store import journal
from regwarden.store.connections import Connection
from regwarden.store.journal import Moment, Result
from regwarden.store.own_changes import note_restored
from regwarden.store.plan_records import StepState, StoredStep

_NO_CHANGES: Final = "registry-read-only"
_MAX_DETAIL: Final = 500

_Key = tuple[str, str]  # a manifest to put: its digest, and the tag or nothing


class Failure(NamedTuple):
    """What the registry did not do: a manifest, or with ``tag`` that tag of it."""

    position: int
    registry: str
    repository: str
    digest: str
    tag: str
    code: str
    message: str
    hint: str = ""


@dataclass(slots=True)
class _Open:
    """A step that is being put back.

    ``waiting`` is what is still to be put of it, ``tags`` all that it is to have, ``is_partial`` says that it had more.
    """

    step: StoredStep
    taken: Taken
    waiting: set[_Key]
    tags: tuple[str, ...]
    detail: str
    is_partial: bool
    has_failed: bool = field(default=False)


class PuttingBack:
    """The writing part of an undo in one repository; counts, failures and complete positions are for the report."""

    def __init__(
        self,
        services: Services,
        registry: WritableRegistry,
        plan_id: int,
        bytes_of: Mapping[str, tuple[str, bytes]],
        *,
        placeholders: frozenset[str] = frozenset(),
    ) -> None:
        """``bytes_of`` are media type and bytes by digest; what points to ``placeholders`` points to nothing."""
        self.complete: set[int] = set()
        self.failures: list[Failure] = []
        self.manifest_count = 0
        self.tag_count = 0
        self.is_stopped = False
        self._services = services
        self._registry = registry
        self._plan_id = plan_id
        self._bytes_of = bytes_of
        self._placeholders = placeholders
        self._open: dict[int, _Open] = {}
        self._waiting_for: defaultdict[_Key, list[int]] = defaultdict(list)

    async def run(
        self, undo: Undo, steps: Mapping[int, StoredStep], whole: Mapping[int, Taken], *, max_failures: int
    ) -> None:
        """Put everything in its order. What fails takes with it what needs it; after too many failures all else stays.

        ``steps`` and ``whole`` are, by position, the steps that come back and all that each of them took.
        """
        self._begin(undo, steps, whole)
        await self._services.database.write(self._note_intents)
        failed: set[str] = set()  # digests
        for one in undo.restores:
            if failed.isdisjoint(one.needs):
                error = await self._put(one)
                if error is None:
                    continue
                self.failures.append(_failure(one, error))
                # What it refuses here for everything, it need not be asked again and again.
                is_closed = isinstance(error, RegistryDenied) or error.code == _NO_CHANGES
                self.is_stopped = is_closed or len(self.failures) >= max_failures
            if not one.tag:
                failed.add(one.digest)
            if self.is_stopped:
                break
            await self._note_failed(self._waiting_for[one.digest, one.tag])
        await self._note_failed(position for position, one in self._open.items() if one.waiting)

    def _begin(self, undo: Undo, steps: Mapping[int, StoredStep], whole: Mapping[int, Taken]) -> None:
        put = {(one.digest, one.tag) for one in undo.restores}
        moved: defaultdict[int, list[str]] = defaultdict(list)
        for loss in undo.losses:
            if loss.code is LossCode.TAG_MOVED:
                moved[loss.position].append(loss.tag)
        for one in undo.returning:
            left = moved[one.position]
            tags = tuple(tag for tag in one.tags if tag not in left)
            self._open[one.position] = _Open(
                step=steps[one.position],
                taken=one,
                waiting=put & {(one.digest, tag) for tag in ("", *tags)},
                tags=tags,
                detail=f"left alone, for they point elsewhere: {', '.join(left)}" if left else "",
                is_partial=set(one.tags) != set(whole[one.position].tags),
            )
            for key in self._open[one.position].waiting:
                self._waiting_for[key].append(one.position)

    def _moment(self, position: int) -> Moment:
        one = self._open[position]
        return Moment(plan_id=self._plan_id, step=one.step.step, tags=one.tags, at=self._services.now())

    def _note_intents(self, connection: Connection) -> None:
        """Steps of which nothing is missing are at their end: a former undo broke off behind its last put, say."""
        for position, one in self._open.items():
            moment, taken = self._moment(position), one.taken
            if one.waiting:
                journal.note_restore_intent(connection, moment)
                continue
            self.complete.add(position)
            if one.step.state is not StepState.RESTORED:
                note_restored(
                    connection, taken.registry, taken.repository, digest=taken.digest, tags=one.tags, at=moment.at
                )
                self._note_complete(connection, position)

    def _note_complete(self, connection: Connection, position: int) -> None:
        """A step of which only some tags were asked for is not restored as a whole."""
        one = self._open[position]
        result = Result.NOT_DONE if one.is_partial else Result.DONE
        said = f"only {', '.join(one.tags) or 'its manifest'}" if one.is_partial else one.detail
        journal.note_restore_outcome(connection, self._moment(position), result, said)

    async def _put(self, one: Restore) -> RegistryError | None:
        """Put, read back, note; the error if the registry did not do it."""
        try:
            await self._put_and_verify(one)
        except RegistryError as error:
            return error
        key, tags, at = (one.digest, one.tag), (one.tag,) if one.tag else (), self._services.now()
        self.tag_count += bool(one.tag)
        self.manifest_count += not one.tag
        waiting = [position for position in self._waiting_for[key] if not self._open[position].has_failed]
        ended = [position for position in waiting if self._open[position].waiting == {key}]

        def note(connection: Connection) -> None:
            note_restored(connection, one.registry, one.repository, digest=one.digest, tags=tags, at=at)
            for position in ended:
                self._note_complete(connection, position)

        await self._services.database.write(note)
        for position in waiting:
            self._open[position].waiting.discard(key)
        self.complete.update(ended)
        return None

    async def _put_and_verify(self, one: Restore) -> None:
        media_type, payload = self._bytes_of[one.digest]
        reference = one.tag or one.digest
        name = f"{one.repository}:{one.tag}" if one.tag else f"{one.repository}@{one.digest}"
        if one.tag:
            await self._check_still_free(one, name)
        unclear: RegistryError | None = None
        try:
            await self._registry.putting.put_manifest(one.repository, reference, media_type, payload)
        except RegistryError as error:
            if error.status is not None and error.status < 500:
                raise
            unclear = error  # nobody knows whether it was done: look
        try:
            found = await self._registry.reading.fetch_manifest(one.repository, reference)
        except RegistryMissing:
            raise unclear or _restart_needed(name) from None
        if not isinstance(found, FetchedManifest) or found.payload != payload:
            raise RegistryError(
                f"the registry has other bytes under {name} than those that were put there",
                hint="Somebody else pushed to it in the same moment, or a proxy changes manifests.",
                code="restored-differs",
            )

    async def _check_still_free(self, one: Restore, name: str) -> None:
        """What somebody pushed under the tag since it was looked at must not be overwritten."""
        found = await self._registry.reading.head_manifest(one.repository, one.tag)
        now = "" if found is None else str(found.digest or "something else")
        if now and now != one.digest and now not in self._placeholders:
            raise RegistryError(
                f"the tag {name} was pushed by somebody else meanwhile and points to {now}: it is left alone",
                hint="What it was can be pulled by its digest.",
                code="tag-moved",
                status=409,
            )

    async def _note_failed(self, positions: Iterable[int]) -> None:
        """Note that steps do not come back, each once."""
        news = [position for position in positions if not self._open[position].has_failed]
        why = printable(self.failures[-1].message, _MAX_DETAIL) if self.failures else ""

        def note(connection: Connection) -> None:
            for position in news:
                journal.note_restore_outcome(connection, self._moment(position), Result.FAILED, why)

        if news:
            await self._services.database.write(note)
        for position in news:
            self._open[position].has_failed = True


def _failure(one: Restore, error: RegistryError) -> Failure:
    return Failure(
        one.position, one.registry, one.repository, one.digest, one.tag, error.code, error.message, error.hint
    )


def _restart_needed(name: str) -> RegistryError:
    """After a collection beside a running registry it takes a PUT for done whose content it no longer has."""
    return RegistryError(
        f"the registry accepted {name} and does not have it: "
        "the registry must be restarted, its cache remembers removed content",
        hint="It collected garbage while it ran. Restart it, and empty its Redis if it has one; then undo again.",
        code="restart-needed",
    )
