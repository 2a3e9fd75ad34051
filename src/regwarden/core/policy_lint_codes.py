"""What is a warning about a policy called, and why does it matter? Every code, for the manual and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Finding(NamedTuple):
    """A warning: its code, the path of what it is about, a sentence, and what to do."""

    name: str
    path: str
    message: str
    hint: str = ""


WARNINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # patterns
        "half-anchored": "Some alternatives of a regular expression begin with ^ or end with $ and others do not. Here"
        " the whole text is always matched, so the anchors say nothing; elsewhere such an expression means something"
        " else than it seems to.",
        "regex-as-prefix": "A regular expression looks like the beginning of names, as in tools that look for it"
        " anywhere. Here it matches whole texts only.",
        "regex-dot": "A dot of a regular expression stands for any character, and here looks like a dot of a version.",
        "glob-without-star": "A glob without a star or the like matches one name only; in tools with prefixes it would"
        " match more.",
        "matches-nothing": "No tag or repository can have such a name, or the clauses exclude each other.",
        "redundant-pattern": "A pattern stands twice in a list, or another one of the list matches all that it does.",
        "exclude-one-level": "An excluded glob that ends in * stops at the next slash: what is deeper is not excluded.",
        "unquoted": "Without quotes other programs that read YAML take this text for a number, a date or a truth"
        " (1.10 for 1.1, 12e4 for 120000). Regwarden reads it as it stands.",
        # conditions
        "never-true": "A condition asks for older than one age and within a smaller one.",
        "deletes-recent": "A delete rule takes what is recent, not what is old. Perhaps older-than was meant.",
        "deletes-used": "A delete rule takes what was pulled recently. Perhaps older-than was meant.",
        "age-by-created": "The time an image was built is what its builder wrote: reproducible builds say 1970, and a"
        " rebuilt base image may be years old.",
        "age-by-pushed": "The age of the digest is asked for, not that of the tag: a tag that was set yesterday on a"
        " build of last year, as promotions do, is a year old.",
        "ignores-pulls": "A delete rule does not count pulls of workloads, or of clients that are not known, as use.",
        "ignores-head": "Runtimes check with HEAD what they already have; without it, what runs looks unused.",
        "counts-scanners": "Scanners, replication and crawlers touch everything, so nothing ever looks unused.",
        "pulled-without-history": "Pulls are asked about, but the policy does not require that they were recorded for"
        " long enough. Before that they are unknown, and what is unknown stays.",
        # counting
        "rank-candidates": "Counted among what would go otherwise, the newest N are kept in addition to all that stays"
        " for other reasons. Counted among what matches (the default), tags that stay anyway use up the number.",
        "rank-by-created": "Ranked by the time an image states itself: an image may claim any time.",
        "rank-counts-tags": "Tags are counted one by one: ten tags of one image use up ten places.",
        "semver-of-names": "Names that are no semantic versions are ranked or grouped by version; they have no place,"
        " so they are kept and not counted.",
        "capture-missing": "Groups are made of a capture that only some of the rule's patterns have.",
        # rules
        "deletes-everything": "A delete rule without a condition takes all that nothing keeps.",
        "delete-any": "A delete rule on single tags removes a tag also where the image has other tags that stay:"
        " nothing is freed then, and registries that cannot remove one tag of several skip it.",
        "delete-siblings": "A delete rule on any tag of the digest takes tags along that do not match.",
        "untagged-young": "Manifests without a tag go within a day: a push that is still going on, or a tag that moves"
        " back and forth, may need them.",
        "rules-unite": "One delete rule asks for an age and another one for a number, about the same tags. Either is"
        " enough: together they take more than each.",
        "keeps-everything": "A rule or protection without a condition keeps all tags, so that no tag ever goes.",
        "budget-without-keep": "A budget without a keep rule may take the newest and the last of everything.",
        "default-delete-without-keep": "All that is not protected goes, because no rule keeps anything.",
        "redundant-delete": "With `default: delete` everything that is not kept goes anyway; the conditions of a delete"
        " rule hold nothing back.",
        "deletes-nothing": "No rule deletes anything and the default is to keep.",
        "keep-without-effect": "All that a keep rule keeps is protected already.",
        "delete-without-effect": "All that a delete rule takes is protected or kept without a condition.",
        "shadowed-rule": "An earlier rule claims all that this one matches, so it never decides.",
        "latest-unprotected": "The tag `latest` may go: nothing protects or keeps it.",
        "referrers-left": "With `referrers: explicit` and no rule that names their kind, signatures and the like stay"
        " for ever.",
        # guards
        "whole-registry": "The scope names neither registries nor repositories: the policy is about everything.",
        "partial-coverage": "Plans are made even if the list of repositories was not read to its end.",
        "never-empty-off": "A repository may lose its last tag.",
        "unlimited": "Nothing limits how much one run removes.",
        "unattended": "Plans are applied without anybody looking at them, with wide limits.",
        "short-min-age": "What was pushed less than a day ago may go, also parts of a push that is still going on.",
        "short-undo": "There is less than a day to notice a mistake.",
        "window-never-opens": "The window ends when it begins, so plans are never applied.",
    }
)
