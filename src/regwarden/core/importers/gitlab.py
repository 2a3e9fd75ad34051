"""GitLab's cleanup policy of a project (``container_expiration_policy`` of its API) as one of our policies."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Translation
from regwarden.core.importers.drafting import Clauses, Draft, Rule
from regwarden.core.importers.expressions import from_anchored, has_outer_bar, tag_pattern
from regwarden.core.importers.scopes import below, include_of
from regwarden.core.importers.sources import Source, flag
from regwarden.core.policy_values import write_duration

SYSTEM: Final = "gitlab"
_KEY: Final = "container_expiration_policy"
_KNOWN: Final = frozenset(
    {"cadence", "enabled", "keep_n", "older_than", "name_regex", "name_regex_delete", "name_regex_keep", "next_run_at"}
)
_AGE: Final = re.compile(r"([0-9]{1,6}) ?(h|hours?|d|days?|w|weeks?|months?|mo|y|years?)")
_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24, "m": 31 * 24, "y": 366 * 24}
PAGE: Final = 1000


def looks_like(document: Source) -> bool:
    """Whether this is a project of GitLab's API, or its cleanup policy alone."""
    keys = set(document.names)
    return _KEY in keys or len(keys & {"cadence", "keep_n", "older_than", "name_regex", "name_regex_keep"}) > 1


def translate(rules: Rules) -> Translation:
    """Translate it: ``latest`` is never touched, the newest are counted before the age is asked."""
    document = rules.document()
    policy = document.get(_KEY) or document
    policy.refuse_others(_KNOWN)
    if not flag(policy, "enabled", default=True):
        raise policy.error(
            "this cleanup policy is switched off", hint="Set enabled to true, if it is to be translated."
        )
    translation = Translation()
    path = document.get("path_with_namespace")
    own = below(path.text().lower()) if path is not None else ()
    draft = Draft("gitlab-cleanup", "The cleanup policy of a GitLab project.", include_of(rules, translation, own=own))
    draft.protect.append(Rule("GitLab never removes latest.", {"tags": {"any": ["latest"]}}))
    draft.delete.append(Rule(_comment(policy), _clauses(policy, translation)))
    translation.drafts.append(draft)
    _say_rest(policy, translation)
    return translation


def _clauses(policy: Source, translation: Translation) -> Clauses:
    removed = policy.get("name_regex_delete") or policy.get("name_regex")
    if removed is None or not (removed.raw or removed.text()):
        raise policy.error("name_regex is missing, and without it GitLab removes nothing")
    tags: Clauses = {"any": [_pattern(removed, translation)], "none": ["latest"]}
    kept = policy.get("name_regex_keep")
    if kept is not None and kept.raw:
        tags["none"].append(_pattern(kept, translation))
    clauses: Clauses = {"name": "not-kept", "match": {"tags": tags}}
    age = policy.get("older_than")
    if age is not None and age.raw:
        clauses["when"] = {"tagged": {"older-than": write_duration(_age(age, translation))}}
    count = policy.get("keep_n")
    if count is not None and count.count() > 0:
        clauses["beyond"] = count.count()
        clauses["rank"] = {"by": ["tagged"], "over": "matched", "count": "tags"}
        message = (
            f"in a repository with more than {PAGE} tags GitLab keeps {count.count()} of every {PAGE} in the order of"
            f" their names; this policy keeps {count.count()} in all"
        )
        translation.say(Severity.REMOVES_MORE, "count-per-page", count.path, message)
    return clauses


def _pattern(source: Source, translation: Translation) -> str:
    regex = source.text()
    if has_outer_bar(regex):
        message = (
            f"GitLab anchors {regex} without a group, so the first alternative matches beginnings and the last one"
            " ends; translated as it works. Perhaps (?:…) around the alternatives was meant"
        )
        translation.say(Severity.TRAP, "ungrouped-alternatives", source.path, message)
    return tag_pattern(source, f"re:{from_anchored(regex)}")


def _age(source: Source, translation: Translation) -> timedelta:
    match = _AGE.fullmatch(source.text())
    if match is None:
        raise source.error(f"{source.text()[:80]!r} is not an age", hint="GitLab knows 7d, 14d, 30d, 60d and 90d.")
    unit = match[2][0]
    if unit in ("m", "y"):
        message = f"{source.text()} is counted with {31 if unit == 'm' else 366} days each"
        translation.say(Severity.KEEPS_MORE, "calendar-unit", source.path, message)
    age = timedelta(hours=int(match[1]) * _HOURS[unit])
    if age > timedelta(days=36500):
        raise source.error(f"{source.text()} is longer than 100 years")
    return age


def _say_rest(policy: Source, translation: Translation) -> None:
    if (cadence := policy.get("cadence")) is not None:
        message = f"GitLab runs it every {cadence.text()}; here a plan is made when you ask for one"
        translation.say(Severity.NOTE, "schedule", cadence.path, message)
    message = (
        "rules that protect tags are set elsewhere in GitLab: they hold by themselves in a registry of kind gitlab; "
        "elsewhere add them to protect"
    )
    translation.say(Severity.NOTE, "protected-tags", policy.path, message)


def _comment(policy: Source) -> str:
    shown = [f"{key}: {value.text()}" for key in sorted(_KNOWN) if (value := policy.get(key)) and value.raw]
    return ", ".join(one for one in shown if not one.startswith(("next_run_at", "enabled", "cadence")))
