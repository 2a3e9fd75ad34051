"""A tag retention policy of a Harbor project as our policies: what a rule retains stays, the rest of its scope goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from regwarden.core.importers.api import Rules, Severity, Translation
from regwarden.core.importers.drafting import Clauses, Draft, Rule, build_name
from regwarden.core.importers.expressions import glob_of, repository_glob
from regwarden.core.importers.scopes import PLACEHOLDER, include_of
from regwarden.core.importers.sources import Source, flag, parse_source
from regwarden.core.pull_agents import PullClass

SYSTEM: Final = "harbor"
EVER: Final = "100y"
_RULE_KEYS: Final = frozenset(
    {"id", "priority", "disabled", "action", "template", "params", "tag_selectors", "scope_selectors"}
)
_POLICY_KEYS: Final = frozenset({"id", "algorithm", "rules", "trigger", "scope"})
_SELECTOR_KEYS: Final = frozenset({"kind", "decoration", "pattern", "extras"})
_COUNTS: Final = frozenset({"latestPushedK", "latestPulledN", "latestActiveK"})
_PULL_COUNTS: Final = frozenset({"latestPulledN", "latestActiveK"})
_DAYS: Final = frozenset({"nDaysSinceLastPush", "nDaysSinceLastPull"})
_EVERY: Final = frozenset({"", "*", "**"})


@dataclass(frozen=True, slots=True)
class _Selected:
    """What a tag selector selects: images with a tag that matches, or (``is_excluding``) with one that does not."""

    glob: str  # empty: every tag
    is_excluding: bool
    with_untagged: bool


def looks_like(document: Source) -> bool:
    """Whether this is what Harbor's API gives as a retention policy."""
    rules = document.get("rules") if document.is_map else None
    if rules is None or not rules.is_list:
        return False
    return any({"template", "tag_selectors"} & set(rule.names) for rule in rules.entries())


def translate(rules: Rules) -> Translation:
    """Translate it: one policy for each selection of repositories, for a repository in none is left alone."""
    document, translation = rules.document(), Translation()
    document.refuse_others(_POLICY_KEYS)
    drafts: dict[tuple[tuple[str, ...], tuple[str, ...]], Draft] = {}
    for rule in document.need("rules").entries():
        rule.refuse_others(_RULE_KEYS)
        if flag(rule, "disabled", default=False):
            translation.say(Severity.NOTE, "disabled-rule", rule.path, "the rule is switched off and left out")
            continue
        if rule.need("action").text() != "retain":
            raise rule.need("action").error("retain is wanted here")
        include, exclude = _repositories(rule, rules, translation)
        draft = drafts.setdefault((include, exclude), _draft(len(drafts), include, exclude))
        _translate_rule(rule, draft, translation)
    if not drafts:
        raise document.error("no rule is switched on, so nothing is ever removed")
    translation.drafts.extend(drafts.values())
    if (trigger := document.get("trigger")) is not None and trigger.is_map:
        message = "the schedule is not translated: here a plan is made when you ask for one"
        translation.say(Severity.NOTE, "schedule", trigger.path, message)
    message = "rules that make tags immutable are set elsewhere in Harbor: add them to protect"
    translation.say(Severity.NOTE, "immutable-tags", "", message)
    return translation


def _draft(number: int, include: tuple[str, ...], exclude: tuple[str, ...]) -> Draft:
    return Draft(
        name=f"harbor-retention-{number + 1}" if number else "harbor-retention",
        comment="Tag retention of a Harbor project: what no rule retains goes, if a rule is about its repository.",
        include=include,
        exclude=exclude,
        default="delete",
        unit="digest",
    )


