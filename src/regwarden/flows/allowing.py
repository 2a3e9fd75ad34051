"""How does every process answer from memory what may run? It loads the list once and then only what changes.

Until it is loaded nothing is answered. The counter of changes is looked at once a second, so every process knows of a
change within two. What is new in the inventory is looked at likewise: an index that is allowed allows what it lists.
Without the database the last state answers, marked stale, for a while.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import structlog

from regwarden import clock
from regwarden.core.allow_images import Image, parse_image
from regwarden.core.allowlist import Answer, Outcome, Question, TagMode, TagState, Target, decide
from regwarden.errors import NotReady, StoreError
from regwarden.flows.allow_questions import AllowOptions, Place, resolve_tag
from regwarden.flows.allow_snapshot import Snapshot, load_snapshot, look, take_in
from regwarden.flows.decision_log import DecisionLog
from regwarden.store.database import Database
from regwarden.store.registry_hosts import Hosts, save_hosts

_LOOK_SECONDS: Final = 1.0
_STALE_SECONDS: Final = 5.0
_UNREAD_SECONDS: Final = 10.0
_WHOLE_SECONDS: Final = 86_400.0
_RETRY_SECONDS: Final = 60.0
_TAG_SECONDS: Final = 3.0

log = structlog.get_logger("regwarden.allow")


class AllowList:
    """Answers what may run. ``check`` belongs to the event loop."""

    def __init__(
        self,
        database: Database,
        options: AllowOptions,
        hosts: Hosts,
        *,
        now: Callable[[], datetime] = clock.now,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self.decisions = DecisionLog(database, now)
        self._database = database
        self._options = options
        self._hosts = hosts
        self._now = now
        self._monotonic = monotonic
        self._snapshot: Snapshot | None = None
        self._seen_at = monotonic()
        self._is_lost = False
        self._is_wanted = asyncio.Event()
        self._is_outgrown = asyncio.Event()
        self._refreshing = asyncio.Lock()

    def __len__(self) -> int:
        return 0 if self._snapshot is None else len(self._snapshot.index)

    @property
    def is_loaded(self) -> bool:
        """Whether there is anything to answer from."""
        return self._snapshot is not None

    @property
    def hosts(self) -> Hosts:
        """Under which hosts registries are known."""
        return self._hosts if self._snapshot is None else self._snapshot.hosts

    @property
    def is_stale(self) -> bool:
        """Whether something may have changed that is not known here."""
        return self._is_lost or self._snapshot is None or self._monotonic() - self._seen_at > _STALE_SECONDS

    def check(self, image: str, *, cluster: str = "", namespace: str = "", now: datetime | None = None) -> Answer:
        """The answer from memory alone: a tag's is unknown where its digest matters.

        Raises ``InputError`` (code ``bad-image``), ``NotReady`` until the list was loaded.
        """
        snapshot = self._loaded()
        question = Question(parse_image(image, snapshot.synonyms), cluster, namespace, now or self._now())
        return self._decide(snapshot, question)

    async def answer(
        self, image: str, *, cluster: str = "", namespace: str = "", now: datetime | None = None
    ) -> Answer:
        """The answer; the inventory is asked what a tag points to.

        Raises ``InputError`` (code ``bad-image``), ``NotReady`` until the list was loaded.
        """
        parsed = parse_image(image, self._loaded().synonyms)
        question = Question(parsed, cluster, namespace, now or self._now())
        if not parsed.is_tag_question or self._options.rules.tags is not TagMode.CURRENT:
            return self._decide(self._loaded(), question)
        target = await self._resolve(parsed, self.hosts, question.now or self._now())
        answer = self._decide(self._loaded(), question._replace(target=target))
        return answer._replace(is_stale=answer.is_stale or target.state is TagState.UNASKED)

    async def answers(self, images: Sequence[str], place: Place) -> list[Answer]:
        """The answer for each of ``images``. Raises as ``answer`` does."""
        return [await self.answer(one, cluster=place.cluster, namespace=place.namespace) for one in images]

    def wake(self) -> None:
        """The list was changed: look."""
        self._is_wanted.set()

    async def open(self) -> None:
        """Keep under which hosts registries are known. Raises ``StoreError``."""
        hosts = self._hosts
        await self._database.write(lambda connection: save_hosts(connection, hosts))

    async def refresh(self) -> None:
        """Take in all that changed until now; the first time that is everything.

        Raises ``StoreError``; then what is known stays.
        """
        async with self._refreshing:
            try:
                if self._snapshot is None:
                    self._snapshot = await self._load()
                await self._catch_up(self._snapshot)
            except StoreError:
                self._is_lost = True
                raise

    async def catch_up(self) -> None:
        """Take in what has changed, if the list was loaded. Raises ``StoreError``."""
        if self.is_loaded:
            await self.refresh()

    async def reload(self) -> None:
        """Load everything anew; changes are known meanwhile as ever. Raises ``StoreError``."""
        snapshot = await self._load()
        async with self._refreshing:
            await self._catch_up(snapshot)
            self._snapshot = snapshot

    async def watch(self) -> None:
        """Load the list, and keep up with it until cancelled."""
        async with asyncio.TaskGroup() as works:
            works.create_task(self._follow())
            works.create_task(self._renew())

    async def _follow(self) -> None:
        is_told = False
        while True:
            try:
                await self.refresh()
            except StoreError as error:
                if not is_told:
                    log.warning("the allow-list cannot be read", is_loaded=self.is_loaded, reason=error.message)
                is_told = True
            else:
                is_told = False
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_wanted.wait(), _LOOK_SECONDS)
            self._is_wanted.clear()

    async def _renew(self) -> None:
        """Load everything anew once a day, and when the inventory has grown too much."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_outgrown.wait(), _WHOLE_SECONDS)
            self._is_outgrown.clear()
            try:
                await self.reload()
            except StoreError as error:
                log.warning("the allow-list cannot be loaded anew", reason=error.message)
            await asyncio.sleep(_RETRY_SECONDS)

    def _loaded(self) -> Snapshot:
        if self._snapshot is None:
            raise NotReady("the allow-list is being loaded", hint="Ask again in a few seconds.")
        return self._snapshot

    def _decide(self, snapshot: Snapshot, question: Question) -> Answer:
        if not self.is_stale:
            return decide(question, snapshot.index.candidates(question), self._options.rules)
        if timedelta(seconds=self._monotonic() - self._seen_at) > self._options.stale_after:
            detail = "the allow-list could not be read for too long"
            return Answer(Outcome.UNKNOWN, "stale", detail, is_stale=True)
        return decide(question, snapshot.index.candidates(question), self._options.rules)._replace(is_stale=True)

    async def _resolve(self, image: Image, hosts: Hosts, now: datetime) -> Target:
        options = self._options
        try:
            async with asyncio.timeout(_TAG_SECONDS):
                return await self._database.read(lambda found: resolve_tag(found, image, hosts, options, now))
        except (StoreError, TimeoutError):
            return Target(TagState.UNASKED)

    async def _load(self) -> Snapshot:
        stopped, began_at = threading.Event(), self._monotonic()
        try:
            snapshot = await self._database.read(lambda connection: load_snapshot(connection, stopped))
        finally:
            stopped.set()  # a thread cannot be cancelled, and the service does not end before it
        snapshot.unread_at = began_at
        return snapshot

    async def _catch_up(self, snapshot: Snapshot) -> None:
        began_at = self._monotonic()
        is_unread_due = began_at - snapshot.unread_at > _UNREAD_SECONDS
        news = await self._database.read(lambda connection: look(connection, snapshot, is_unread_due=is_unread_due))
        await take_in(snapshot, news)
        if news.is_outgrown:
            self._is_outgrown.set()
            return
        if is_unread_due:
            snapshot.unread_at = began_at
        self._seen_at, self._is_lost = began_at, False
