"""Routes that count who pulled what, how often, and when."""

from __future__ import annotations

from typing import Annotated, Any, Final, cast

from fastapi import Depends, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from regwarden.core.access import Permission
from regwarden.core.pull_query import GROUPINGS, USUAL_SINCE
from regwarden.core.selectors import parse_selector
from regwarden.library_pulls import PullArguments, build_pull_query
from regwarden.web.api.context import Caller, Permitted
from regwarden.web.api.documents import Listed, listing
from regwarden.web.api.routing import new_router
from regwarden.web.api.work import Line, QueryWords, naming

router = new_router("pulls")
Reader = Annotated[Caller, Depends(Permitted(Permission.EVENTS_READ))]
Words = Annotated[list[Line], Field(default_factory=list, max_length=100)]
# Arguments of the library, the first with those that say what it means; and what they are called here.
_TRIED: Final = (
    *(("by",), ("repositories",), ("tags",), ("classes",), ("methods",), ("sort", "by")),
    *(("as_of",), ("since", "as_of"), ("until", "since", "as_of")),
)
_PARAMETERS: Final = {"repositories": "repository", "tags": "tag", "classes": "class", "methods": "method"}


class PullWords(QueryWords):
    """Which pulls are meant, and by what they are counted; of several values of one kind any may."""

    by: Words = Field(description=f"What is counted together: {', '.join(GROUPINGS)}. Usually repository and tag.")
    selector: Words = Field(description="[REGISTRY/]REPOSITORY[:TAG] with patterns.")
    registry: Words = Field(description="Only of this registry.")
    repository: Words = Field(description="A name or a pattern: glob:team/**.")
    tag: Words = Field(description="A name or a pattern.")
    class_: Words = Field(alias="class", description="workload, ci, human, scanner, replicator, crawler or other.")
    method: Words = Field(description="GET or HEAD.")
    sort: Words = Field(description="Columns; -pull_count or last_at:desc: the highest first.")
    since: Line = Field(default=USUAL_SINCE, description="From this day on (UTC): a date or an age.")
    until: Line | None = Field(default=None, description="Only days that begin before.")
    as_of: Line | None = Field(default=None, description="As if that were now.")
    limit: int = Field(default=1000, ge=1, le=100_000, description="How many rows there are, at most.")

    def arguments(self) -> PullArguments:
        """As the library takes them. Raises ``WrongParameter`` for what cannot be understood."""
        given: dict[str, Any] = {
            "by": self.by,
            "registries": self.registry,
            "repositories": self.repository,
            "tags": self.tag,
            "classes": self.class_,
            "methods": self.method,
            "sort": self.sort,
            "since": self.since,
            "until": self.until,
            "as_of": self.as_of,
            "limit": self.limit,
        }
        found = {name: value for name, value in given.items() if value not in (None, [])}
        for names in _TRIED:
            if names[0] in found:
                with naming(_PARAMETERS.get(names[0], names[0])):
                    build_pull_query((), cast("PullArguments", {name: found[name] for name in names if name in found}))
        with naming("selector"):
            for text in self.selector:
                parse_selector(text)
        return cast("PullArguments", found)


@router.get("/pulls")
async def count_pulls(caller: Reader, request: Request, words: Annotated[PullWords, Query()]) -> Response:
    """How often what was pulled, the most pulled first; with days in their order.

    A request that names a tag counts for that tag, one by digest for every tag that led there that day. The field
    `known_since` says for each registry since when its pulls are known.
    """
    arguments = words.arguments()
    rows, known_since = await caller.ask(
        lambda inventory: (inventory.pulls(*words.selector, **arguments), inventory.pulls_known_since(*words.registry))
    )
    return listing(request, Listed(rows, more={"known_since": known_since}))
