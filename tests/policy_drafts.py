"""Small policies with what they forbid, said a second time by plain comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import strategies as st

_AGES = {"1h": timedelta(hours=1), "1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}


@dataclass(frozen=True)
class Facts:
    """What is known of a repository when one of its tags goes. ``is_exact``: all of it is, and as it was."""

    now: datetime
    tagged_at: Mapping[str, datetime | None]
    digest_of: Mapping[str, str]
    pulled_at: datetime | None
    is_exact: bool


@dataclass(frozen=True)
class Draft:
    """A policy. ``older`` and ``pulled`` are ages that its delete rule asks for, ``newest`` stay in each ``per``."""

    min_age: str = "1d"
    older: str = ""
    pulled: str = ""
    untagged: str = ""
    newest: int = 0
    per: str = ""
    keeps_releases: bool = False
    protects: bool = False
    never_empty: bool = True
    deletes_by_default: bool = False
    is_ordered: bool = False
    is_explicit: bool = False
    placeholders: bool = False
    whole: bool = False

    @property
    def shortest(self) -> timedelta:
        """What is younger stays."""
        return _AGES[self.min_age]

    def text(self) -> str:
        """The policy as people write it."""
        lines = ["apiVersion: retention/v1", "kind: Policy", "metadata: {name: drafted}", "scope: {}"]
        share = "per-run: {share-of-repo: unlimited}"
        never = str(self.never_empty).lower()
        lines.append(f"limits: {{{share}, min-age: {self.min_age}, never-empty: {never}}}")
        lines.append(f"apply: {{approval: one, placeholders: {str(self.placeholders).lower()}}}")
        if self.is_explicit:
            lines.append("referrers: explicit")
        if self.whole:
            lines.append("unit: digest")
        if self.protects:
            lines.append('protect: [{tags: {any: ["glob:prod*"]}}]')
        keep, delete = self._keep(), self._delete()
        if self.is_ordered:
            lines += ["mode: first-match", "rules:"]
            lines += [f"  - keep: {one}" for one in keep] + [f"  - delete: {one}" for one in delete]
        else:
            lines += ["keep:", *(f"  - {one}" for one in keep)] if keep else []
            lines += ["delete:", *(f"  - {one}" for one in delete)]
        if self.deletes_by_default:
            lines.append("default: delete")
        return "\n".join(lines) + "\n"

    def _keep(self) -> list[str]:
        rules = ['{match: {tags: {any: ["glob:v*"]}}}'] if self.keeps_releases else []
        if self.newest:
            per = f", per: {self.per}" if self.per else ""
            # Of an order the first rule that selects a tag decides about it: this one only about what is left.
            names = '["glob:latest", "glob:prod*"]' if self.is_ordered else '["glob:*"]'
            rules.append(f"{{match: {{tags: {{any: {names}}}}}, newest: {self.newest}{per}, rank: {{by: [tagged]}}}}")
        return rules

    def _delete(self) -> list[str]:
        when = [f"tagged: {{older-than: {self.older}}}"] if self.older else []
        when += [f"pulled: {{older-than: {self.pulled}}}"] if self.pulled else []
        clause = f", when: {{{', '.join(when)}}}" if when else ""
        rules = [f'{{match: {{tags: {{any: ["glob:*"]}}}}{clause}}}']
        return rules + ([f"{{untagged: {{older-than: {self.untagged}}}}}"] if self.untagged else [])

    def forbids(self, tag: str, facts: Facts) -> str:
        """Why a tag that goes must stay; empty if it may go."""
        if self.keeps_releases and tag.startswith("v"):
            return "releases are kept"
        at = facts.tagged_at[tag]
        if not self.deletes_by_default:
            if self.older and at is not None and at > facts.now - _AGES[self.older]:
                return f"it was tagged at {at}, it is {facts.now}"
            if self.pulled and facts.pulled_at is not None and facts.pulled_at > facts.now - _AGES[self.pulled]:
                return f"it was pulled at {facts.pulled_at}, it is {facts.now}"
        if self.newest and facts.is_exact and at is not None and (not self.is_ordered or _is_ranked_in_order(tag)):
            return self._rank(tag, at, facts)
        return ""

    def _rank(self, tag: str, at: datetime, facts: Facts) -> str:
        rivals = {
            facts.digest_of[other]
            for other, moment in facts.tagged_at.items()
            if moment is not None
            and moment >= at
            and not other.startswith("sha256-")
            and (not self.is_ordered or _is_ranked_in_order(other))
            and _period(self.per, moment) == _period(self.per, at)
        }
        if len(rivals - {facts.digest_of[tag]}) < self.newest:
            return f"it is one of the newest {self.newest}"
        return ""


def _is_ranked_in_order(tag: str) -> bool:
    return tag == "latest" or tag.startswith("prod")


def _period(per: str, at: datetime) -> object:
    return {
        "": 0,
        "day": (at.year, at.month, at.day),
        "week": at.isocalendar()[:2],
        "month": (at.year, at.month),
        "year": at.year,
    }[per]


def drafts() -> st.SearchStrategy[Draft]:
    """Policies of all kinds."""
    ages = st.sampled_from(["", "", "1h", "1d", "7d", "30d"])
    return st.builds(
        Draft,
        min_age=st.sampled_from(["1h", "1h", "1d"]),
        older=ages,
        pulled=st.sampled_from(["", "", "", "1h", "7d"]),
        untagged=st.sampled_from(["", "1h", "7d"]),
        newest=st.sampled_from([0, 0, 1, 2]),
        per=st.sampled_from(["", "day", "week", "month", "year"]),
        keeps_releases=st.booleans(),
        protects=st.booleans(),
        never_empty=st.booleans(),
        deletes_by_default=st.sampled_from([False, False, True]),
        is_ordered=st.sampled_from([False, False, True]),
        is_explicit=st.sampled_from([False, False, True]),
        placeholders=st.booleans(),
        whole=st.sampled_from([False, False, True]),
    )
