"""The command line of ``acr purge``, also inside a task, as our policies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Translation
from regwarden.core.importers.command_lines import find_commands, parse_flags, split_words
from regwarden.core.importers.drafting import Clauses, Draft, Rule
from regwarden.core.importers.expressions import (
    from_search,
    has_outer_bar,
    is_found_anywhere,
    repository_pattern,
    tag_pattern,
)
from regwarden.core.importers.sources import Source, source_of
from regwarden.core.policy_values import write_duration
from regwarden.core.quantities import parse_duration
from regwarden.errors import InputError

SYSTEM: Final = "acr"
_VALUES: Final = {
    "filter": "filter",
    "ago": "ago",
    "keep": "keep",
    **dict.fromkeys(("registry", "r", "username", "u", "password", "p", "config", "c", "concurrency"), "other"),
    **dict.fromkeys(("filter-timeout-seconds", "repository-page-size"), "other"),
}
_TRUTHS: Final = {
    "untagged": "untagged",
    "untagged-only": "untagged-only",
    "include-locked": "include-locked",
    "dry-run": "dry-run",
    "d": "dry-run",
    "insecure": "other",
}
_DAY: Final = timedelta(days=1)


def is_start(words: Sequence[str]) -> int:
    """How many words are the name of the program."""
    return 2 if len(words) > 1 and words[0].rpartition("/")[2] == "acr" and words[1] == "purge" else 0


def looks_like(text: str) -> bool:
    """Whether a text holds such a command."""
    return "acr purge" in " ".join(text.split())


def translate(rules: Rules) -> Translation:
    """Translate every such command of the text: one policy for each expression of repositories."""
    translation = Translation()
    commands = list(find_commands(split_words(rules.text, name=rules.name), is_start, name=rules.name))
    if not commands:
        raise InputError(f"{rules.name}: there is no acr purge in this text", hint="Give the whole command line.")
    for number, words in enumerate(commands, 1):
        flags = parse_flags(words, values=_VALUES, truths=_TRUTHS, program="acr purge")
        _translate_command(flags, f"acr purge {number}", rules, translation)
    return translation


def _translate_command(flags: dict[str, list[str]], path: str, rules: Rules, translation: Translation) -> None:
    filters: dict[str, list[str]] = {}
    for text in flags.get("filter", []):
        repository, colon, tags = text.rpartition(":")
        if not (colon and repository and tags):
            raise InputError(f"{rules.name}: the filter {text[:80]!r} is not REPOSITORY:TAGS")
        filters.setdefault(repository, []).append(tags)
    if not filters:
        raise InputError(f"{rules.name}: acr purge has no --filter", hint="It wants --filter 'REPOSITORY:TAGS'.")
    if "true" in flags.get("include-locked", []):
        message = "locks are not removed: what the registry locks stays"
        translation.say(Severity.KEEPS_MORE, "unlock", path, message)
    if "true" in flags.get("dry-run", []):
        translation.say(Severity.NOTE, "dry-run", path, "there it only reports what it would do")
    age = _age(flags, rules)
    for repository, patterns in filters.items():
        number = len(translation.drafts) + 1
        draft = Draft(
            name=f"acr-purge-{number}" if number > 1 else "acr-purge",
            comment=f"acr purge of {repository}",
            include=rules.target.repositories or (_repository(repository, path, rules, translation),),
        )
        if "true" not in flags.get("untagged-only", []):
            clauses = _clauses(patterns, age, flags, path, rules, translation)
            draft.delete.append(Rule(f"filter {', '.join(patterns)}", clauses))
        if "true" in (*flags.get("untagged", []), *flags.get("untagged-only", [])):
            older = {"older-than": write_duration(max(age, _DAY))}
            draft.delete.append(Rule("--untagged", {"name": "untagged", "untagged": older}))
            message = "manifests without a tag go only when they have been without one for the same time"
            translation.say(Severity.KEEPS_MORE, "untagged-age", path, message)
        translation.drafts.append(draft)


def _clauses(
    patterns: list[str], age: timedelta, flags: dict[str, list[str]], path: str, rules: Rules, translation: Translation
) -> Clauses:
    typed = []
    for pattern in patterns:
        whole = from_search(pattern)
        if is_found_anywhere(pattern):
            message = f"acr purge finds {pattern} anywhere in a tag; translated as it works"
            translation.say(Severity.TRAP, "unanchored", path, message)
        typed.append(tag_pattern(_source(pattern, path, rules), f"re:{whole}"))
    clauses: Clauses = {"name": "purge", "match": {"tags": {"any": typed}}}
    if age:
        clauses["when"] = {"tagged": {"older-than": write_duration(age)}}
    keep = _source(flags.get("keep", ["0"])[-1], path, rules).count()
    if keep:
        clauses["beyond"] = keep
        clauses["rank"] = {"by": ["tagged"], "over": "candidates", "count": "tags"}
        message = f"the {keep} newest of the tags that would go are kept, in addition to those that are young enough"
        translation.say(Severity.TRAP, "counts-candidates", path, message)
    return clauses


def _age(flags: dict[str, list[str]], rules: Rules) -> timedelta:
    given = flags.get("ago")
    if given is None:
        raise InputError(f"{rules.name}: acr purge has no --ago", hint="It wants for example --ago 30d.")
    try:
        return parse_duration(given[-1])
    except InputError as error:
        raise InputError(f"{rules.name}: --ago: {error.message}", hint=error.hint) from None


def _repository(regex: str, path: str, rules: Rules, translation: Translation) -> str:
    if not set("\\.*+?()[]{}|^$") & set(regex):
        return repository_pattern(_source(regex, path, rules), regex)
    if has_outer_bar(regex):
        message = f"alternatives of {regex} match whole names here, as if they stood in a group"
        translation.say(Severity.KEEPS_MORE, "ungrouped-alternatives", path, message)
    return repository_pattern(_source(regex, path, rules), f"re:{regex}")


def _source(text: str, path: str, rules: Rules) -> Source:
    return source_of(text, name=rules.name, path=path)
