"""Routes that crawl and check registries, and tell which crawls there were."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.core.pattern_reach import has_pattern
from regwarden.core.patterns import parse_pattern
from regwarden.errors import Forbidden, NotFound
from regwarden.library import Inventory
from regwarden.library_check import perform_check
from regwarden.library_crawl import CrawlCall
from regwarden.store.crawl_reports import CRAWL_STATES, find_crawl, list_crawls
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.cursors import read_number, write_cursor
from regwarden.web.api.documents import Links, Listed, document, linked, listing, own_path, path_to
from regwarden.web.api.operations import begin
from regwarden.web.api.parameters import Cursor, Limit, RegistryName
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import LEAST_RATE, Body, Line, known_registries, naming, note, require_registry
from regwarden.web.operations import Work

router = new_router("crawls")
Reader = Annotated[Caller, Depends(Permitted(Permission.INVENTORY_READ))]
Crawler = Annotated[Caller, Depends(Permitted(Permission.CRAWLS_START))]
Checker = Annotated[Caller, Depends(Permitted(Permission.REGISTRIES_CHECK))]
CrawlId = Annotated[int, Path(ge=1, le=2**63 - 1, description="Id of a crawl.")]


class CrawlBody(Body):
    """What is to be crawled. How a registry is reached is configured; none is taken from here."""

    registry: Line = Field(description="Name of a configured registry, or of one that was crawled before.")
    repositories: list[Line] = Field(default=[], max_length=100, description="Only these: names or patterns.")
    with_configs: bool = Field(default=True, description="Read the configuration of images, too.")
    verify: bool = Field(default=False, description="Probe that everything exists.")
    verify_blobs: bool = Field(default=False, description="Ask for each blob.")
    accept_disappearance: bool = Field(
        default=False,
        description="Believe it when suspiciously much has vanished, or GitLab lists something no more and does not "
        "let us look.",
    )
    concurrency: int | None = Field(default=None, ge=1, le=256, description="Requests in flight at the same time.")
    requests_per_second: float | None = Field(
        default=None, ge=LEAST_RATE, le=10_000, description="At most so many requests."
    )


@router.post("/crawls", status_code=202)
async def start_crawl(caller: Crawler, body: CrawlBody) -> Response:
    """Begin to read a registry into the inventory. The result of the operation is what the crawl found."""
    await require_registry(caller, body.registry)
    _require_reach(caller, body)
    arguments = body.model_dump(exclude={"registry"}, exclude_none=True)
    await note(caller, "crawl-start", subject=body.registry, detail=arguments)
    return begin(
        caller,
        Work(
            kind="crawl",
            subject=body.registry,
            run=lambda tell: caller.parts.commands["crawl"]({"registry": body.registry, "arguments": arguments}, tell),
            links=lambda _report: {"registry": path_to("registries", body.registry)},
        ),
    )


@router.get("/crawls")
async def list_crawl_history(
    caller: Reader,
    request: Request,
    registry: Annotated[Line | None, Query(description="Only crawls of this registry.")] = None,
    state: Annotated[list[Line], Query(description=f"Only with this state: {', '.join(CRAWL_STATES)}.")] = [],  # noqa: B006 -- FastAPI copies it
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The crawls that there were, the newest first, with what each found. `certificate` says how complete it was."""
    for word in state:
        if word not in CRAWL_STATES:
            hint = f"There are: {', '.join(CRAWL_STATES)}."
            raise WrongParameter("state", f"{word[:80]!r} is not a state of a crawl", hint=hint)
    names = sorted(await known_registries(caller))
    if registry is not None:
        await require_registry(caller, registry)
        names = [registry]
    before_id = read_number(cursor)
    rows = await caller.parts.database.read(
        lambda connection: list_crawls(connection, names, states=state, before_id=before_id, limit=limit + 1)
    )
    shown = rows[:limit]
    last = write_cursor(shown[-1]["id"]) if len(rows) > limit else None
    return listing(request, Listed([linked(_visible(caller, row), _links(row)) for row in shown], last))


@router.get("/crawls/{crawl_id}")
async def show_crawl(caller: Reader, crawl_id: CrawlId) -> Response:
    """One crawl."""
    row = await caller.parts.database.read(lambda connection: find_crawl(connection, crawl_id))
    if row is None or not caller.reach.touches(row["registry"]):
        raise NotFound(f"there is no crawl {crawl_id}", hint="GET /api/v1/crawls shows them.", code="no-crawl")
    return document(_visible(caller, row), _links(row))


@router.post("/registries/{registry}/check")
async def check_registry(caller: Checker, registry: RegistryName) -> Response:
    """Ask a registry whether it answers, as whom, and what it can do; nothing is changed there.

    A registry that cannot be asked is an answer, too: `is_reachable` is false and `error` says why.
    """
    await require_registry(caller, registry)
    if not caller.reach.has_all_of(registry):
        raise Forbidden(f"{caller.principal.name} may not check the registry {registry} as a whole")
    parts = caller.parts
    warnings: list[str] = []
    call = CrawlCall(registry, {}, parts.environ, on_warning=warnings.append)
    check = await perform_check(parts.database, parts.loaded, call)
    own = path_to("registries", registry)
    return document({**check.to_record(), "warnings": warnings}, {"self": f"{own}/check", "registry": own})


@router.get("/registries/{registry}/notifications")
async def show_notifications(
    caller: Checker,
    request: Request,
    registry: RegistryName,
    *,
    form: Annotated[Literal["lean", "full", "none"], Query(description="Without or with events of blobs.")] = "lean",
    flavour: Annotated[
        Literal["distribution", "gitlab"] | None,
        Query(description="Whose configuration it is for. Without: by the kind of the registry."),
    ] = None,
    hook_url: Annotated[Line | None, Query(description="How the registry reaches the service, if not as set.")] = None,
) -> Response:
    """Say whether the notifications of a registry arrive, and what makes it send them: `block`.

    The block has a word in place of the secret, which is told only at the machine. `unknown_hosts` are those that
    events name and no registry has, for those who may see everything.
    """
    await require_registry(caller, registry)

    def work(inventory: Inventory) -> Response:
        with naming("hook_url"):
            report = inventory.notifications(
                registry, form=form, flavour=flavour or "", address=hook_url or "", with_secret=False
            )
        hosts = inventory.unknown_hosts() if caller.reach.is_everything else None
        own = path_to("registries", registry)
        return document({**report.to_record(), "unknown_hosts": hosts}, {"self": own_path(request), "registry": own})

    return await caller.ask(work)


def _require_reach(caller: Caller, body: CrawlBody) -> None:
    """A crawl may read what lies in reach. Raises ``Forbidden``."""
    with naming("repositories"):
        patterns = [parse_pattern(text) for text in body.repositories]
    if not patterns and not caller.reach.has_all_of(body.registry):
        raise Forbidden(
            f"{caller.principal.name} may not crawl the registry {body.registry} as a whole",
            hint="Name the repositories in `repositories`.",
        )
    for pattern in patterns:
        if not has_pattern(caller.reach, body.registry, pattern):
            hint = "Write patterns that begin as those of your role do."
            raise Forbidden(f"{caller.principal.name} may not crawl all of {str(pattern)[:160]}", hint=hint)


def _visible(caller: Caller, row: dict[str, Any]) -> dict[str, Any]:
    """Its figures are about all repositories: they are for those who may see all of them."""
    return row if caller.reach.has_all_of(row["registry"]) else {**row, "certificate": None}


def _links(row: dict[str, Any]) -> Links:
    return {"self": path_to("crawls", str(row["id"])), "registry": path_to("registries", row["registry"])}
