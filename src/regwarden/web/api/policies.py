"""Routes that try policies out: is it right, what does it say, why does a tag stay, what would it have done?

Policies come as texts in the body; nothing sent here is taken as the name of a file.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends
from pydantic import AfterValidator, Field, StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.core.importers.api import Target
from regwarden.core.importers.catalogue import AUTO, IMPORTERS, check_system, translate_rules
from regwarden.core.importers.scopes import check_target
from regwarden.core.policy_description import describe
from regwarden.core.policy_reading import write_policy_in_full
from regwarden.core.policy_text import MAX_TEXT_BYTES
from regwarden.errors import Conflict
from regwarden.library_policy_texts import (
    CheckedText,
    check_policy_text,
    imported_record,
    known_zones,
    parse_policy_texts,
    policy_example,
    policy_schema,
)
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.documents import Listed, document, listing, path_to
from regwarden.web.api.operations import begin
from regwarden.web.api.plan_access import require_visible
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Body, Line, naming
from regwarden.web.control import Tell
from regwarden.web.operations import Work

_MOST_TEXTS: Final = 100
_SCHEMA_TYPE: Final = "application/schema+json"
_YAML_TYPE: Final = "application/yaml"  # RFC 9512

router = new_router("policies")
_READING: Final = [Depends(Permitted(Permission.PLANS_READ))]
Reader = Annotated[Caller, _READING[0]]


def _check_size(text: str) -> str:
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"it is larger than {MAX_TEXT_BYTES} bytes")
    return text


PolicyTitle = Annotated[Line, StringConstraints(max_length=200)]
PolicyText = Annotated[str, StringConstraints(max_length=MAX_TEXT_BYTES), AfterValidator(_check_size)]
PolicyTexts = Annotated[
    dict[PolicyTitle, PolicyText],
    Field(max_length=_MOST_TEXTS, description="The texts of policies, each by a name that problems are told with."),
]


class PoliciesBody(Body):
    """Policies as texts."""

    policies: PolicyTexts


class ImportBody(Body):
    """Rules of another system as a text, and where the policies are to apply."""

    text: PolicyText = Field(description="The rules as that system has them: JSON, YAML or a command line.")
    system: Line = Field(default=AUTO, alias="from", description=f"{', '.join(IMPORTERS)}; {AUTO}: what it looks like.")
    repositories: list[Line] = Field(
        default=[], max_length=100, description="Which repositories the policy is to be about: names or patterns."
    )
    project: Annotated[str, StringConstraints(max_length=300)] = Field(
        default="", description="Below which path the repositories of the rules lie."
    )


class ExplainBody(Body):
    """What is to be explained: by policies, or by a stored plan."""

    reference: Line = Field(description="[REGISTRY/]REPOSITORY:TAG or REPOSITORY@DIGEST.")
    policies: PolicyTexts = Field(default_factory=dict)
    plan_id: int | None = Field(default=None, ge=1, le=2**63 - 1, description="Id of a plan: as it decided.")
    registry: Line | None = Field(default=None, description="The registry, where the inventory has several.")
    waive: list[Line] = Field(default=[], max_length=100, description="As if these guards were waived.")


class BacktestBody(Body):
    """Which policies are replayed, over what."""

    policies: PolicyTexts
    repositories: list[Line] = Field(default=[], max_length=100, description="Only these: names or patterns.")
    since: Line = Field(default="90d", description="From this moment on: a date or an age.")
    every: Line = Field(default="7d", description="Time between two runs, in whole days.")


@router.post("/policies/check", dependencies=_READING)
async def check_policies(request: Request, body: PoliciesBody) -> Response:
    """Every mistake and every known trap of policies, each with its place. Whether they can be used is `is_usable`."""
    checked = await asyncio.to_thread(_check, body.policies)
    rows = [row for one in checked for row in one.rows()]
    error_count = sum(row["severity"] == "error" for row in rows)
    more = {
        "is_usable": not error_count,
        "policies": [policy.name for one in checked for policy in one.policies],
        "error_count": error_count,
        "warning_count": len(rows) - error_count,
    }
    return listing(request, Listed(rows, more=more))


@router.post("/policies/describe", dependencies=_READING)
async def describe_policies(request: Request, body: PoliciesBody) -> Response:
    """What policies do, in plain English (`sentences`) and with all their defaults (`policy`)."""
    with naming("policies"):
        found = await asyncio.to_thread(parse_policy_texts, body.policies, known_zones())
    rows = [{"name": one.name, "sentences": list(describe(one)), "policy": write_policy_in_full(one)} for one in found]
    return listing(request, Listed(rows))


@router.get("/policies/schema", dependencies=_READING, responses={200: {"content": {_SCHEMA_TYPE: {}}}})
async def show_schema() -> Response:
    """The JSON schema of policies, with which editors complete and check them."""
    return Response(policy_schema(), media_type=_SCHEMA_TYPE)


@router.get("/policies/example", dependencies=_READING, responses={200: {"content": {_YAML_TYPE: {}}}})
async def show_example() -> Response:
    """A commented policy to begin with."""
    return Response(policy_example(), media_type=_YAML_TYPE)


@router.post("/policies/import", dependencies=_READING)
async def import_rules(body: ImportBody) -> Response:
    """Translate another system's cleanup rules: the `policies` as a text, and what they do otherwise (`differences`).

    Where rules cannot be translated exactly, the policy keeps more. Nothing is kept of what is sent.
    """
    return document(await asyncio.to_thread(_translate, body), {"self": path_to("policies", "import")})


@router.post("/policies/explain")
async def explain(caller: Reader, body: ExplainBody) -> Response:
    """Why a tag or manifest stays or goes, when it would go, and what would change that."""
    links = {"self": path_to("policies", "explain")}
    if body.plan_id is not None:
        await require_visible(caller, body.plan_id)
        links["plan"] = path_to("plans", str(body.plan_id))
    report = await caller.ask(
        lambda inventory: inventory.explain(
            body.reference,
            policies=body.policies,
            plan_id=body.plan_id,
            registry=body.registry,
            waive=body.waive,
            known_zones=known_zones(),
        )
    )
    return document({"subject": report.subject, "explanation": report.explanation, "plan": report.plan}, links)


@router.post("/policies/backtest", status_code=202)
async def backtest(caller: Reader, body: BacktestBody) -> Response:
    """Begin to replay policies over the recorded history: what they would have removed, freed and broken."""
    with naming("policies"):
        policies = await asyncio.to_thread(parse_policy_texts, body.policies, known_zones())
    return begin(
        caller,
        Work(kind="backtest", subject=", ".join(one.name for one in policies)[:200], run=_Backtest(caller, body)),
    )


class _Backtest:
    """Runs in a thread, which cannot be cancelled from outside: it looks whether it should go on."""

    def __init__(self, caller: Caller, body: BacktestBody) -> None:
        self._caller = caller
        self._body = body
        self._is_cancelled = threading.Event()

    async def __call__(self, tell: Tell) -> Any:
        body = self._body

        def go_on(state: Any) -> None:
            if self._is_cancelled.is_set():
                raise Conflict("the backtest was cancelled", code="service-stopped")
            tell.progress(state)

        try:
            # It computes for long: the threads are there for others, too.
            async with self._caller.parts.operations.computing:
                return await self._caller.ask(
                    lambda inventory: inventory.backtest(
                        body.policies,
                        repositories=body.repositories,
                        since=body.since,
                        every=body.every,
                        known_zones=known_zones(),
                        on_progress=go_on,
                    )
                )
        finally:
            self._is_cancelled.set()


def _check(policies: Mapping[str, str]) -> list[CheckedText]:
    return [check_policy_text(title, text) for title, text in policies.items()]


def _translate(body: ImportBody) -> dict[str, Any]:
    target = Target(tuple(body.repositories), body.project)
    with naming("from"):
        check_system(body.system)
    with naming("repositories"):
        check_target(target)
    with naming("text"):
        return imported_record(translate_rules(body.text, system=body.system, name="text", target=target))
