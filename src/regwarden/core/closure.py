"""What should be given up so that what becomes free is worth most? The closure problem, solved exactly.

Giving something up costs, and a group is gained only if all of its members are given up. The best set is a minimum cut
(Rhys 1970, Balinski 1970, Picard 1976): source to group with its gain, group to its members without limit, member to
sink with its cost. The cut is found by Dinic's algorithm, after what decides itself has been taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Group(NamedTuple):
    """What is gained if all ``members`` (places in the costs, each once, at least one) are given up. ``gain`` > 0."""

    gain: int
    members: tuple[int, ...]


def choose_closure(costs: Sequence[int], groups: Sequence[Group]) -> set[int]:
    """What to give up, so that the gains of complete groups minus the costs (> 0) of their members are greatest.

    Any one of equally good sets, the same for the same input.
    """
    kernel = _Kernel(costs, groups)
    kernel.reduce()
    return kernel.taken | _cut(kernel)


class _Kernel:
    """What is left when no member decides itself. Reducing is linear in the members of all groups."""

    def __init__(self, costs: Sequence[int], groups: Sequence[Group]) -> None:
        self.costs = costs
        self.groups = groups
        self.groups_of: list[list[int]] = [[] for _ in costs]
        self.total = [0] * len(costs)  # what all groups of an member may gain
        self.alone = [0] * len(costs)  # what needs nothing but this member any more
        self.missing = [len(group.members) for group in groups]
        self.is_alive = [True] * len(groups)
        self.taken: set[int] = set()
        self.dropped: set[int] = set()
        for number, (gain, members) in enumerate(groups):
            for member in members:
                self.groups_of[member].append(number)
                self.total[member] += gain
            if len(members) == 1:
                self.alone[members[0]] += gain

    def reduce(self) -> None:
        """Take what pays for itself alone, drop what never can, until neither is left."""
        todo = list(range(len(self.costs)))
        while todo:
            member = todo.pop()
            if member in self.taken or member in self.dropped:
                continue
            if self.alone[member] >= self.costs[member]:
                self.taken.add(member)
                todo += self._settle(member)
            elif self.total[member] <= self.costs[member]:
                self.dropped.add(member)
                todo += self._lose(member)

    def _settle(self, member: int) -> list[int]:
        """A taken member is missing in its groups no longer: the last member that is may now decide itself."""
        touched = []
        for number in self.groups_of[member]:
            if not self.is_alive[number]:
                continue
            self.missing[number] -= 1
            if self.missing[number] == 1:
                last = next(one for one in self.groups[number].members if one not in self.taken)
                self.alone[last] += self.groups[number].gain
                touched.append(last)
        return touched

    def _lose(self, member: int) -> list[int]:
        """The groups of a dropped member will never be gained."""
        touched = []
        for number in self.groups_of[member]:
            if self.is_alive[number]:
                self.is_alive[number] = False
                gain, members = self.groups[number]
                for one in members:
                    self.total[one] -= gain
                    touched.append(one)
        return touched


def _cut(kernel: _Kernel) -> set[int]:
    """The members on the source's side of a minimum cut through what the reductions left."""
    left = [
        member for member in range(len(kernel.costs)) if member not in kernel.taken and member not in kernel.dropped
    ]
    if not left:
        return set()
    node_of = {member: number for number, member in enumerate(left, start=2)}
    network = _Network(2 + len(left))
    for member in left:
        network.connect(node_of[member], _SINK, kernel.costs[member])
    unlimited = 1 + sum(kernel.costs[member] for member in left)
    merged: dict[tuple[int, ...], int] = {}
    for number, (gain, members) in enumerate(kernel.groups):
        if kernel.is_alive[number] and kernel.missing[number]:
            rest = tuple(one for one in members if one not in kernel.taken)
            merged[rest] = merged.get(rest, 0) + gain
    for rest, gain in merged.items():
        node = network.add_node()
        network.connect(_SOURCE, node, gain)
        for member in rest:
            network.connect(node, node_of[member], unlimited)
    levels = network.saturate()
    return {member for member in left if levels[node_of[member]] >= 0}


_SOURCE = 0
_SINK = 1


class _Network:
    """A flow network. Arc ``n`` and its reverse ``n ^ 1`` stand side by side."""

    def __init__(self, node_count: int) -> None:
        self.arcs: list[list[int]] = [[] for _ in range(node_count)]
        self.heads: list[int] = []
        self.room: list[int] = []

    def add_node(self) -> int:
        self.arcs.append([])
        return len(self.arcs) - 1

    def connect(self, tail: int, head: int, capacity: int) -> None:
        self.arcs[tail].append(len(self.heads))
        self.arcs[head].append(len(self.heads) + 1)
        self.heads += (head, tail)
        self.room += (capacity, 0)

    def saturate(self) -> list[int]:
        """Send as much as possible from source to sink; afterwards level -1 is what the source no longer reaches."""
        while True:
            levels = self._measure()
            if levels[_SINK] < 0:
                return levels
            self._block(levels)

    def _measure(self) -> list[int]:
        levels = [-1] * len(self.arcs)
        levels[_SOURCE] = 0
        todo = [_SOURCE]
        heads, room = self.heads, self.room
        for node in todo:
            level = levels[node] + 1
            for arc in self.arcs[node]:
                if room[arc] and levels[heads[arc]] < 0:
                    levels[heads[arc]] = level
                    todo.append(heads[arc])
        return levels

    def _block(self, levels: list[int]) -> None:
        """One blocking flow: walk down the levels, step back from dead ends, never look at a useless arc again."""
        heads, room = self.heads, self.room
        next_arc = [0] * len(self.arcs)
        path: list[int] = []
        node = _SOURCE
        while True:
            if node == _SINK:
                node = self._send(path)
                continue
            arcs, below = self.arcs[node], levels[node] + 1
            for place in range(next_arc[node], len(arcs)):
                arc = arcs[place]
                if room[arc] and levels[heads[arc]] == below:
                    next_arc[node] = place
                    path.append(arc)
                    node = heads[arc]
                    break
            else:
                next_arc[node] = len(arcs)
                if not path:
                    return
                node = heads[path.pop() ^ 1]
                next_arc[node] += 1

    def _send(self, path: list[int]) -> int:
        """Fill a path, and step back to where it is full first; returns that node."""
        room = self.room
        amount = min(room[arc] for arc in path)
        for arc in path:
            room[arc] -= amount
            room[arc ^ 1] += amount
        full = next(place for place, arc in enumerate(path) if not room[arc])
        node = self.heads[path[full] ^ 1]
        del path[full:]
        return node
