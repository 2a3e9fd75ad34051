"""Routes that make plans, list them and show one."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Final, cast

from fastapi import Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.core.quantities import parse_duration
from regwarden.errors import InputError
from regwarden.library_plan_reports import chooser, parse_state
from regwarden.library_plans import DEFAULT_EXPIRY, PlanArguments, PlanCall, build_request, parse_guard, perform_plan
from regwarden.library_policy_texts import known_zones
from regwarden.store.connections import Connection
from regwarden.store.plan_records import PlanState, PlanSummary
from regwarden.store.plans import list_plans
from regwarden.store.query_fields import load_registries
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.cursors import read_number, write_cursor
from regwarden.web.api.documents import Links, Listed, document, linked, listing
from regwarden.web.api.operations import begin
from regwarden.web.api.parameters import Cursor, Limit
from regwarden.web.api.plan_access import PlanId, is_visible, plan_path, require_visible
from regwarden.web.api.policies import PolicyTexts
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.questions import Grouping
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Body, Line, naming
from regwarden.web.control import Tell
from regwarden.web.operations import Work

_CHUNK: Final = 200

router = new_router("plans")
Reader = Annotated[Caller, Depends(Permitted(Permission.PLANS_READ))]
Planner = Annotated[Caller, Depends(Permitted(Permission.PLANS_CREATE))]
Lines = Annotated[list[Line], Field(default_factory=list, max_length=1000)]
Repository = Annotated[Line | None, Query(description="Only repositories that match this name or pattern.")]


class PlanBody(Body):
    """What is to be planned: by the texts of policies, or by a selection in one registry."""

    policies: PolicyTexts = Field(default_factory=dict)
    registry: Line | None = Field(default=None, description="The registry, where the inventory has several.")
    repositories: Lines = Field(description="Repositories as a whole, or with tags those in which the tags are.")
    tags: Lines = Field(description="PATTERN, or REPOSITORY:PATTERN.")
    tag_regexes: Lines = Field(description="Tags that begin like this.")
    excluded: Lines = Field(description="Keep what these tags point to.")
    excluded_regexes: Lines = Field(description="Likewise, by how tags begin.")
    match_all_tags: bool = Field(default=True, description="Whether all tags of a digest must be selected.")
    raise_on_shared_tag: bool = Field(default=False, description="Fail where a digest has a tag outside.")
    raise_on_shared_repository: bool = Field(default=False, description="Fail where a repository outside has it.")
    untag: bool = Field(default=False, description="Where a digest is used elsewhere, remove just the selected tag.")
    with_placeholders: bool = Field(default=False, description="Untag by an empty manifest that is deleted.")
    waive: Lines = Field(description="Guards that are waived, by name.")
    expires: Line = Field(default=DEFAULT_EXPIRY, description="How long it may be applied.")
    untagged_known: bool = Field(default=False, description="Nothing untagged is there but what is known.")
    drops_repositories: bool = Field(
        default=False, description="Delete also each repository of which nothing stays, where the registry can."
    )
    probe: bool = Field(default=True, description="Ask the registries whether they delete at all.")

    def arguments(self) -> PlanArguments:
        """As the library takes them."""
        given = self.model_dump(exclude_none=True)
        return cast("PlanArguments", {name: value for name, value in given.items() if value not in ([], {})})


@router.get("/plans")
async def list_all(
    caller: Reader,
    request: Request,
    state: Annotated[list[Line], Query(description=f"Only in this state: {', '.join(PlanState)}.")] = [],  # noqa: B006 -- FastAPI copies it
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Plans, the newest first: those of which you may see every repository."""
    with naming("state"):
        states = tuple(map(parse_state, state))
    before_id = read_number(cursor)

    def read(connection: Connection) -> list[PlanSummary]:
        found: list[PlanSummary] = []
        after = before_id
        while rows := list_plans(connection, states=states, limit=_CHUNK, before_id=after):
            for row in rows:
                if is_visible(connection, row.id, caller.reach):
                    found.append(row)
                    if len(found) > limit:
                        return found
            after = rows[-1].id
        return found

    found = await caller.parts.database.read(read)
    shown = found[:limit]
    last = write_cursor(shown[-1].id) if len(found) > limit else None
    return listing(request, Listed([linked(asdict(one), {"self": plan_path(one.id)}) for one in shown], last))


@router.post("/plans", status_code=202)
async def create_plan(caller: Planner, body: PlanBody) -> Response:
    """Begin to decide what goes and what stays; no registry is changed. The result links to the plan."""
    parts = caller.parts
    arguments = body.arguments()
    _check_words(body)
    known = {one.name: one.host for one in await parts.database.read(load_registries) if caller.reach.touches(one.name)}
    call = PlanCall(arguments, caller.principal.name, parts.environ, reach=caller.reach, known_zones=known_zones())
    # What cannot be understood is told at once; policies may be large.
    await asyncio.to_thread(_try, call, known, "policies" if body.policies else "")

    async def run(tell: Tell) -> dict[str, int]:
        telling = PlanCall(
            arguments,
            call.made_by,
            parts.environ,
            reach=call.reach,
            known_zones=call.known_zones,
            on_progress=tell.progress,
            on_warning=tell.warning,
        )
        made = await perform_plan(parts.database, parts.loaded, telling)
        return {"plan_id": made.plan_id}

    subject = ", ".join(body.policies) or "a selection"
    return begin(
        caller,
        Work(
            kind="plan-create", subject=subject[:200], run=run, links=lambda made: {"plan": plan_path(made["plan_id"])}
        ),
    )


@router.get("/plans/{plan_id}")
async def show_plan(caller: Reader, plan_id: PlanId, groups: Grouping, repository: Repository = None) -> Response:
    """What goes, what stays, what it frees, what holds it back, who agreed, and how far it has come.

    `group_by` adds `groups`: what it does in each, and what that part would free at most if it alone were applied.
    """
    await require_visible(caller, plan_id)
    with naming("repository"):
        chooser(repository)
    report = await caller.ask(lambda inventory: inventory.plan(plan_id, repository=repository))
    fields = {
        **report.summary,
        "repositories": report.repositories,
        "guards": report.guards,
        "root_guard_counts": report.root_guard_counts,
        "approvals": report.approvals,
        "warnings": report.warnings,
    }
    if (by := groups.by) is not None:
        found = await caller.ask(lambda inventory: inventory.plan_groups(plan_id, by, depth=groups.depth))
        fields["groups"] = found
    return document(fields, _plan_links(plan_id))


def _check_words(body: PlanBody) -> None:
    with naming("waive"):
        for text in body.waive:
            parse_guard(text)
    with naming("expires"):
        parse_duration(body.expires)


def _try(call: PlanCall, known: dict[str, str], field: str) -> None:
    try:
        build_request(call, known)
    except InputError as error:
        if not field:
            raise
        raise WrongParameter(field, error.message, hint=error.hint, code=error.code) from error


def _plan_links(plan_id: int) -> Links:
    parts = ("steps", "verdicts", "guards", "review", "evidence", "approve", "reject", "apply", "undo", "finish")
    return {"self": plan_path(plan_id), **{name: plan_path(plan_id, name) for name in parts}}
