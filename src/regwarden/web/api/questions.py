"""Which parameters do lists of ``/api/v1`` have, and what do they ask the inventory for? The same as the command line.

A parameter that cannot be understood is named in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, NamedTuple

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from regwarden.core.conditions import parse_condition, parse_sort
from regwarden.core.fields import Noun
from regwarden.core.grouping import MAX_DEPTH, GroupBy, check_depth
from regwarden.core.patterns import parse_pattern
from regwarden.errors import InputError
from regwarden.library_queries import QueryArguments, blob_conditions, past_moment
from regwarden.web.api.parameters import MAX_LIMIT, USUAL_LIMIT
from regwarden.web.api.problems import WrongParameter
from regwarden.web.api.work import naming

_MOST_VALUES: Final = 200
# What says, in an error that the inventory raises, which parameter it was.
_FIELDS_OF_CODES: Final = {
    "bad-cursor": "cursor",
    "bad-selector": "select",
    "bad-reference": "select",
    "before-history": "as_of",
}


def _texts(description: str) -> Any:
    return Field(default=(), max_length=_MOST_VALUES, description=description)


_Texts = tuple[str, ...]


class Conditions(BaseModel):
    """What chooses registries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    where: _Texts = _texts("A condition: `size > 500MiB`, `created < 30d`, `tag ~ glob:v*`. Repeat: and.")
    include_unknown: bool = Field(default=False, description="Also what a condition cannot decide.")
    registry: _Texts = _texts("Only this registry. Repeatable.")
    as_of: Annotated[str | None, Field(max_length=60)] = Field(
        default=None, description="What there was at that moment: 2026-01-31 or 2026-01-31T12:00:00Z."
    )
    age_from: Annotated[str | None, Field(max_length=60)] = Field(
        default=None, description="The date up to which ages in conditions count; usually now."
    )

    def arguments(self, noun: Noun) -> QueryArguments:
        """What ``Inventory.page`` takes. Raises ``WrongParameter``."""
        _check("where", self.where, lambda text: parse_condition(noun, text))
        for name in ("as_of", "age_from"):
            if (text := getattr(self, name)) is not None:
                _check(name, (text,), past_moment)
        return {
            "where": self.where,
            "include_unknown": self.include_unknown,
            "registries": self.registry,
            "as_of": self.as_of,
            "age_from": self.age_from,
        }

    @property
    def selectors(self) -> tuple[str, ...]:
        """The selectors, where the noun has any."""
        return ()


class RepositoryConditions(Conditions):
    """What chooses repositories and what they hold."""

    select: _Texts = _texts("A selector, [REGISTRY/]REPOSITORY[:TAG][@DIGEST], parts may be patterns. Repeat: or.")
    repository: _Texts = _texts("A name or pattern: `glob:team/**`, `re:a|b`. Repeat: or.")
    exclude_repository: _Texts = _texts("None of these repositories.")

    def arguments(self, noun: Noun) -> QueryArguments:
        """What ``Inventory.page`` takes."""
        _check("repository", self.repository, parse_pattern)
        _check("exclude_repository", self.exclude_repository, parse_pattern)
        return {
            **super().arguments(noun),
            "repositories": self.repository,
            "exclude_repositories": self.exclude_repository,
        }

    @property
    def selectors(self) -> tuple[str, ...]:
        """The selectors."""
        return self.select


class TagConditions(RepositoryConditions):
    """What chooses tags, and what they lead to."""

    tag: _Texts = _texts("A name or pattern: `semver:^1.2`, `glob:v*`, `<1.4`. Repeat: or.")
    exclude_tag: _Texts = _texts("None of these tags.")

    def arguments(self, noun: Noun) -> QueryArguments:
        """What ``Inventory.page`` takes."""
        _check("tag", self.tag, parse_pattern)
        _check("exclude_tag", self.exclude_tag, parse_pattern)
        return {**super().arguments(noun), "tags": self.tag, "exclude_tags": self.exclude_tag}


class Paged(BaseModel):
    """Which page of a list, in which order, and what else is to be told."""

    sort: _Texts = _texts("A field: `size`, `-size` or `size:desc` for the largest first. Repeatable.")
    limit: int = Field(default=USUAL_LIMIT, ge=1, le=MAX_LIMIT, description="How many entries a page has, at most.")
    cursor: Annotated[str | None, Field(max_length=8000)] = Field(
        default=None, description="Where the page before ended: follow the link `next` instead of making it."
    )
    count: bool = Field(
        default=False,
        description="Say in `total` how many entries there are in all, in `unknown_count` how many were left out "
        "because a condition could not decide.",
    )

    def page_arguments(self, noun: Noun) -> QueryArguments:
        """The part of the arguments that is about the page. Raises ``WrongParameter``."""
        _check("sort", self.sort, lambda text: parse_sort(noun, text))
        return {"sort": self.sort, "limit": self.limit, "cursor": self.cursor}


class RegistryList(Conditions, Paged):
    """A list of registries."""

    embed: _Texts = _texts("`repositories`: the first of each registry, too.")


class RepositoryList(RepositoryConditions, Paged):
    """A list of repositories."""

    embed: _Texts = _texts("`tags`: the first of each repository, too.")


class TagList(TagConditions, Paged):
    """A list of tags."""


class ManifestList(TagConditions, Paged):
    """A list of manifests."""

    missing_blobs: bool = Field(default=False, description="Only those that need a blob which is known to be missing.")

    def arguments(self, noun: Noun) -> QueryArguments:
        """What ``Inventory.page`` takes."""
        return {**super().arguments(noun), "missing_blobs": self.missing_blobs}


class BlobList(TagConditions, Paged):
    """A list of blobs."""

    missing: bool = Field(
        default=False, description="Only those that are known to be gone though a manifest needs them."
    )
    orphaned: bool = Field(default=False, description="Only those that were uploaded and that no manifest there names.")

    def arguments(self, noun: Noun) -> QueryArguments:
        """What ``Inventory.page`` takes."""
        return {
            **super().arguments(noun),
            "where": (*self.where, *blob_conditions(missing=self.missing, orphaned=self.orphaned)),
        }


@contextmanager
def fields_named() -> Any:
    """Say of what the inventory cannot understand which parameter it was."""
    try:
        yield
    except InputError as error:
        field = _FIELDS_OF_CODES.get(error.code)
        if field is None or isinstance(error, WrongParameter):
            raise
        raise WrongParameter(field, error.message, hint=error.hint, code=error.code) from error


GroupWord = Literal["project", "group", "owner", "path"]


class Grouped(NamedTuple):
    """By what repositories are to be put together, if at all."""

    by: GroupWord | None
    depth: int | None


async def _grouped(
    group_by: Annotated[GroupWord | None, Query(description="Put repositories together by this.")] = None,
    depth: Annotated[
        int | None, Query(ge=1, le=MAX_DEPTH, description="How many parts of a group (all) or path (one) make one.")
    ] = None,
) -> Grouped:
    if depth is not None and group_by is None:
        raise WrongParameter("depth", "a depth is nothing without group_by", hint="Say group_by=group or path.")
    if group_by is not None:
        with naming("depth"):
            check_depth(GroupBy(group_by), depth)
    return Grouped(group_by, depth)


Grouping = Annotated[Grouped, Depends(_grouped)]


def _check(name: str, texts: Sequence[str], parse: Callable[[str], object]) -> None:
    for text in texts:
        try:
            parse(text)
        except InputError as error:
            raise WrongParameter(name, error.message, hint=error.hint, code=error.code) from error
