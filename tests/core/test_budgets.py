"""Does a budget take the right ones, tell the truth about how good the choice is, and leave alone what is held?"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regwarden.core.budgets import BudgetContent, BudgetMethod, Candidate, choose_for_budget, regret_of
from regwarden.core.closure import Group, choose_closure
from regwarden.core.policy_rules import BudgetOrder

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def node(name: str) -> int:
    return int.from_bytes(name.encode(), "big")


def candidate(name: str, *holds: str, regret: int = 1, rank: int = 1) -> Candidate:
    return Candidate((name,), tuple(node(one) for one in holds), regret, rank)


def content(
    candidates: Iterable[Candidate], sizes: dict[str, int], held: Iterable[str] = (), more: int = 0
) -> BudgetContent:
    """What the candidates and what stays (``held``, and ``more`` bytes besides) store."""
    by_node = {node(name): size for name, size in sizes.items()}
    kept = frozenset(node(name) for name in held)
    stored = kept.union(*(one.holds for one in candidates))
    return BudgetContent(stored_bytes=sum(by_node[one] for one in stored) + more, sizes=by_node, held=kept)


def names(choice) -> list[str]:
    return [key[0] for key in choice.chosen]


def stored_without(candidates, stored: BudgetContent, chosen) -> int:
    """By definition: what only the chosen ones hold is gone."""
    kept = {name for one in candidates if one.key not in chosen for name in one.holds} | set(stored.held)
    gone = {name for one in candidates if one.key in chosen for name in one.holds} - kept
    return stored.stored_bytes - sum(stored.sizes[name] for name in gone)


def subsets(count: int) -> list[tuple[int, ...]]:
    return [chosen for size in range(count + 1) for chosen in combinations(range(count), size)]


def random_case(seed: int) -> tuple[list[Candidate], BudgetContent]:
    dice = random.Random(seed)
    blobs = [f"b{number}" for number in range(dice.randint(1, 9))]
    sizes = {name: dice.choice([0, 1, 5, 10, 50, 100, 1_000, 2**40]) for name in blobs}
    candidates = [
        candidate(
            f"c{number}",
            *dice.sample(blobs, dice.randint(0, min(4, len(blobs)))),
            regret=dice.choice([1, 2, 3, 10, 100, 1_000]),
            rank=dice.randint(1, 4),
        )
        for number in range(dice.randint(0, 7))
    ]
    held = [name for name in blobs if dice.random() < 0.15]
    return candidates, content(candidates, sizes, held, more=dice.choice([0, 77]))


def limit_for(candidates: list[Candidate], stored: BudgetContent, seed: int) -> int:
    """Some limit; often exactly what some choice leaves."""
    dice = random.Random(~seed)
    if dice.random() < 0.5:
        return stored_without(candidates, stored, {one.key for one in candidates if dice.random() < 0.6})
    return int(stored.stored_bytes * dice.choice([0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1, 1.1]))


def test_what_fits_loses_nothing():
    images = [candidate("a", "x")]
    choice = choose_for_budget(images, content(images, {"x": 10}), 10)
    assert (choice.chosen, choice.method, choice.is_met) == ((), BudgetMethod.NONE_NEEDED, True)
    assert (choice.bytes_before, choice.bytes_after, choice.regret, choice.least_regret) == (10, 10, 0, 0)


def test_a_blob_is_freed_only_when_all_that_hold_it_go():
    images = [candidate("a", "base", "a"), candidate("b", "base", "b"), candidate("c", "c")]
    stored = content(images, {"base": 100, "a": 1, "b": 1, "c": 90})
    assert names(choose_for_budget(images, stored, 102)) == ["c"]
    both = choose_for_budget(images, stored, 100)
    assert (names(both), both.bytes_after) == (["a", "b"], 90)


def test_it_sees_what_taking_the_best_one_by_one_does_not():
    # Alone, each of a hundred frees one byte of its own; together, the layer that they share.
    images = [candidate(f"small {number:03}", "base", f"own {number}") for number in range(100)]
    images += [candidate(f"large {number:03}", f"blob {number}") for number in range(100)]
    sizes = {"base": 10_000, **{f"own {number}": 1 for number in range(100)}}
    sizes |= {f"blob {number}": 50 for number in range(100)}
    stored = content(images, sizes)
    choice = choose_for_budget(images, stored, stored.stored_bytes - 10_100)
    assert {name.partition(" ")[0] for name in names(choice)} == {"small"}
    assert (choice.regret, choice.least_regret, choice.method) == (100, 100, BudgetMethod.EXACT)


def test_what_was_used_lately_stays_as_long_as_something_else_will_do():
    images = [candidate("old", "x", regret=5), candidate("new", "y", regret=900)]
    stored = content(images, {"x": 100, "y": 120})
    assert names(choose_for_budget(images, stored, 150)) == ["old"]
    assert names(choose_for_budget(images, stored, 119)) == ["new"]
    assert names(choose_for_budget(images, stored, 90)) == ["new", "old"]


def test_the_bound_is_rounded_to_the_safe_side():
    image = [candidate("a", "x", regret=3)]
    half = choose_for_budget(image, content(image, {"x": 100}), 50)
    assert (names(half), half.regret, half.least_regret) == (["a"], 3, 2)
    images = [*(candidate(name, "shared") for name in "abc"), candidate("d", "own", regret=1_000)]
    stored = content(images, {"shared": 10, "own": 1})
    assert choose_for_budget(images, stored, 1, exact_links=0).least_regret <= 3


def test_one_candidate_that_is_enough_alone_is_found_between_the_corners():
    # For each byte the small ones are cheaper, but what is still missing takes many of them.
    images = [candidate("a", "a", regret=10), candidate("b", "b", regret=11), candidate("c", "c", regret=3)]
    stored = content(images, {"a": 1_000, "b": 1_000, "c": 100})
    assert names(choose_for_budget(images, stored, stored.stored_bytes - 1_050)) == ["a", "c"]
    images = [candidate("s1", "1", regret=4), candidate("s2", "2", regret=4), candidate("one", "3", regret=7)]
    stored = content(images, {"1": 60, "2": 60, "3": 100})
    assert names(choose_for_budget(images, stored, stored.stored_bytes - 100)) == ["one"]


def test_what_something_else_holds_is_never_counted_and_its_holder_never_taken_for_it():
    images = [candidate("a", "shared"), candidate("b", "shared", "own"), candidate("empty")]
    stored = content(images, {"shared": 1_000, "own": 1}, held=["shared"])
    for order in BudgetOrder:
        choice = choose_for_budget(images, stored, 10, order=order)
        assert (names(choice), choice.bytes_after, choice.is_met) == (["b"], 1_000, False)


def test_if_all_is_not_enough_all_go_and_it_says_so():
    images = [candidate("a", "x"), candidate("b", "y")]
    stored = content(images, {"x": 10, "y": 10}, more=100)
    choice = choose_for_budget(images, stored, 50)
    assert (names(choice), choice.method, choice.is_met) == (["a", "b"], BudgetMethod.ALL, False)
    assert choice.bytes_after == 100
    just = choose_for_budget(images, stored, 100)
    assert (just.is_met, just.method, just.least_regret) == (True, BudgetMethod.ALL, 2)


def test_by_rank_the_last_go_first_whatever_they_free_and_no_more_than_needed():
    images = [candidate(f"v{rank}", f"own {rank}", rank=rank, regret=rank) for rank in range(1, 11)]
    stored = content(images, {f"own {rank}": 10 for rank in range(1, 11)})
    choice = choose_for_budget(images, stored, 75, order=BudgetOrder.RANK)
    assert (names(choice), choice.method) == (["v10", "v8", "v9"], BudgetMethod.RANK)
    assert (choice.regret, choice.least_regret) == (27, 27)


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_the_choice_keeps_its_word_and_its_bound_holds_against_every_other(seed):
    candidates, stored = random_case(seed)
    max_bytes = limit_for(candidates, stored, seed)
    for exact_links in (10**6, 0):
        choice = choose_for_budget(candidates, stored, max_bytes, exact_links=exact_links)
        assert choice.bytes_before == stored.stored_bytes
        assert choice.bytes_after == stored_without(candidates, stored, choice.chosen)
        assert choice.regret == sum(one.regret for one in candidates if one.key in choice.chosen)
        enough = [
            sum(candidates[item].regret for item in chosen)
            for chosen in subsets(len(candidates))
            if stored_without(candidates, stored, {candidates[item].key for item in chosen}) <= max_bytes
        ]
        assert choice.is_met == bool(enough)
        if enough:
            assert choice.least_regret <= min(enough) <= choice.regret


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_nothing_goes_that_could_stay(seed):
    candidates, stored = random_case(seed)
    max_bytes = limit_for(candidates, stored, seed)
    for exact_links in (10**6, 0):
        choice = choose_for_budget(candidates, stored, max_bytes, exact_links=exact_links)
        if choice.is_met:
            for key in choice.chosen:
                assert stored_without(candidates, stored, set(choice.chosen) - {key}) > max_bytes


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_along_the_curve_the_choice_is_the_very_best(seed):
    candidates, stored = random_case(seed)
    points: dict[int, int] = {}
    for chosen in subsets(len(candidates)):
        after = stored_without(candidates, stored, {candidates[item].key for item in chosen})
        regret = sum(candidates[item].regret for item in chosen)
        points[stored.stored_bytes - after] = min(regret, points.get(stored.stored_bytes - after, regret))
    for freed in _hull(points):
        choice = choose_for_budget(candidates, stored, stored.stored_bytes - freed)
        assert (choice.regret, choice.least_regret) == (points[freed], points[freed])


def _hull(points: dict[int, int]) -> list[int]:
    """The freed bytes at the corners of the lower convex hull of regret over freed bytes."""
    hull: list[int] = []
    for freed in sorted(points):
        while hull and points[hull[-1]] >= points[freed]:
            hull.pop()
        while len(hull) > 1 and (points[hull[-1]] - points[hull[-2]]) * (freed - hull[-2]) >= (
            points[freed] - points[hull[-2]]
        ) * (hull[-1] - hull[-2]):
            hull.pop()
        hull.append(freed)
    return hull


def test_between_the_corners_it_is_the_best_almost_always():
    best_count = case_count = 0
    for seed in range(400):
        candidates, stored = random_case(seed)
        max_bytes = limit_for(candidates, stored, seed)
        choice = choose_for_budget(candidates, stored, max_bytes)
        if choice.method is BudgetMethod.EXACT:
            best = min(
                sum(candidates[item].regret for item in chosen)
                for chosen in subsets(len(candidates))
                if stored_without(candidates, stored, {candidates[item].key for item in chosen}) <= max_bytes
            )
            case_count += 1
            best_count += choice.regret == best
    assert case_count > 50
    assert best_count >= 0.95 * case_count


@given(st.integers(0, 2**32), st.sampled_from(BudgetOrder))
def test_the_order_of_what_is_given_changes_nothing(seed, order):
    candidates, stored = random_case(seed)
    max_bytes = limit_for(candidates, stored, seed)
    expected = choose_for_budget(candidates, stored, max_bytes, order=order)
    random.Random(seed).shuffle(candidates)
    sizes = dict(reversed(list(stored.sizes.items())))
    again = BudgetContent(stored_bytes=stored.stored_bytes, sizes=sizes, held=stored.held)
    assert choose_for_budget(candidates, again, max_bytes, order=order) == expected


@settings(max_examples=150)
@given(st.integers(0, 2**32))
def test_by_rank_one_less_would_not_do(seed):
    candidates, stored = random_case(seed)
    max_bytes = limit_for(candidates, stored, seed)
    choice = choose_for_budget(candidates, stored, max_bytes, order=BudgetOrder.RANK)
    going = [one for one in candidates if one.key in choice.chosen]
    frees = [one for one in candidates if any(stored.sizes[name] and name not in stored.held for name in one.holds)]
    assert set(going) <= set(frees)
    if going:
        first = min(going, key=lambda one: (one.rank, one.key))
        assert all((one.rank, one.key) < (first.rank, first.key) for one in frees if one not in going)
        assert stored_without(candidates, stored, set(choice.chosen) - {first.key}) > max_bytes
    assert choice.is_met or len(going) == len(frees)


def test_thousands_that_share_layers_are_chosen_nearly_perfectly():
    dice = random.Random(4)
    candidates: list[Candidate] = []
    sizes: dict[str, int] = {}
    for number in range(3_000):
        holds = {f"base {number % 40} {layer}" for layer in range(4)}
        holds |= {f"layer {(number * 7 + dice.randint(0, 25)) % 20_000}" for _ in range(8)}
        candidates.append(candidate(f"{number:05}", *sorted(holds), regret=dice.randint(1, 100_000)))
        sizes |= {name: int(1_000 * dice.paretovariate(1.1)) for name in sorted(holds) if name not in sizes}
    stored = content(candidates, sizes)
    max_bytes = stored.stored_bytes // 2
    exact = choose_for_budget(candidates, stored, max_bytes)
    greedy = choose_for_budget(candidates, stored, max_bytes, exact_links=0)
    assert (exact.method, greedy.method) == (BudgetMethod.EXACT, BudgetMethod.GREEDY)
    assert exact.is_met
    assert greedy.is_met
    assert exact.regret <= 1.001 * exact.least_regret
    assert greedy.least_regret <= exact.least_regret
    assert exact.regret <= greedy.regret


@pytest.mark.parametrize(
    ("idle", "regret"),
    [
        (timedelta(0), 1_000_000),
        (timedelta(days=-3), 1_000_000),
        (timedelta(days=1), 500_000),
        (timedelta(days=9), 100_000),
        (timedelta(days=999), 1_000),
        (timedelta(days=365 * 3_000), 1),
    ],
)
def test_regret_is_a_million_shared_by_the_days_of_rest(idle, regret):
    assert regret_of(NOW - min(idle, NOW - datetime(1, 1, 1, tzinfo=UTC)), NOW) == pytest.approx(regret, abs=1)


@given(
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9_000)), st.timedeltas(timedelta(0), timedelta(9))
)
def test_what_rested_longer_is_regretted_no_more_and_never_for_nothing(idle, longer):
    assert 1 <= regret_of(NOW - idle - longer, NOW) <= regret_of(NOW - idle, NOW) <= 1_000_000


@st.composite
def closures(draw) -> tuple[list[int], list[Group]]:
    costs = draw(st.lists(st.integers(1, 12), max_size=8))
    if not costs:
        return costs, []
    members = st.sets(st.integers(0, len(costs) - 1), min_size=1, max_size=4).map(lambda one: tuple(sorted(one)))
    return costs, draw(st.lists(st.builds(Group, st.integers(1, 15), members), max_size=12))


@settings(max_examples=500)
@given(closures())
def test_the_closure_is_worth_as_much_as_the_best_of_all_sets(case):
    costs, groups = case

    def worth(chosen) -> int:
        gained = sum(gain for gain, members in groups if set(members) <= set(chosen))
        return gained - sum(costs[item] for item in chosen)

    assert worth(choose_closure(costs, groups)) == max(worth(chosen) for chosen in subsets(len(costs)))


def test_a_closure_that_no_item_decides_alone_is_found():
    # A ring: every item pays only together with all the others, and no group is gained by one.
    groups = [Group(11, (number, (number + 1) % 50)) for number in range(50)]
    assert choose_closure([10] * 50, groups) == set(range(50))
    assert choose_closure([12] * 50, groups) == set()
    assert choose_closure([10] * 49 + [1_000], groups) == set(range(49))
    assert choose_closure([10, 10, 10, 1_000] * 12 + [10, 1_000], groups) == set()
