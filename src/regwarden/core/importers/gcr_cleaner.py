"""The payload or the flags of gcr-cleaner as one of our policies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Translation
from regwarden.core.importers.command_lines import find_commands, parse_flags, split_words
from regwarden.core.importers.drafting import Clauses, Draft, Rule
from regwarden.core.importers.expressions import from_search, is_found_anywhere, repository_pattern, tag_pattern
from regwarden.core.importers.sources import Source, parse_source
from regwarden.core.oci.references import parse_repository_name
from regwarden.core.policy_values import write_duration
from regwarden.errors import InputError

SYSTEM: Final = "gcr-cleaner"
_KNOWN: Final = frozenset(
    {
        "repos",
        "repo",
        "grace",
        "keep",
        "tag_filter_any",
        "tag_filter_all",
        "tag_filter",
        "tag_filter_exclude",
        "allow_tagged",
        "dry_run",
        "recursive",
    }
)
_VALUES: Final = {
    "repo": "repos",
    "grace": "grace",
    "keep": "keep",
    "tag-filter-any": "tag_filter_any",
    "tag-filter-all": "tag_filter_all",
    **dict.fromkeys(("token", "concurrency"), "other"),
}
_TRUTHS: Final = {"recursive": "recursive", "dry-run": "dry_run"}
_GO_DURATION: Final = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,6})?(?:h|m|s|ms))+")
_GO_PART: Final = re.compile(r"([0-9.]+)(h|ms|m|s)")
_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DAY: Final = timedelta(days=1)


def is_start(words: Sequence[str]) -> int:
    """How many words are the name of the program."""
    return int(words[0].rpartition("/")[2] in ("gcr-cleaner-cli", "gcr-cleaner"))


def looks_like(document: Source) -> bool:
    """Whether this is a payload."""
    keys = set(document.names)
    return bool({"repos", "repo"} & keys) and bool(keys & (_KNOWN - {"repos", "repo"}))


def looks_like_text(text: str) -> bool:
    """Whether a text holds the command line."""
    return "gcr-cleaner" in text and not text.lstrip().startswith(("{", "["))


def translate(rules: Rules) -> Translation:
    """Translate it: what the filter selects and what has no tag goes when the grace is over, but for the newest."""
    payload = _flags(rules) if looks_like_text(rules.text) else rules.document()
    payload.refuse_others(_KNOWN)
    for key in ("tag_filter", "allow_tagged", "tag_filter_exclude"):
        found = payload.get(key)
        if found is not None and found.raw not in ("", "false"):
            raise found.error(f"{key} cannot be translated", hint="Write tag_filter_any or tag_filter_all.")
    translation = Translation()
    draft = Draft("gcr-cleaner", "What gcr-cleaner removes.", unit="digest")
    draft.include = rules.target.repositories or _repositories(payload, translation)
    grace = payload.get("grace")
    age = _duration(grace) if grace is not None and grace.raw else timedelta()
    keep = payload.get("keep")
    counted = _counted(keep.count() if keep is not None and keep.raw else 0, payload, translation)
    when: Clauses = {"when": {"pushed": {"older-than": write_duration(age)}}} if age else {}
    if (match := _match(payload, translation)) is not None:
        draft.delete.append(
            Rule("what the tag filter selects", {"name": "filtered", "match": match, **when, **counted})
        )
    untagged: Clauses = {"name": "untagged", "untagged": {"older-than": write_duration(_DAY)}, **when, **counted}
    draft.delete.append(Rule("what has no tag always goes", untagged))
    translation.drafts.append(draft)
    return translation


def _flags(rules: Rules) -> Source:
    words = split_words(rules.text, name=rules.name)
    commands = list(find_commands(words, is_start, name=rules.name))
    if len(commands) != 1:
        message = f"{rules.name}: one command of gcr-cleaner is wanted, here are {len(commands)}"
        raise InputError(message, hint="Give one command line for each.")
    flags = parse_flags(commands[0], values=_VALUES, truths=_TRUTHS, program="gcr-cleaner")
    flags.pop("other", None)
    lines = [f"{key}: {_list(values) if key == 'repos' else _quoted(values[-1])}" for key, values in flags.items()]
    return parse_source("\n".join(lines) or "{}", name=f"{rules.name}: flags")


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(_quoted(value) for value in values) + "]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _repositories(payload: Source, translation: Translation) -> tuple[str, ...]:
    """The repositories without their host, and with ``recursive`` all below them."""
    listed = payload.get("repos") or payload.need("repo")
    sources = listed.entries() if listed.is_list else (listed,)
    if not sources:
        raise listed.error("no repository is named here")
    recursive = payload.get("recursive")
    includes: list[str] = []
    for source in sources:
        host, _, path = source.text().strip().partition("/")
        if "." not in host or not path:
            raise source.error(f"{source.text()[:80]!r} is not HOST/REPOSITORY")
        try:
            parse_repository_name(path)
        except InputError as error:
            raise source.error(error.message, hint=error.hint) from None
        includes.append(repository_pattern(source, path))
        if recursive is not None and recursive.truth():
            includes.append(repository_pattern(source, f"glob:{path}/**"))
    message = "hosts of repositories are left out: name the registry in scope, if there are several"
    translation.say(Severity.NOTE, "host", listed.path, message)
    return tuple(includes)


def _match(payload: Source, translation: Translation) -> Clauses | None:
    any_tag, all_tags = payload.get("tag_filter_any"), payload.get("tag_filter_all")
    given = [one for one in (any_tag, all_tags) if one is not None and one.raw]
    if len(given) > 1:
        raise given[1].error("tag_filter_any and tag_filter_all exclude each other")
    if not given:
        return None
    whole = from_search(given[0].text())
    if is_found_anywhere(given[0].text()):
        message = f"gcr-cleaner finds {given[0].text()} anywhere in a tag; translated as it works"
        translation.say(Severity.TRAP, "unanchored", given[0].path, message)
    is_any = given[0] == any_tag
    if is_any:
        message = "one tag that matches takes the whole image with all its other tags; tag_filter_all is what is safe"
        translation.say(Severity.TRAP, "deletes-siblings", given[0].path, message)
    key = "any-of-digest" if is_any else "all-of-digest"
    return {"tags": {key: [tag_pattern(given[0], f"re:{whole}")]}}


def _counted(keep: int, payload: Source, translation: Translation) -> Clauses:
    if not keep:
        return {}
    message = f"the {keep} newest of what would go are kept, in addition to what is younger than the grace"
    translation.say(Severity.TRAP, "counts-candidates", payload.path, message)
    message = "images with and without tags are counted together there, and each kind by itself here; what states no"
    translation.say(Severity.KEEPS_MORE, "counted-apart", payload.path, f"{message} time of its build is kept")
    return {"beyond": keep, "rank": {"by": ["created", "pushed"], "over": "candidates", "count": "digests"}}


def _duration(source: Source) -> timedelta:
    """A duration of Go (``48h``, ``1h30m``), or nanoseconds."""
    text = source.raw
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return timedelta(microseconds=int(text) // 1000)
    if _GO_DURATION.fullmatch(text) is None:
        raise source.error(f"{text[:80]!r} is not a duration", hint="Go writes 48h or 1h30m.")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _GO_PART.findall(text))
    if seconds > 36500 * 86400:
        raise source.error("that is longer than 100 years")
    return timedelta(seconds=seconds)
