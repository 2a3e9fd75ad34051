"""Cleanup policies of Google Artifact Registry as one of our policies: keep policies win, unmatched versions stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Translation
from regwarden.core.importers.drafting import Clauses, Draft, Rule, build_name
from regwarden.core.importers.expressions import repository_pattern, tag_pattern
from regwarden.core.importers.scopes import PLACEHOLDER, include_of
from regwarden.core.importers.sources import Source, flag
from regwarden.core.policy_values import write_duration

SYSTEM: Final = "gar"
_EVER: Final = "100y"
_POLICY_KEYS: Final = frozenset({"name", "id", "action", "condition", "mostRecentVersions"})
_CONDITION_KEYS: Final = frozenset(
    {"tagState", "tagPrefixes", "versionNamePrefixes", "packageNamePrefixes", "olderThan", "newerThan"}
)
_RECENT_KEYS: Final = frozenset({"packageNamePrefixes", "keepCount"})


def looks_like(document: Source) -> bool:
    """Whether this is the file of ``set-cleanup-policies``, or a repository of the API."""
    if "cleanupPolicies" in document.names:
        return True
    policies = document.entries() if document.is_list else ()
    return any({"condition", "mostRecentVersions"} & set(one.names) for one in policies)


def translate(rules: Rules) -> Translation:
    """Translate them."""
    document, translation = rules.document(), Translation()
    draft = Draft("gar-cleanup", "Cleanup policies of Artifact Registry: keep policies win.", unit="digest")
    draft.include = include_of(rules, translation)
    if document.is_map and flag(document, "cleanupPolicyDryRun", default=False):
        translation.say(Severity.NOTE, "dry-run", "cleanupPolicyDryRun", "there they only report what they would do")
    for policy in _policies(document):
        policy.refuse_others(_POLICY_KEYS)
        _translate_policy(policy, draft, rules, translation)
    translation.drafts.append(draft)
    return translation


def _policies(document: Source) -> tuple[Source, ...]:
    listed = document.need("cleanupPolicies") if document.is_map else document
    if listed.is_map:
        return tuple(listed.need(key) for key in listed.names)
    return listed.entries()


def _translate_policy(policy: Source, draft: Draft, rules: Rules, translation: Translation) -> None:
    action = policy.need("action")
    word = (action.need("type") if action.is_map else action).text().lower()
    if word not in ("keep", "delete"):
        raise action.error("Keep or Delete is wanted here")
    named = policy.get("name") or policy.get("id")
    title = named.text() if named is not None else word
    recent, condition = policy.get("mostRecentVersions"), policy.get("condition")
    if (recent is None) == (condition is None):
        raise policy.error("either condition or mostRecentVersions is wanted here")
    ours = draft.keep if word == "keep" else draft.delete
    name = build_name(title, (one.clauses["name"] for one in (*draft.keep, *draft.delete)))
    if recent is not None:
        if word == "delete":
            raise recent.error("mostRecentVersions goes with Keep only")
        found = _most_recent(recent, rules, translation)
    else:
        found = list(_condition(policy.need("condition"), word, rules, translation))
    for clauses in found:
        suffix = "-untagged" if "untagged" in clauses and len(found) > 1 else ""
        ours.append(Rule(f"{word} policy {title}", {"name": f"{name}{suffix}", **clauses}))


def _most_recent(recent: Source, rules: Rules, translation: Translation) -> list[Clauses]:
    recent.refuse_others(_RECENT_KEYS)
    count = recent.get("keepCount")
    number = count.count(low=1) if count is not None else 1
    message = f"the newest {number} are counted in each package, not among the tags that another policy is about"
    translation.say(Severity.TRAP, "count-per-package", recent.path, message)
    message = "versions with and without tags are counted together there, and each kind by itself here"
    translation.say(Severity.KEEPS_MORE, "counted-apart", recent.path, message)
    match = _packages(recent, rules, translation)
    rank = {"by": ["pushed"], "over": "matched", "count": "digests"}
    tagged: Clauses = {**match, "newest": number, "rank": rank}
    return [tagged, {**match, "untagged": {"within": _EVER}, "newest": number, "rank": rank}]


def _condition(condition: Source, word: str, rules: Rules, translation: Translation) -> Iterator[Clauses]:
    condition.refuse_others(_CONDITION_KEYS)
    if condition.get("versionNamePrefixes") is not None:
        path = f"{condition.path}.versionNamePrefixes"
        if word == "delete":
            message = "prefixes of digests cannot be translated: this policy is left out"
            translation.say(Severity.KEEPS_MORE, "digest-prefix", path, message)
            return
        message = "prefixes of digests cannot be translated: what fulfils the rest of the condition is kept"
        translation.say(Severity.KEEPS_MORE, "digest-prefix", path, message)
    given = condition.get("tagState")
    state = given.text().lower() if given is not None else "any"
    if state not in ("any", "tagged", "untagged", "tag_state_unspecified"):
        raise condition.need("tagState").error("any, tagged or untagged is wanted here")
    match = _packages(condition, rules, translation).get("match", {})
    when = _age(condition)
    prefixes = condition.get("tagPrefixes")
    if prefixes is not None and prefixes.texts():
        patterns = [tag_pattern(one, f"glob:{one.text()}*") for one in prefixes.entries()]
        translation.say(Severity.TRAP, "prefix-only", prefixes.path, "prefixes match every tag that begins like them")
        if state != "untagged":
            yield {"match": {**match, "tags": {"any-of-digest": patterns}}, **when}
        return
    if state != "untagged":
        yield {**({"match": match} if match else {}), **when}
    if state != "tagged":
        age = {"within": _EVER} if word == "keep" else {"older-than": "1d"}
        yield {**({"match": match} if match else {}), "untagged": age, **when}


def _age(condition: Source) -> Clauses:
    """An age is that of the upload, which is when the digest came into the repository."""
    age = {}
    for key, ours in (("olderThan", "older-than"), ("newerThan", "within")):
        if (given := condition.get(key)) is not None:
            age[ours] = write_duration(given.duration())
    return {"when": {"pushed": age}} if age else {}


def _packages(source: Source, rules: Rules, translation: Translation) -> Clauses:
    prefixes = source.get("packageNamePrefixes")
    if prefixes is None or not prefixes.texts():
        return {}
    if not rules.target.project:
        message = f"packages lie below a project and repository: replace {PLACEHOLDER}, or give --project PROJECT/REPO"
        translation.say(Severity.NOTE, "scope-missing", prefixes.path, message)
    above = rules.target.project or PLACEHOLDER
    patterns = [repository_pattern(one, f"glob:{above}/{one.text()}**") for one in prefixes.entries()]
    return {"match": {"repositories": {"include": patterns}}}
