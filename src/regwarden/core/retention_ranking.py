"""Which tags are the newest of a rule, in each of its groups?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from regwarden.core.policy_ranking import RankCount
from regwarden.core.policy_rules import Rule
from regwarden.core.retention_groups import GroupKey, group_reader, is_ordered_by_itself, may_be_in_any_group
from regwarden.core.retention_orders import UNKNOWN_PART, Order, Placed, order_of
from regwarden.core.retention_roots import Root, Surroundings

Unit: TypeAlias = tuple[GroupKey | None, str | None]


class Place(NamedTuple):
    """Where a root stands: ``number`` 1 is the newest of ``group``; 0 where it has no place (``reason`` says why).

    ``is_older_group``: the rule counts only in newer groups. ``is_at_least``: it may also stand further behind,
    because its time is known at latest only.
    """

    number: int
    group: GroupKey = ()
    reason: str = ""
    is_older_group: bool = False
    is_at_least: bool = False


@dataclass(slots=True)
class Ranking:
    """The outcome of counting: positions among the newest, behind them, without a place; ``places`` if asked for.

    ``unordered`` are among the newest, but more of them than the rule counts: they may be, as their times are not known
    well enough.
    """

    newest: set[int] = field(default_factory=set)
    unordered: set[int] = field(default_factory=set)
    behind: set[int] = field(default_factory=set)
    unplaced: set[int] = field(default_factory=set)
    places: dict[int, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a rule counts: what it selects, what it may select, and the positions of what would go.

    With ``going`` only images (or tags) of which some position is in there use up a place, and only groups with such
    ones use up one of ``groups``; their order is still that among all that is selected. So what stays for another
    reason makes room and never costs a place. ``with_places``: the places are asked for.
    """

    selected: Sequence[Root]
    unsure: Sequence[Root] = ()
    going: Collection[int] | None = None
    with_places: bool = False


def rank(rule: Rule, counted: Counted, around: Surroundings) -> Ranking:
    """Count as the rule says: the newest of each group, in the newest groups."""
    order = order_of(rule, counted.selected, around)
    placed: Sequence[Placed] = order.placed
    counting = _Counting(rule, around, with_places=counted.with_places)
    for root in order.unplaced:
        counting.leave_out(root, f"it has no place by {rule.rank.by[0]}")
    active = None
    if counted.going is not None:
        active = {counting.unit(root) for _, root in placed if root.position in counted.going}
    if rule.groups is not None:
        counting.choose_groups(order, (*order.unplaced, *counted.unsure), active, rule.groups)
    if active is not None:
        placed = [pair for pair in placed if counting.unit(pair[1]) in active]
    counting.count(placed, order)
    return counting.ranking