def _repositories(rule: Source, rules: Rules, translation: Translation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patterns to include and exclude. Harbor's are relative to the project."""
    selectors = rule.get("scope_selectors")
    listed = selectors.get("repository") if selectors is not None else None
    entries = listed.entries() if listed is not None else ()
    if len(entries) > 1 and listed is not None:
        raise listed.error("one selector of repositories is wanted here")
    globs, is_excluding = (("**",), False) if not entries else _globs(entries[0], "repo")
    if not is_excluding and set(globs) <= _EVERY - {"*"}:
        return include_of(rules, translation), ()
    if rules.target.repositories:
        raise entries[0].error("its patterns are relative to the project", hint="Give --project, not --repository.")
    if not rules.target.project:
        message = f"it does not name its project: replace {PLACEHOLDER} in scope, or give --project"
        translation.say(Severity.NOTE, "scope-missing", entries[0].path, message)
    project = rules.target.project or PLACEHOLDER
    patterns = tuple(repository_glob(entries[0], glob, prefix=project) for glob in globs)
    return ((f"glob:{project}/**",), patterns) if is_excluding else (patterns, ())


def _globs(selector: Source, noun: str) -> tuple[tuple[str, ...], bool]:
    selector.refuse_others(_SELECTOR_KEYS)
    kind, decoration = selector.get("kind"), selector.need("decoration")
    if kind is not None and kind.text() != "doublestar":
        raise kind.error("only selectors of kind doublestar can be translated")
    words = {"repo": ("repoMatches", "repoExcludes"), "tag": ("matches", "excludes")}[noun]
    if decoration.text() not in words:
        raise decoration.error(f"{' or '.join(words)} is wanted here")
    pattern = selector.get("pattern")
    text = pattern.text() if pattern is not None and pattern.raw else ""
    return (text,), decoration.text() == words[1]


def _selected(rule: Source) -> _Selected:
    entries = rule.need("tag_selectors").entries()
    if len(entries) != 1:
        raise rule.need("tag_selectors").error("one selector of tags is wanted here")
    (glob,), is_excluding = _globs(entries[0], "tag")
    with_untagged = not is_excluding  # what Harbor assumes where extras are missing
    extras = entries[0].get("extras")
    if extras is not None and extras.raw:
        told = parse_source(extras.text(), name=f"{extras.name}: {extras.path}").get("untagged")
        with_untagged = told.truth() if told is not None else False
    typed = "" if glob in _EVERY else glob_of(entries[0], glob)
    return _Selected(typed, is_excluding, with_untagged != is_excluding)


def _translate_rule(rule: Source, draft: Draft, translation: Translation) -> None:
    template = rule.need("template")
    if template.text() not in _COUNTS | _DAYS | {"always"}:
        known = ", ".join(sorted(_COUNTS | _DAYS | {"always"}))
        raise template.error(f"{template.text()[:80]!r} is no template that can be translated", hint=f"Known: {known}.")
    selected = _selected(rule)
    number = _number(rule, template.text())
    if number == 0:
        return
    taken = (one.clauses["name"].removesuffix("-mixed").removesuffix("-untagged") for one in draft.keep)
    name = build_name(template.text(), taken)
    condition = _condition(template.text(), number)
    if template.text() in _PULL_COUNTS:
        message = "Harbor counts other pulls, and ranks what was never pulled last: all that the rule selects is kept"
        translation.say(Severity.KEEPS_MORE, "ranked-by-pulls", rule.path, message)
    elif template.text() == "nDaysSinceLastPull":
        message = (
            "Harbor removes what was never pulled, as if it were old, and does not count checks with HEAD; here it"
            " counts from its last push, checks count, and what is not known to be unused stays"
        )
        translation.say(Severity.KEEPS_MORE, "never-pulled", rule.path, message)
        draft.requires["pull-history-min"] = f"{max(number, _days(draft.requires.get('pull-history-min', '1d')))}d"
    _add_tagged(rule, draft, selected, name, condition, translation)
    if selected.with_untagged:
        _add_untagged(rule, draft, name, template.text(), number, translation)


def _add_tagged(
    rule: Source, draft: Draft, selected: _Selected, name: str, condition: Clauses, translation: Translation
) -> None:
    comment = _comment(rule)
    if not selected.glob:
        if not selected.is_excluding:
            draft.keep.append(Rule(comment, {"name": name, **condition}))
        return
    if not selected.is_excluding:
        message = "Harbor judges images: one tag that matches keeps all tags of its image"
        translation.say(Severity.TRAP, "any-tag", rule.path, message)
        match: Clauses = {"tags": {"any-of-digest": [selected.glob]}}
        draft.keep.append(Rule(comment, {"name": name, "match": match, **condition}))
        return
    message = "excludes selects every image of which some tag does not match, also if another one does"
    translation.say(Severity.TRAP, "any-tag", rule.path, message)
    plain: Clauses = {"tags": {"none": [selected.glob]}}
    mixed: Clauses = {"tags": {"any-of-digest": [selected.glob], "none": [selected.glob]}}
    draft.keep.append(Rule(comment, {"name": name, "match": plain, **condition}))
    draft.keep.append(Rule(f"{comment}; images with tags of both kinds", {"name": f"{name}-mixed", "match": mixed}))
    if condition:
        message = "images with tags that match and tags that do not are kept and not counted"
        translation.say(Severity.KEEPS_MORE, "excludes-mixed", rule.path, message)


def _add_untagged(rule: Source, draft: Draft, name: str, template: str, number: int, translation: Translation) -> None:
    clauses: Clauses = {"name": f"{name}-untagged", "untagged": {"within": EVER}, **_condition(template, number)}
    if template == "nDaysSinceLastPush":
        clauses["when"] = {"pushed": {"within": f"{number}d"}}
    if template == "latestPushedK":
        clauses["rank"] = {"by": ["pushed"], "over": "matched", "count": "digests"}
        message = "Harbor counts images with and without tags together; here each kind is counted by itself"
        translation.say(Severity.KEEPS_MORE, "counted-apart", rule.path, message)
    draft.keep.append(Rule(f"{_comment(rule)}; the selector takes untagged images too", clauses))


def _number(rule: Source, template: str) -> int:
    params = rule.get("params")
    if template == "always":
        return 1
    if params is None or not params.is_map or len(params.names) != 1 or params.names[0] != template:
        raise (params or rule).error(f"params should have {template} and nothing else")
    number = params.need(template).count()
    if template in _DAYS and number > 36500:
        raise params.need(template).error("that is longer than 100 years")
    return number


def _condition(template: str, number: int) -> Clauses:
    """How the selected are narrowed: the clock of an image is that of its newest tag, as ``unit: digest`` has it."""
    if template == "nDaysSinceLastPush":
        return {"when": {"tagged": {"within": f"{number}d"}}}
    if template == "nDaysSinceLastPull":
        return {"when": {"pulled": {"within": f"{number}d", "by": [one.value for one in PullClass]}}}
    if template == "latestPushedK":
        return {"newest": number, "rank": {"by": ["tagged"], "over": "matched", "count": "digests"}}
    return {}


def _days(text: str) -> int:
    return int(text.removesuffix("d"))


def _comment(rule: Source) -> str:
    number = _number(rule, rule.need("template").text())
    template = rule.need("template").text()
    selector = rule.need("tag_selectors").entries()[0]
    (glob,), is_excluding = _globs(selector, "tag")
    narrowed = template if template == "always" else f"{template} {number}"
    return f"{rule.path}: {narrowed}, tags {'not ' if is_excluding else ''}{glob or '**'}"
