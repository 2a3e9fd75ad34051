"""What is the service doing that takes longer than a request? Operations: begun, watched, cancelled, forgotten.

They are kept in memory: whatever must last (a plan, its journal, a crawl) is in the database.
"""

from __future__ import annotations

import asyncio
import secrets
import traceback
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
import structlog

from regwarden import clock
from regwarden.core.access import Permission, Principal, reach
from regwarden.errors import Conflict, NotFound, RegwardenError, TooManyAttempts
from regwarden.telemetry import hide_secrets
from regwarden.web.api.documents import encode
from regwarden.web.api.problems import error_answer
from regwarden.web.control import Tell
from regwarden.web.problems import problem

MAX_KEPT: Final = 1_000
MAX_RUNNING: Final = 64
MAX_RUNNING_EACH: Final = 8
MAX_COMPUTING: Final = 2
MAX_STREAMS: Final = 256
MAX_STREAMS_EACH: Final = 16
MAX_RESULT_BYTES: Final = 64 * 1024 * 1024
KEEP: Final = timedelta(hours=24)
_KEPT_WARNINGS: Final = 100
_RETRY_SECONDS: Final = 10

log = structlog.get_logger("regwarden.api")


class OperationState(StrEnum):
    """How far an operation has come."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done: ``kind`` and ``subject`` say it in words, ``run`` does it and tells how far it is.

    ``links`` are those of the result, by name. ``run`` is cancelled as tasks are.
    """

    kind: str
    subject: str
    run: Callable[[Tell], Awaitable[Any]] = field(repr=False)
    links: Callable[[Any], Mapping[str, str]] = field(default=lambda _result: {}, repr=False)


class Operation(Tell):
    """Something that is being done, or was. What it says meanwhile stays, for whoever looks later."""

    def __init__(self, work: Work, principal: Principal, at: datetime) -> None:
        super().__init__()
        self.id = secrets.token_hex(16)
        self.kind = work.kind
        self.subject = work.subject
        self.made_at = at
        self.made_by = principal.name
        self.owner_id = principal.id
        self.state = OperationState.RUNNING
        self.ended_at: datetime | None = None
        self.warnings: deque[str] = deque(maxlen=_KEPT_WARNINGS)
        self.warning_count = 0
        self.latest: Any = None
        self.result: msgspec.Raw | None = None
        self.error: msgspec.Raw | None = None
        self.links: Mapping[str, str] = {}
        self.change_count = 0
        self.ended = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def progress(self, state: Any) -> None:
        """Tell how far it is; from any thread."""
        self.latest = state
        self.change_count += 1

    def warning(self, text: str) -> None:
        """Tell people something; from any thread."""
        self.warnings.append(text)
        self.warning_count += 1
        self.change_count += 1

    def take(self) -> Iterator[dict[str, Any]]:
        """Nothing is taken away from it: it is looked at."""
        return iter(())

    @property
    def size_bytes(self) -> int:
        """What its result takes."""
        return len(self.result or b"")

    def end(self, state: OperationState, at: datetime) -> None:
        """Nothing changes any more."""
        self.state = state
        self.ended_at = at
        self.change_count += 1
        self.ended.set()


