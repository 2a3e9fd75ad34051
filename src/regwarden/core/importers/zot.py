"""The retention of zot's configuration (``storage.retention``) as our policies, one for each of its policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Translation
from regwarden.core.importers.drafting import Clauses, Draft, Rule
from regwarden.core.importers.expressions import from_search, is_found_anywhere, repository_glob, tag_pattern
from regwarden.core.importers.scopes import below
from regwarden.core.importers.sources import Source, flag
from regwarden.core.policy_values import write_duration
from regwarden.core.pull_agents import PullClass

SYSTEM: Final = "zot"
_EVER: Final = "100y"
_DELAY: Final = "1d"
_RETENTION_KEYS: Final = frozenset({"dryRun", "delay", "policies"})
_POLICY_KEYS: Final = frozenset({"repositories", "deleteReferrers", "deleteUntagged", "keepTags"})
_ENTRY_KEYS: Final = frozenset(
    {"patterns", "pulledWithin", "pushedWithin", "mostRecentlyPushedCount", "mostRecentlyPulledCount"}
)


def looks_like(document: Source) -> bool:
    """Whether this is a configuration of zot."""
    storage = document.get("storage") if document.is_map else None
    return storage is not None and "retention" in storage.names


def translate(rules: Rules) -> Translation:
    """Translate it: the first policy whose repositories match decides, and in it the first entry whose patterns do."""
    document, translation = rules.document(), Translation()
    storage = document.get("storage") or document
    retention = storage.get("retention") or storage
    retention.refuse_others(_RETENTION_KEYS)
    if flag(retention, "dryRun", default=False):
        translation.say(Severity.NOTE, "dry-run", f"{retention.path}.dryRun", "there it only reports what it would do")
    delay = retention.get("delay")
    pause = write_duration(delay.duration()) if delay is not None else _DELAY
    taken = list(_subpaths(storage, translation))
    for policy in retention.need("policies").entries():
        policy.refuse_others(_POLICY_KEYS)
        _translate_policy(policy, taken, rules, translation, pause=pause)
    if not translation.drafts:
        raise retention.error("no policy is about any repository")
    message = "in repositories without a policy zot removes untagged manifests; here they stay"
    translation.say(Severity.KEEPS_MORE, "other-repositories", retention.path, message)
    return translation


def _subpaths(storage: Source, translation: Translation) -> Iterator[str]:
    """The repositories below paths with a storage of their own: the main retention is not about them."""
    subpaths = storage.get("subPaths")
    for path in subpaths.names if subpaths is not None else ():
        message = "the retention of a path with its own storage is not translated: give it as a file of its own"
        translation.say(Severity.KEEPS_MORE, "subpath", f"{storage.path}.subPaths.{path}", message)
        yield from below(path.strip("/"))


def _translate_policy(policy: Source, taken: list[str], rules: Rules, translation: Translation, *, pause: str) -> None:
    repositories = policy.get("repositories")
    globs = repositories.entries() if repositories is not None else ()
    if not globs:
        message = "a policy that names no repositories is about none: it is left out"
        translation.say(Severity.KEEPS_MORE, "no-repositories", policy.path, message)
        return
    own = tuple(repository_glob(one, one.text()) for one in globs)
    number = len(translation.drafts) + 1
    draft = Draft(
        name=f"zot-retention-{number}" if number > 1 else "zot-retention",
        comment=f"{policy.path}: the first policy whose repositories match decides.",
        include=rules.target.repositories or own,
        exclude=tuple(taken),
    )
    for one, glob in zip(own, globs, strict=True):
        taken.append(one)
        if glob.text().endswith("/**"):
            taken.append(repository_glob(glob, glob.text().removesuffix("/**")))
    entries = _entries(policy)
    if entries:
        draft.default = "delete"
        _add_entries(entries, draft, translation)
    _add_untagged(policy, draft, translation, pause=pause)
    translation.drafts.append(draft)


def _entries(policy: Source) -> tuple[Source, ...]:
    kept = policy.get("keepTags")
    if kept is None:
        return ()
    return (kept,) if kept.is_map else kept.entries()


def _add_entries(entries: tuple[Source, ...], draft: Draft, translation: Translation) -> None:
    """Keep rules for each entry; the patterns of earlier ones are excluded, because each tag goes to one entry."""
    earlier: list[str] = []
    for number, entry in enumerate(entries, 1):
        entry.refuse_others(_ENTRY_KEYS)
        given = entry.get("patterns")
        patterns = [_pattern(one, translation) for one in given.entries()] if given is not None else []
        tags: Clauses = {key: value for key, value in (("any", patterns), ("none", list(earlier))) if value}
        match: Clauses = {"match": {"tags": tags}} if tags else {}
        for suffix, condition in _conditions(entry, translation):
            name = f"entry-{number}{suffix}"
            draft.keep.append(Rule(entry.path, {"name": name, **match, **condition}))
        if not patterns:
            if number < len(entries):
                message = "an entry without patterns takes every tag, so the entries after it never decide"
                translation.say(Severity.TRAP, "shadowed-entry", entry.path, message)
            return
        earlier += patterns


def _pattern(source: Source, translation: Translation) -> str:
    whole = from_search(source.text())
    if is_found_anywhere(source.text()):
        message = f"zot finds {source.text()} anywhere in a tag; translated as it works"
        translation.say(Severity.TRAP, "unanchored", source.path, message)
    return tag_pattern(source, f"re:{whole}")


def _conditions(entry: Source, translation: Translation) -> Iterator[tuple[str, Clauses]]:
    """Each condition of an entry is enough to keep a tag; without one its patterns are."""
    pushed, pulled = entry.get("pushedWithin"), entry.get("pulledWithin")
    most_pushed, most_pulled = entry.get("mostRecentlyPushedCount"), entry.get("mostRecentlyPulledCount")
    counts = {key for key, one in (("pushed", most_pushed), ("pulled", most_pulled)) if one is not None and one.count()}
    if (not counts and pushed is None and pulled is None) or "pulled" in counts:
        if most_pulled is not None and "pulled" in counts:
            message = "zot counts other pulls, and ranks what was never pulled last: all that the entry takes is kept"
            translation.say(Severity.KEEPS_MORE, "ranked-by-pulls", most_pulled.path, message)
        yield "", {}
        return
    message = "zot's time of a push is that of the digest: a tag that is set on an old image is as old as the image"
    translation.say(Severity.TRAP, "digest-clock", entry.path, message)
    if most_pushed is not None and "pushed" in counts:
        message = "zot counts tags of one image one by one; here an image counts once"
        translation.say(Severity.KEEPS_MORE, "counts-images", most_pushed.path, message)
        rank = {"by": ["pushed"], "over": "matched", "count": "digests"}
        yield "-newest", {"newest": most_pushed.count(), "rank": rank}
    for source in (pushed, pulled):
        if source is not None:
            yield (
                f"-{source.path.rpartition('.')[2].lower()}-pushed",
                {"when": {"pushed": {"within": write_duration(source.duration())}}},
            )
    if pulled is not None:
        message = "zot removes what was never pulled after this time; here it counts from its last push or tagging"
        translation.say(Severity.KEEPS_MORE, "never-pulled", pulled.path, message)
        within = {"within": write_duration(pulled.duration()), "by": [one.value for one in PullClass]}
        yield "-pulled", {"when": {"pulled": within}}


def _add_untagged(policy: Source, draft: Draft, translation: Translation, *, pause: str) -> None:
    removes = flag(policy, "deleteUntagged", default=True)
    keeps_referrers = not flag(policy, "deleteReferrers", default=False)
    if keeps_referrers and removes:
        comment = "deleteReferrers is off: what refers to an image that is gone stays"
        match = {"artifact-types": {"any": ["glob:**"]}}
        draft.keep.append(Rule(comment, {"name": "referrers", "match": match, "untagged": {"within": _EVER}}))
        message = "a manifest with an artifact type stays where it has no tag, whether it refers to an image or not"
        translation.say(Severity.KEEPS_MORE, "referrers", policy.path, message)
    if draft.default == "delete":
        within = pause if removes else _EVER
        comment = f"untagged manifests stay for the delay of {pause}" if removes else "deleteUntagged is off"
        draft.keep.append(Rule(comment, {"name": "untagged", "untagged": {"within": within}}))
    elif removes:
        draft.delete.append(
            Rule("deleteUntagged, after the delay", {"name": "untagged", "untagged": {"older-than": pause}})
        )
