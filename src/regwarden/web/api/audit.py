"""The route that tells who did what."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden import clock
from regwarden.core.access import Permission
from regwarden.library_approvals import parse_since
from regwarden.store.audit import AuditFilter, page_audit
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.cursors import read_number, write_cursor
from regwarden.web.api.documents import Listed, linked, listing
from regwarden.web.api.parameters import MAX_LIMIT
from regwarden.web.api.plan_access import plan_path
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Line, QueryWords, naming

router = new_router("audit")
Reader = Annotated[Caller, Depends(Permitted(Permission.AUDIT_READ))]


class AuditWords(QueryWords):
    """Which entries are meant; everything given must hold."""

    plan_id: int | None = Field(default=None, ge=1, le=2**63 - 1, description="Only about this plan.")
    principal: Line | None = Field(default=None, description="Only by this person or program.")
    action: Line | None = Field(default=None, description="Only this: plan-apply, protection-add, …")
    since: Line | None = Field(default=None, description="From this moment on, or of the last 2h, 30d, …")
    until: Line | None = Field(default=None, description="Before this moment, or older than 2h, 30d, …")
    limit: int = Field(default=100, ge=1, le=MAX_LIMIT, description="How many entries a page has, at most.")
    cursor: str | None = Field(default=None, max_length=8000, description="Where the page before ended.")


@router.get("/audit")
async def list_audit(caller: Reader, request: Request, words: Annotated[AuditWords, Query()]) -> Response:
    """Who did what, what was written last first."""
    now = clock.now()
    with naming("since"):
        since = parse_since(words.since, now)
    with naming("until"):
        until = parse_since(words.until, now)
    wanted = AuditFilter(
        since=since,
        until=until,
        plan_id=words.plan_id,
        principal=words.principal,
        action=words.action,
        limit=words.limit + 1,
        before_id=read_number(words.cursor),
    )
    found = await caller.parts.database.read(lambda connection: page_audit(connection, wanted))
    shown = found[: words.limit]
    last = write_cursor(shown[-1].id) if len(found) > words.limit else None
    rows = [linked(asdict(one), {} if one.plan_id is None else {"plan": plan_path(one.plan_id)}) for one in shown]
    return listing(request, Listed(rows, last))
