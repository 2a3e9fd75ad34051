"""Auto-prune policies of Quay as one of our policies: each of them removes, whatever the others spare."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Translation
from regwarden.core.importers.drafting import Clauses, Draft, Rule, build_name
from regwarden.core.importers.expressions import from_search, is_found_anywhere, tag_pattern
from regwarden.core.importers.scopes import include_of
from regwarden.core.importers.sources import Source, flag
from regwarden.core.policy_values import write_duration

SYSTEM: Final = "quay"
_KEYS: Final = {
    "tagPattern": "tagPattern",
    "tag_pattern": "tagPattern",
    "tagPatternMatches": "tagPatternMatches",
    "tag_pattern_matches": "tagPatternMatches",
}
_KNOWN: Final = frozenset({"uuid", "method", "value", *_KEYS})
_METHODS: Final = ("number_of_tags", "creation_date")
_AGE: Final = re.compile(r"([0-9]{1,6})([smhdwy])")
_DAYS: Final = {"d": 1, "w": 7, "m": 31, "y": 366}
_LABEL: Final = "quay.expires-after"


def looks_like(document: Source) -> bool:
    """Whether this is an auto-prune policy, or a list of them as the API gives it."""
    listed = document.get("policies") if document.is_map else document
    entries = (document,) if listed is None else listed.entries() if listed.is_list else ()
    return any({"method", "value"} <= set(one.names) for one in entries)


def translate(rules: Rules) -> Translation:
    """Translate them: one delete rule for each, and one for the label by which Quay lets images expire."""
    document, translation = rules.document(), Translation()
    draft = Draft("quay-auto-prune", "Auto-prune policies of Quay: each removes by itself.")
    draft.include = include_of(rules, translation)
    listed = document.get("policies") if document.is_map else document
    policies = (document,) if listed is None else listed.entries()
    if not policies:
        raise document.error("there is no policy here")
    for policy in policies:
        policy.refuse_others(_KNOWN)
        name = build_name(policy.need("method").text(), (one.clauses["name"] for one in draft.delete))
        draft.delete.append(Rule(_comment(policy), {"name": name, **_clauses(policy, translation)}))
    methods = {policy.need("method").text() for policy in policies}
    if len(methods) > 1:
        message = "what is too old goes and what is too many goes: together they remove more than each"
        translation.say(Severity.TRAP, "rules-unite", "", message)
    labels = {"labels": {_LABEL: {"any": ["glob:**"]}}}
    expired = {"expired": {"label": _LABEL, "since": "tagged"}}
    comment = "Quay lets images expire by this label without any policy."
    draft.delete.append(Rule(comment, {"name": "expired", "match": labels, "when": expired}))
    translation.drafts.append(draft)
    return translation


def _clauses(policy: Source, translation: Translation) -> Clauses:
    match = _match(policy, translation)
    method = policy.need("method")
    if method.text() not in _METHODS:
        raise method.error(f"{' or '.join(_METHODS)} is wanted here")
    if method.text() == "number_of_tags":
        rank = {"by": ["tagged"], "over": "matched", "count": "tags"}
        return {**match, "beyond": policy.need("value").count(low=1), "rank": rank}
    return {**match, "when": {"tagged": {"older-than": write_duration(_age(policy.need("value"), translation))}}}


def _match(policy: Source, translation: Translation) -> Clauses:
    pattern = policy.get("tagPattern") or policy.get("tag_pattern")
    if pattern is None or not pattern.raw:
        return {}
    key = "tagPatternMatches" if "tagPatternMatches" in policy.names else "tag_pattern_matches"
    whole = from_search(pattern.text())
    if is_found_anywhere(pattern.text()):
        message = f"Quay finds {pattern.text()} anywhere in a tag; translated as it works"
        translation.say(Severity.TRAP, "unanchored", pattern.path, message)
    kind = "any" if flag(policy, key, default=True) else "none"
    return {"match": {"tags": {kind: [tag_pattern(pattern, f"re:{whole}")]}}}


def _age(value: Source, translation: Translation) -> timedelta:
    match = _AGE.fullmatch(value.text())
    if match is None:
        raise value.error(f"{value.text()[:80]!r} is not an age", hint="Quay takes 7d, 2w, 1y.")
    if match[2] in ("m", "y"):
        message = f"{value.text()} is counted with {_DAYS[match[2]]} days each"
        translation.say(Severity.KEEPS_MORE, "calendar-unit", value.path, message)
    if match[2] in _DAYS:
        age = timedelta(days=int(match[1]) * _DAYS[match[2]])
    else:
        age = timedelta(seconds=int(match[1]) * {"s": 1, "h": 3600}[match[2]])
    if age > timedelta(days=36500):
        raise value.error(f"{value.text()} is longer than 100 years")
    return age


def _comment(policy: Source) -> str:
    pattern = policy.get("tagPattern") or policy.get("tag_pattern")
    shown = f", tags {pattern.text()}" if pattern is not None and pattern.raw else ""
    return f"{policy.need('method').text()} {policy.need('value').text()}{shown}"
