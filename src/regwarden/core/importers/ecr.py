"""A lifecycle policy of Amazon ECR as one of our policies in ``mode: first-match``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Translation
from regwarden.core.importers.drafting import Clauses, Draft, Rule, build_name
from regwarden.core.importers.expressions import glob_of, repository_pattern
from regwarden.core.importers.scopes import include_of
from regwarden.core.importers.sources import Source, parse_source

SYSTEM: Final = "ecr"
_RULE_KEYS: Final = frozenset({"rulePriority", "description", "selection", "action"})
_SELECTION_KEYS: Final = frozenset(
    {"tagStatus", "tagPrefixList", "tagPatternList", "countType", "countUnit", "countNumber", "storageClass"}
)
_TAG_TEXT: Final = re.compile(r"[A-Za-z0-9_.*-]{1,128}")
_MAX_RULES: Final = 100


def looks_like(document: Source) -> bool:
    """Whether this is a lifecycle policy, or the answer of ``get-lifecycle-policy`` around one."""
    if "lifecyclePolicyText" in document.names:
        return True
    rules = document.get("rules") if document.is_map else None
    return rules is not None and rules.is_list and any("rulePriority" in rule.names for rule in rules.entries())


def translate(rules: Rules) -> Translation:
    """Translate it: every rule is evaluated on all images, and the first that selects an image decides about it."""
    outer, translation = rules.document(), Translation()
    inner = outer.get("lifecyclePolicyText")
    document = outer
    if inner is not None:
        document = inner if inner.is_map else parse_source(inner.raw, name=f"{inner.name}: {inner.path}")
    document.refuse_others({"rules"})
    named = outer.get("repositoryName")
    own = (repository_pattern(named, named.text()),) if named is not None else ()
    draft = Draft(
        name="ecr-lifecycle",
        comment="A lifecycle policy of ECR: the first rule that selects an image decides about it.",
        include=include_of(rules, translation, own=own),
        is_ordered=True,
        unit="digest",
    )
    for rule in _ordered(document.need("rules")):
        for kind, one in _translate_rule(rule, draft, translation):
            draft.ordered.append((kind, one))
    translation.drafts.append(draft)
    return translation


def _ordered(listed: Source) -> list[Source]:
    """The rules by ascending priority."""
    rules: dict[int, Source] = {}
    if not 1 <= len(listed.entries()) <= _MAX_RULES:
        raise listed.error(f"a list of 1 to {_MAX_RULES} rules is wanted here")
    for rule in listed.entries():
        rule.refuse_others(_RULE_KEYS)
        priority = rule.need("rulePriority").count(low=1)
        if priority in rules:
            raise rule.error(f"another rule has the priority {priority} too", hint="Priorities are unique.")
        rules[priority] = rule
    return [rules[priority] for priority in sorted(rules)]


def _translate_rule(rule: Source, draft: Draft, translation: Translation) -> Iterator[tuple[str, Rule]]:
    selection = rule.need("selection")
    selection.refuse_others(_SELECTION_KEYS)
    status = selection.need("tagStatus").text()
    if status not in ("tagged", "untagged", "any"):
        raise selection.need("tagStatus").error("tagged, untagged or any is wanted here")
    claims = []
    if status != "untagged":
        claims.append(_tags(selection, status, translation))
    if status != "tagged":
        claims.append({"untagged": {"older-than": "1d"}})
    reason = _why_not(rule, selection)
    if reason:
        message = f"{reason} cannot be translated: what the rule selects stays"
        translation.say(Severity.KEEPS_MORE, "archive", rule.path, message)
    counts = selection.need("countType").text() == "imageCountMoreThan"
    if status == "any" and counts and not reason:
        message = "ECR counts images with and without tags together; here each kind is counted by itself"
        translation.say(Severity.KEEPS_MORE, "counted-apart", selection.path, message)
    for claim in claims:
        name = build_name(
            f"rule-{rule.need('rulePriority').count()}", (one.clauses["name"] for _, one in draft.ordered)
        )
        suffix = "-untagged" if "untagged" in claim and len(claims) > 1 else ""
        clauses: Clauses = {"name": f"{name}{suffix}", **claim}
        if reason:
            if "untagged" in clauses:
                clauses["untagged"] = {"within": "100y"}
            yield "keep", Rule(_comment(rule), clauses)
        else:
            yield "delete", Rule(_comment(rule), {**clauses, **_condition(selection)})


def _tags(selection: Source, status: str, translation: Translation) -> Clauses:
    """The images that have a tag for every entry of the list."""
    prefixes, patterns = selection.get("tagPrefixList"), selection.get("tagPatternList")
    given = prefixes or patterns
    if status == "any":
        if given is not None:
            raise given.error("a list of tags does not go with tagStatus any")
        return {}
    if given is None or (prefixes is not None and patterns is not None):
        raise selection.error("tagged wants either tagPrefixList or tagPatternList")
    globs = []
    for entry in given.entries():
        if _TAG_TEXT.fullmatch(entry.text()) is None or (prefixes is not None and "*" in entry.text()):
            raise entry.error(f"{entry.text()[:80]!r} is no beginning or pattern of tags")
        globs.append(glob_of(entry, f"{entry.text()}*" if prefixes is not None else entry.text()))
    if not globs:
        raise given.error("the list is empty")
    if len(globs) > 1:
        message = (
            "an image is selected only if it has a tag for every entry of this list; one rule for each may be meant"
        )
        translation.say(Severity.TRAP, "and-list", given.path, message)
    return {"match": {"tags": {"each-of-digest": globs}}}


def _why_not(rule: Source, selection: Source) -> str:
    action = rule.need("action")
    kind = action.need("type").text()
    if kind not in ("expire", "transition"):
        raise action.need("type").error("expire or transition is wanted here")
    if kind == "transition":
        return "moving images to the archive"
    count = selection.need("countType")
    if count.text() not in (
        "imageCountMoreThan",
        "sinceImagePushed",
        "sinceImagePulled",
        "sinceImageTransitioned",
    ):
        raise count.error(f"{count.text()[:80]!r} is no way of ECR to count")
    storage = selection.get("storageClass")
    if storage is not None and storage.text() != "standard":
        return "a rule about archived images"
    return "" if count.text() in ("imageCountMoreThan", "sinceImagePushed") else f"the condition {count.text()}"


def _condition(selection: Source) -> Clauses:
    number = selection.need("countNumber").count(low=1)
    if selection.need("countType").text() == "imageCountMoreThan":
        return {"beyond": number, "rank": {"by": ["pushed"], "over": "matched", "count": "digests"}}
    unit = selection.get("countUnit")
    if unit is not None and unit.text() != "days":
        raise unit.error("days is wanted here")
    if number > 36500:
        raise selection.need("countNumber").error("that is longer than 100 years")
    return {"when": {"pushed": {"older-than": f"{number}d"}}}


def _comment(rule: Source) -> str:
    described = rule.get("description")
    text = described.text() if described is not None and described.raw else ""
    return f"rulePriority {rule.need('rulePriority').count()}" + (f": {text}" if text else "")