class Operations:
    """Those of this process: bounded in number, in size and for each principal."""

    def __init__(self, now: Callable[[], datetime] = clock.now) -> None:
        self._now = now
        self._kept: dict[str, Operation] = {}
        # Set when the service ends: what streams to clients ends too.
        self.stopping = asyncio.Event()
        # For work that keeps a thread busy all the time.
        self.computing = asyncio.Semaphore(MAX_COMPUTING)
        # How many streams each principal has open.
        self._streams: Counter[str] = Counter()

    def start(self, work: Work, principal: Principal) -> Operation:
        """Begin. Raises ``TooManyAttempts`` (code ``too-many-operations``), ``Conflict`` (``service-stopped``)."""
        if self.stopping.is_set():
            hint = "Send it again when the service has started."
            raise Conflict("the service is being stopped", hint=hint, code="service-stopped")
        self._forget_old()
        running = [one for one in self._kept.values() if one.state is OperationState.RUNNING]
        own_count = sum(one.owner_id == principal.id for one in running)
        if len(running) >= MAX_RUNNING or own_count >= MAX_RUNNING_EACH:
            raise TooManyAttempts(
                f"{own_count if own_count >= MAX_RUNNING_EACH else len(running)} operations are running already",
                retry_after_seconds=_RETRY_SECONDS,
                hint="Wait until one has ended, or cancel one.",
                code="too-many-operations",
            )
        operation = Operation(work, principal, self._now())
        self._kept[operation.id] = operation
        operation.task = task = asyncio.create_task(self._run(operation, work))
        task.add_done_callback(lambda _task: self._end_unbegun(operation))
        return operation

    def find(self, operation_id: str, principal: Principal) -> Operation:
        """The operation, for who began it and for administrators. Raises ``NotFound``."""
        self._forget_old()
        found = self._kept.get(operation_id)
        if found is None or not _may_see(found, principal):
            hint = "They are kept for a day, and until the service is restarted."
            raise NotFound("there is no such operation", hint=hint, code="no-operation")
        return found

    def list_for(self, principal: Principal) -> list[Operation]:
        """Those that somebody may see, the newest first."""
        self._forget_old()
        return [one for one in reversed(self._kept.values()) if _may_see(one, principal)]

    def check_streams(self, principal: Principal) -> None:
        """Whether somebody may open one more stream. Raises ``TooManyAttempts`` (code ``too-many-streams``)."""
        if self._streams[principal.id] >= MAX_STREAMS_EACH or self._streams.total() >= MAX_STREAMS:
            raise TooManyAttempts(
                "too many streams are open already",
                retry_after_seconds=_RETRY_SECONDS,
                hint="Close one.",
                code="too-many-streams",
            )

    @contextmanager
    def streaming(self, principal: Principal) -> Iterator[asyncio.Event]:
        """While a stream is open; gives what is set when it must end."""
        self._streams[principal.id] += 1
        try:
            yield self.stopping
        finally:
            self._streams[principal.id] -= 1
            self._streams += Counter()  # forgets those that have none

    async def cancel(self, operation: Operation) -> None:
        """End it, and wait until it has ended; nothing happens to one that has."""
        task = operation.task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})

    async def close(self) -> None:
        """Begin nothing any more, end all streams, cancel what runs and wait until it has ended."""
        self.stopping.set()
        running = [one.task for one in self._kept.values() if one.task is not None and not one.task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def _end_unbegun(self, operation: Operation) -> None:
        """A task that is cancelled before its first step runs none of its own lines."""
        if operation.state is OperationState.RUNNING:
            operation.end(OperationState.CANCELLED, self._now())

    async def _run(self, operation: Operation, work: Work) -> None:
        try:
            result = await work.run(operation)
            written = await asyncio.to_thread(encode, result)
        except asyncio.CancelledError:
            # The task ends here and now: whoever cancelled it waits for that.
            operation.end(OperationState.CANCELLED, self._now())
        except RegwardenError as error:
            operation.error = msgspec.Raw(bytes(error_answer(error).body))
            operation.end(OperationState.FAILED, self._now())
        except Exception as error:  # noqa: BLE001 -- the boundary of a task that nobody awaits
            _log_unforeseen(operation, error)
            answer = problem(500, "something went wrong here; the log of the service says what", code="internal")
            operation.error = msgspec.Raw(bytes(answer.body))
            operation.end(OperationState.FAILED, self._now())
        else:
            operation.result = msgspec.Raw(written)
            operation.links = work.links(result)
            operation.end(OperationState.DONE, self._now())

    def _forget_old(self) -> None:
        """Drop what ended long ago, and the oldest where there are too many or they are too large."""
        ended = [one for one in self._kept.values() if one.state is not OperationState.RUNNING]
        too_many, size_bytes = len(self._kept) - MAX_KEPT + 1, sum(one.size_bytes for one in ended)
        for one in ended:
            is_old = one.ended_at is not None and self._now() - one.ended_at > KEEP
            if is_old or too_many > 0 or size_bytes > MAX_RESULT_BYTES:
                del self._kept[one.id]
                too_many -= 1
                size_bytes -= one.size_bytes


def is_administrator(principal: Principal) -> bool:
    """Whether somebody may do everything everywhere: only administrators hand out tokens."""
    return reach(principal, Permission.TOKENS_MANAGE).is_everything


def _may_see(operation: Operation, principal: Principal) -> bool:
    return operation.owner_id == principal.id or is_administrator(principal)


def _log_unforeseen(operation: Operation, error: Exception) -> None:
    # Local variables may hold passwords: the plain traceback names none of them.
    trace = hide_secrets("".join(traceback.format_exception(error)))
    log.error("an operation failed", kind=operation.kind, traceback=trace)
