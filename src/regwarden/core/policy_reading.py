"""What policies stand in a text, and what is wrong with it?"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from regwarden.core.policy import Policy
from regwarden.core.policy_clauses import MapOf, classes_below, classes_in, clauses_of, write_in_full
from regwarden.core.policy_problems import Place, PolicyError, Problem
from regwarden.core.policy_shapes import Report
from regwarden.core.policy_text import Node, ScalarNode, parse_documents

_ROOT: Final = MapOf(Policy)


@dataclass(frozen=True, slots=True)
class PolicyText:
    """The policies of a text that could be read, and the mistakes of the others; sorted by place."""

    policies: tuple[Policy, ...]
    problems: tuple[Problem, ...]


def read_policies(text: str, *, known_zones: Collection[str] = ()) -> PolicyText:
    """Read every policy of a YAML text, documents separated by ``---``; never raises.

    ``known_zones`` are the names of time zones that windows may use; if it is empty they are not looked at.
    """
    documents, problems = parse_documents(text)
    found = list(problems)
    policies: list[Policy] = []
    if not documents and not problems:
        hint = "`regwarden policy example` prints one to begin with."
        found.append(Problem(place=Place(1, 1), message="there is no policy in this text", hint=hint))
    for document in documents:
        policy, mistakes = _read_policy(document)
        found.extend(mistakes)
        if policy is not None:
            found.extend(_unknown_zones(policy, known_zones))
            policies.append(policy)
    found.extend(_repeated_names(policies))
    return PolicyText(tuple(policies), tuple(sorted(found, key=lambda problem: problem.sort_key)))


def parse_policies(text: str, *, name: str, known_zones: Collection[str] = ()) -> tuple[Policy, ...]:
    """Every policy of a YAML text, at least one. ``name`` is what messages call the text.

    Raises ``PolicyError`` (code ``bad-policy``) with all mistakes, never anything else.
    """
    read = read_policies(text, known_zones=known_zones)
    if read.problems:
        raise PolicyError(name, read.problems)
    return read.policies


def parse_policy(text: str, *, name: str, known_zones: Collection[str] = ()) -> Policy:
    """The only policy of a YAML text; raises ``PolicyError`` as ``parse_policies`` does."""
    policies = parse_policies(text, name=name, known_zones=known_zones)
    if len(policies) > 1:
        place = policies[1].place_of("")
        raise PolicyError(name, [Problem(place=place, message=f"one policy is wanted, here are {len(policies)}")])
    return policies[0]


def write_policy(policy: Policy) -> dict[str, object]:
    """The document of a policy, as JSON values; as JSON, which is YAML, it reads as the same policy."""
    return _ROOT.write(policy)


def write_policy_in_full(policy: Policy) -> object:
    """The document of a policy with every default that is in effect."""
    return write_in_full(policy)


def _read_policy(document: Node) -> tuple[Policy | None, list[Problem]]:
    report = Report(homes=_homes())
    if isinstance(document, ScalarNode) and document.is_empty:
        report.say(document.place, "this document is empty", hint="Remove the --- around it.")
        return None, report.problems
    policy = report.attempt(_ROOT, document, "")
    if report.problems or not isinstance(policy, Policy):
        return None, report.problems
    places = MappingProxyType(report.places)
    return replace(policy, places=places, unquoted=tuple(report.unquoted)), []


def _homes() -> dict[str, str]:
    """Every clause, and where it may stand: for those who write it in the wrong place."""
    holders: dict[type[object], list[str]] = {Policy: ["the top of the document"]}
    for kind in classes_below(Policy):
        for one in clauses_of(kind):
            for inner in classes_in(one.shape):
                if one.key not in holders.setdefault(inner, []):
                    holders[inner].append(one.key)
    homes: dict[str, list[str]] = {}
    for kind, keys in holders.items():
        for one in clauses_of(kind):
            homes.setdefault(one.key, []).extend(key for key in keys if key not in homes.get(one.key, ()))
    return {word: ", ".join(keys) for word, keys in homes.items()}


def _unknown_zones(policy: Policy, known_zones: Collection[str]) -> Iterable[Problem]:
    for number, window in enumerate(policy.apply.window):
        if known_zones and window.zone not in known_zones:
            path = f"apply.window[{number}]"
            hint = "Write it as in Europe/Berlin, or UTC."
            yield Problem(place=policy.place_of(path), message=f"there is no time zone {window.zone}", hint=hint)


def _repeated_names(policies: Iterable[Policy]) -> Iterable[Problem]:
    seen: set[str] = set()
    for policy in policies:
        if policy.name in seen:
            place = policy.place_of("metadata.name")
            yield Problem(place=place, message=f"another policy of this text is called {policy.name} too")
        seen.add(policy.name)