class _Counting:
    """One walk from the newest to the oldest; a digest has the place of its newest tag in the group.

    A place is one more than there are newer ones for certain: who may be newer or older costs nobody a place.
    """

    def __init__(self, rule: Rule, around: Surroundings, *, with_places: bool) -> None:
        self._rule = rule
        self._around = around
        self._by_digest = rule.rank.count is RankCount.DIGESTS
        self._group_of = group_reader(rule, around)
        self._with_places = with_places
        self._older: frozenset[GroupKey] = frozenset()
        self.ranking = Ranking()

    def unit(self, root: Root) -> Unit:
        """What uses up a place: an image or a tag, in its group."""
        return self._group_of(root), root.digest if self._by_digest else root.tag or root.digest

    def leave_out(self, root: Root, reason: str) -> None:
        """It has no place: it is kept and not counted."""
        self.ranking.unplaced.add(root.position)
        if self._with_places:
            self.ranking.places[root.position] = Place(0, (), reason)

    def choose_groups(self, order: Order, unclear: Iterable[Root], active: set[Unit] | None, limit: int) -> None:
        """Which groups are not among the newest. One that may be newer than is known is none of them."""
        ordered: dict[GroupKey, bool] = {}
        exempt: set[GroupKey] = set()
        unclear = list(unclear)
        for key, root in order.placed:
            group = self._group_of(root)
            if group is None:
                unclear.append(root)
                continue
            ordered[group] = ordered.get(group, False) or active is None or self.unit(root) in active
            if UNKNOWN_PART in key:
                exempt.add(group)
        if not is_ordered_by_itself(self._rule):
            for root in unclear:
                if (group := self._group_of(root)) is not None:
                    exempt.add(group)
                elif may_be_in_any_group(self._rule, root, self._around):
                    return
        countable = {group for group, is_active in ordered.items() if is_active and group not in exempt}
        self._older = frozenset(self._older_than(limit, order, countable))

    def _older_than(self, limit: int, order: Order, countable: set[GroupKey]) -> Iterator[GroupKey]:
        """Of some groups those that so many others are newer than."""
        newer: set[GroupKey] = set()
        seen: set[GroupKey] = set()
        for (_, root), added in order.walk(order.placed):
            newer.update(group for one in added if (group := self._group_of(one)) in countable and group is not None)
            group = self._group_of(root)
            if group is not None and group in countable and group not in seen:
                seen.add(group)
                if len(newer - {group}) >= limit:
                    yield group

    def count(self, placed: Sequence[Placed], order: Order) -> None:
        """Give each its place."""
        ranking, limit, looked, has_gaps = self.ranking, self._rule.counted or 0, order.looked, order.has_gaps
        newest, behind = ranking.newest, ranking.behind
        # Where a group is full, nobody asks how far behind the others stand.
        is_brief = not self._with_places and not has_gaps
        groups: dict[GroupKey, _Group] = {}
        waiting: dict[int, tuple[_Group, str | None]] = {}  # until it is newer for certain than what comes next
        for (key, root), added in order.walk(placed):
            for one in added:
                if (known := waiting.pop(one.position, None)) is not None:
                    known[0].newer.add(known[1])
            group_key, name = self.unit(root)
            if group_key is None:
                self._leave_out_of_groups(root)
                continue
            position = root.position
            group = groups.get(group_key)
            if group is None:
                group = groups[group_key] = _Group(is_older=group_key in self._older)
            if is_brief and len(group.newer) >= limit and name not in group.places:
                behind.add(position)
                continue
            waiting[position] = group, name
            number, apparent = group.place(name, key, has_gaps=has_gaps)
            is_newest = number <= limit and not group.is_older
            (newest if is_newest else behind).add(position)
            if is_newest and apparent > limit and position in looked:
                ranking.unordered.add(position)
            if self._with_places:
                ranking.places[position] = Place(
                    number, group_key, is_older_group=group.is_older, is_at_least=position in looked
                )

    def _leave_out_of_groups(self, root: Root) -> None:
        is_unknown = self._with_places and may_be_in_any_group(self._rule, root, self._around)
        self.leave_out(root, "its group is not known" if is_unknown else "it belongs to no group")


@dataclass(slots=True)
class _Group:
    """A group on the walk: what is newer for certain, and the places of images or tags.

    Of a place there is also what it would be if every time were as it seems. ``is_older``: the rule counts only in
    newer groups. ``starts`` are how many were newer than the first with the beginning of a key.
    """

    is_older: bool
    newer: set[str | None] = field(default_factory=set)
    places: dict[str | None, tuple[int, int]] = field(default_factory=dict)
    starts: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def place(self, name: str | None, key: tuple[Any, ...], *, has_gaps: bool) -> tuple[int, int]:
        """The place of an image or tag: that of the newest of its roots."""
        number = self._place_with_gaps(key) if has_gaps else len(self.newer) + 1
        return self.places.setdefault(name, (number, len(self.places) + 1))

    def _place_with_gaps(self, key: tuple[Any, ...]) -> int:
        """What lacks a later key could be the newest of those that are equal up to there, and counts as their oldest.

        So a fact that is missing keeps its tag and never costs another one its place.
        """
        before = len(self.newer)
        for length in range(1, len(key)):
            self.starts.setdefault(key[:length], before)
        known = next((length for length, part in enumerate(key) if part == UNKNOWN_PART), 0)
        return self.starts[key[:known]] + 1 if known else before + 1
