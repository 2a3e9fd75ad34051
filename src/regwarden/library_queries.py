"""How do the arguments of a list become a query: texts to selectors, patterns, conditions and an order?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final, TypedDict, get_args

from regwarden import clock
from regwarden.core.conditions import parse_condition, parse_sort
from regwarden.core.fields import Noun
from regwarden.core.patterns import Pattern, parse_pattern
from regwarden.core.quantities import parse_moment
from regwarden.core.query import Query
from regwarden.core.selectors import parse_selector
from regwarden.errors import InputError

_NOUNS: Final[tuple[Noun, ...]] = get_args(Noun)


class QueryArguments(TypedDict, total=False):
    """What every list understands. Everything given must hold; of several patterns of one kind any may match.

    ``registries`` are names, ``repositories``, ``exclude_repositories``, ``tags`` and ``exclude_tags`` patterns
    (``exact``, ``glob:``, ``re:``, ``semver:``, ``<1.4`` …), ``where`` conditions (``size > 500MiB``,
    ``created < 30d``), ``include_unknown`` takes in what a condition cannot decide, ``missing_blobs``
    leaves only manifests that need a blob which is known to be missing, ``sort`` are fields (``-size`` or
    ``size:desc`` for the largest first), ``limit`` a number of rows, ``cursor`` where the page before ended,
    ``age_from`` the moment up to which every age counts (a ``datetime`` or a text as ``2026-01-31``; now without it).
    ``as_of`` asks for what there was at a moment, written likewise, with the sizes of then; ages count up to it.
    """

    registries: Sequence[str]
    repositories: Sequence[str]
    exclude_repositories: Sequence[str]
    tags: Sequence[str]
    exclude_tags: Sequence[str]
    where: Sequence[str]
    include_unknown: bool
    missing_blobs: bool
    sort: Sequence[str]
    limit: int | None
    cursor: str | None
    age_from: datetime | str | None
    as_of: datetime | str | None


def blob_conditions(*, missing: bool, orphaned: bool) -> tuple[str, ...]:
    """The conditions of what is asked for so often that it has a word: blobs that are gone, or that nothing names."""
    return (*(["state = missing"] if missing else []), *(["is_orphaned = true"] if orphaned else []))


def moment_of(arguments: QueryArguments) -> datetime:
    """The aware moment up to which ages count. Raises ``InputError`` for a text that is not a date."""
    given = arguments.get("age_from")
    return (past_moment(arguments.get("as_of")) or clock.now()) if given is None else read_moment(given)


def past_moment(as_of: datetime | str | None) -> datetime | None:
    """The aware moment that a question is about; ``None`` is the present, and what lies ahead is taken for now.

    Raises ``InputError`` for a text that is not a date.
    """
    return None if as_of is None else min(read_moment(as_of), clock.now())


def read_moment(given: datetime | str) -> datetime:
    """An aware moment, which may lie ahead. Raises ``InputError`` for a text that is not a date."""
    if isinstance(given, datetime):
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given
    return _parse_date(str(given).strip())


def build_query(
    noun: str, selectors: Sequence[str], arguments: QueryArguments, *, known_registries: Collection[str] = ()
) -> Query:
    """The query that the texts mean. Raises ``InputError`` for the first that cannot be understood."""
    asked = _checked_noun(noun)
    _check_names(arguments)
    limit = arguments.get("limit")
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} rows is not possible", hint="Give a number from 1.")
    return Query(
        noun=asked,
        selectors=tuple(parse_selector(text, known_registries=known_registries) for text in selectors),
        registries=_texts(arguments.get("registries", ())),
        repositories=_patterns(arguments.get("repositories", ())),
        exclude_repositories=_patterns(arguments.get("exclude_repositories", ())),
        tags=_patterns(arguments.get("tags", ())),
        exclude_tags=_patterns(arguments.get("exclude_tags", ())),
        conditions=tuple(parse_condition(asked, text) for text in _texts(arguments.get("where", ()))),
        include_unknown=arguments.get("include_unknown", False),
        is_lacking_blobs=_asks_for_gaps(asked, arguments),
        sort=tuple(parse_sort(asked, text) for text in _texts(arguments.get("sort", ()))),
        limit=limit,
        cursor=arguments.get("cursor"),
    )


def _asks_for_gaps(noun: Noun, arguments: QueryArguments) -> bool:
    if arguments.get("missing_blobs") and noun != "manifest":
        raise InputError(f"a {noun} has no missing_blobs", hint="List manifests.")
    return arguments.get("missing_blobs", False)


def _parse_date(text: str) -> datetime:
    try:
        return parse_moment(text)
    except InputError:
        raise InputError(f"{text[:40]!r} is not a date", hint="Write 2026-01-31 or 2026-01-31T12:00:00Z.") from None


def _checked_noun(noun: str) -> Noun:
    for known in _NOUNS:
        if known == noun:
            return known
    raise InputError(f"{noun[:80]!r} cannot be listed", hint=f"There are: {', '.join(_NOUNS)}.")


def _check_names(arguments: QueryArguments) -> None:
    unknown = sorted(set(arguments) - set(QueryArguments.__annotations__))
    if unknown:
        known = ", ".join(QueryArguments.__annotations__)
        raise InputError(f"a list has no argument {unknown[0]!r}", hint=f"It has: {known}.")


def _texts(texts: Sequence[str]) -> tuple[str, ...]:
    """A single text is meant as a list of one."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _patterns(texts: Sequence[str]) -> tuple[Pattern, ...]:
    return tuple(parse_pattern(text) for text in _texts(texts))
