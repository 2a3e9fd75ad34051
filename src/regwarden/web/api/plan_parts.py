"""Routes that show what is in a plan: steps, verdicts, guards, a review in Markdown, all that is kept of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import IO, Annotated, Any, Final

from fastapi import Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from regwarden.core.access import Permission
from regwarden.core.verdicts import Outcome
from regwarden.library_evidence import iterate_evidence
from regwarden.library_plan_reports import chooser, parse_outcome, review_lines, verdict_row
from regwarden.store.connections import Connection
from regwarden.store.plan_pages import VerdictPlace, page_steps, page_verdicts
from regwarden.store.plan_records import StepState
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.cursors import read_cursor, read_number, write_cursor
from regwarden.web.api.documents import NO_STORE, Listed, encode, listing
from regwarden.web.api.parameters import MAX_LIMIT
from regwarden.web.api.plan_access import PlanId, plan_path, require_visible
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Line, QueryWords, naming

_PIECE_BYTES: Final = 256 * 1024

router = new_router("plans")
Reader = Annotated[Caller, Depends(Permitted(Permission.PLANS_READ))]


class PartWords(QueryWords):
    """Which part of a plan is meant, a page at a time."""

    repository: Line | None = Field(default=None, description="Only repositories that match this name or pattern.")
    limit: int = Field(default=100, ge=1, le=MAX_LIMIT, description="How many entries a page has, at most.")
    cursor: str | None = Field(default=None, max_length=8000, description="Where the page before ended.")


class StepWords(PartWords):
    """Which steps are meant."""

    state: list[Line] = Field(default=[], max_length=100, description=f"Only in this state: {', '.join(StepState)}.")


class VerdictWords(PartWords):
    """Which verdicts are meant."""

    outcome: Line | None = Field(default=None, description=f"Only this: {', '.join(Outcome)}.")


@router.get("/plans/{plan_id}/steps")
async def list_steps(
    caller: Reader, request: Request, plan_id: PlanId, words: Annotated[StepWords, Query()]
) -> Response:
    """The changes at the registries in order, and what became of each."""
    await require_visible(caller, plan_id)
    with naming("repository"):
        chosen = chooser(words.repository)
    states = tuple(map(_parse_step_state, words.state))
    after = read_number(words.cursor)
    rows, last = await caller.parts.database.read(
        lambda connection: page_steps(
            connection, plan_id, chosen, states=states, after=-1 if after is None else after, limit=words.limit
        )
    )
    shown = [{**one.step._asdict(), "state": str(one.state), "detail": one.detail, "at": one.at} for one in rows]
    return listing(
        request, Listed(shown, None if last is None else write_cursor(last), links={"plan": plan_path(plan_id)})
    )


@router.get("/plans/{plan_id}/verdicts")
async def list_verdicts(
    caller: Reader, request: Request, plan_id: PlanId, words: Annotated[VerdictWords, Query()]
) -> Response:
    """What becomes of every tag and untagged manifest, and why."""
    await require_visible(caller, plan_id)
    with naming("repository"):
        chosen = chooser(words.repository)
    with naming("outcome"):
        wanted = None if words.outcome is None else parse_outcome(words.outcome)
    after = read_cursor(words.cursor, VerdictPlace) or VerdictPlace("", "", 0)
    if not (after.registry + after.repository).isprintable():  # no database takes all of such texts
        raise WrongParameter("cursor", "this is no cursor of this list", code="bad-cursor")
    found, last = await caller.parts.database.read(
        lambda connection: page_verdicts(connection, plan_id, chosen, outcome=wanted, after=after, limit=words.limit)
    )
    rows = [verdict_row(one.registry, one.repository, one.verdict) for one in found]
    return listing(
        request, Listed(rows, None if last is None else write_cursor(last), links={"plan": plan_path(plan_id)})
    )


@router.get("/plans/{plan_id}/guards")
async def list_guards(caller: Reader, request: Request, plan_id: PlanId) -> Response:
    """Every guard that the plan met, also those of single tags."""
    await require_visible(caller, plan_id)
    rows = await caller.ask(lambda inventory: inventory.plan_guards(plan_id))
    return listing(request, Listed(rows, links={"plan": plan_path(plan_id)}))


@router.get("/plans/{plan_id}/review", responses={200: {"content": {"text/markdown": {}}}})
async def review(caller: Reader, plan_id: PlanId) -> Response:
    """The plan as Markdown, for a merge request: equal plans give equal lines."""
    await require_visible(caller, plan_id)
    text = await caller.ask(
        lambda inventory: "\n".join(
            review_lines(inventory.plan(plan_id), inventory.plan_verdicts(plan_id, outcome="remove"))
        )
    )
    return Response(f"{text}\n", media_type="text/markdown")


@router.get("/plans/{plan_id}/evidence", responses={200: {"content": {"application/x-ndjson": {}}}})
async def evidence(caller: Reader, plan_id: PlanId) -> Response:
    """All that is kept of a plan, one JSON object a line: verdicts, steps, the journal, manifests, the audit."""
    await require_visible(caller, plan_id)
    file = await caller.parts.database.read(lambda connection: _write_evidence(connection, plan_id))
    headers = {**NO_STORE, "Content-Disposition": f'attachment; filename="plan-{plan_id}.jsonl"'}
    return StreamingResponse(_pieces(file), headers=headers, media_type="application/x-ndjson")


def _parse_step_state(text: str) -> StepState:
    try:
        return StepState(text)
    except ValueError:
        hint = f"There are: {', '.join(StepState)}."
        raise WrongParameter("state", f"{text[:80]!r} is not a state of a step", hint=hint) from None


def _write_evidence(connection: Connection, plan_id: int) -> IO[bytes]:
    """The records in a file without a name: nobody holds up the database by reading slowly."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when it has been sent
    try:
        for record in iterate_evidence(connection, plan_id):
            file.write(encode(record) + b"\n")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


async def _pieces(file: IO[bytes]) -> AsyncIterator[Any]:
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
            yield piece
