"""Values of the policy language made at random from its classes, and documents for single tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import assume, reject
from hypothesis import strategies as st

from regwarden.core.policy import Mode, Policy
from regwarden.core.policy_clauses import MapOf, clauses_of
from regwarden.core.policy_lists import ListShape, MapShape
from regwarden.core.policy_problems import Problem
from regwarden.core.policy_reading import PolicyText, parse_policy, read_policies
from regwarden.core.policy_shapes import Choice, CountShape, FlagShape, OrUnlimited, TextShape

HEAD = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: sample}
scope: {repositories: {include: [team/app]}}
"""
_TEXTS = {
    "a pattern": ["latest", "glob:dev-*", "semver:>=1.0.0", "re:(?P<line>v[0-9]+)-.*", "date:YYYYMMDD", "<1.4", "1.10"],
    "a pattern of names": ["team/app", "glob:team/**", "re:a|b", "team-*/**"],
    "a condition": ["size > 500MiB", "created < 30d", "tag ~ glob:v*", "pulled_at = unknown"],
    "a way to group": ["semver-minor", "day", "branch", "capture:line", "label:x"],
    "a window": ["Mon-Fri 10:00-16:00 Europe/Berlin", "daily 22:00-06:00 UTC", "Sun,Tue 00:00-24:00 UTC"],
    "the name of a label": ["quay.expires-after", "x y", "true"],
    "a text": ["Why not?", "yes", "1.10", "# : -"],
}


def policy_of(body: str) -> Policy:
    """The policy of a body below the usual head."""
    return parse_policy(HEAD + body, name="sample.yaml")


def read_body(body: str) -> PolicyText:
    """What is read of a body below the usual head."""
    return read_policies(HEAD + body)


def problems_of(body: str) -> tuple[Problem, ...]:
    """The mistakes of a body below the usual head, with lines that count from the body's first."""
    shift = HEAD.count("\n")
    found = read_body(body).problems
    return tuple(replace(problem, place=problem.place._replace(line=problem.place.line - shift)) for problem in found)


def values(shape: Any) -> st.SearchStrategy[Any]:
    """Values of a shape."""
    return _BY_SHAPE[type(shape)](shape)


def _texts(shape: TextShape) -> st.SearchStrategy[Any]:
    numbers: dict[str, st.SearchStrategy[Any]] = {
        "a duration": st.timedeltas(timedelta(0), timedelta(days=36500)),
        "a percentage": st.integers(0, 10**6).map(lambda number: Decimal(number) / 10**4),
        "a size": st.integers(0, 2**63 - 1),
        "a name": st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True),
    }
    if shape.title in numbers:
        return numbers[shape.title]
    return st.sampled_from(_TEXTS[shape.title]).map(shape.parse)


def _pairs(shape: MapShape) -> st.SearchStrategy[tuple[tuple[str, Any], ...]]:
    pairs = st.dictionaries(st.sampled_from(["a", "b.c", "yes"]), values(shape.shape), min_size=1)
    return pairs.map(lambda entries: tuple(sorted(entries.items())))


@st.composite
def built(draw: st.DrawFn, kind: type[Any]) -> Any:
    """A value of a class of the language whose clauses fit together."""
    clauses = clauses_of(kind)
    optional = [one for one in clauses if not one.is_required]
    keys = st.sampled_from([one.key for one in optional])
    chosen = draw(st.sets(keys, min_size=1, max_size=4)) if optional else set()
    given = {one.name: draw(values(one.shape)) for one in clauses if one.is_required or one.key in chosen}
    if kind is Policy:
        is_ordered = given.get("mode") is Mode.FIRST_MATCH
        given |= {"keep": (), "delete": ()} if is_ordered else {"rules": ()}
    value = kind(**given)
    defaults = {one.key: (one.name, one.default) for one in clauses if one.default is not MISSING}
    for _ in range(10):
        mistake = next(iter(getattr(value, "mistakes", tuple)()), None)
        if mistake is None:
            return value
        assume(mistake.key in defaults)
        name, default = defaults[mistake.key]
        value = replace(value, **{name: default})
    return reject()


_BY_SHAPE: dict[type[Any], Callable[[Any], st.SearchStrategy[Any]]] = {
    MapOf: lambda shape: built(shape.kind),
    ListShape: lambda shape: st.lists(values(shape.shape), min_size=shape.low, max_size=min(shape.high, 2)).map(tuple),
    MapShape: _pairs,
    OrUnlimited: lambda shape: st.none() | values(shape.shape),
    Choice: lambda shape: st.sampled_from(list(shape.words)),
    FlagShape: lambda shape: st.booleans(),
    CountShape: lambda shape: st.integers(shape.low, shape.high),
    TextShape: _texts,
}
