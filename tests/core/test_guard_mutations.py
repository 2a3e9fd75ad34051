"""Is every guard and every check before a deletion needed, and is its loss noticed? Each is taken out, one at a time.

A scenario holds with the code as it is; with its mutation it must not. What is new in guards and checks needs an entry.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest

from regwarden.core import guards, planning, retention
from regwarden.core.plan import GuardCode
from regwarden.flows import apply_checks, apply_steps, applying, cleanup
from regwarden.store import journal, trash
from regwarden.store.plan_records import PlanState
from tests import guard_stories as stories
from tests.guard_stories import EVERYTHING, Scene, Story, refused

# How each is taken out.

Mutation = Callable[[], Any]


@contextmanager
def silenced(code: GuardCode) -> Iterator[None]:
    """No guard with this code is ever found."""

    def quiet(work: Any) -> Any:
        def find(*arguments: Any, **options: Any) -> Any:
            found = work(*arguments, **options)
            if found is None or hasattr(found, "code"):
                return None if found is None or found.code is code else found
            return iter([one for one in found if one.code is not code])

        return find

    with ExitStack() as stack:
        for owner, name in (
            (guards.RepositoryGuards, "find"),
            (guards.RegistryGuards, "find"),
            (planning, "guard_limits"),
            (planning, "guard_sources"),
            (apply_checks, "guard_live_events"),
        ):
            stack.enter_context(patch.object(owner, name, quiet(getattr(owner, name))))
        yield


@contextmanager
def rewritten(work: Any, *changes: tuple[str, str]) -> Iterator[None]:
    """The same function with other words in it, wherever it is used."""
    source = textwrap.dedent(inspect.getsource(work))
    for old, new in changes:
        assert source.count(old) == 1, f"{work.__name__} has {old!r} {source.count(old)} times"
        source = source.replace(old, new)
    owner: Any = sys.modules[work.__module__]
    made: dict[str, Any] = {}
    exec(compile("from __future__ import annotations\n" + source, owner.__file__, "exec"), vars(owner), made)
    *path, name = work.__qualname__.split(".")
    places: list[Any] = [getattr(owner, path[0])] if path else []
    if not path:
        ours = [one for key, one in sys.modules.items() if key.startswith("regwarden.")]
        places = [one for one in ours if vars(one).get(name) is work]
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(patch.object(place, name, made[name]))
        yield


def without(work: Any, condition: str) -> Mutation:
    """A function in which a condition is never met."""
    return lambda: rewritten(work, (f"if {condition}:", "if False:"))


@contextmanager
def idle(owner: Any, name: str, result: Any = None) -> Iterator[None]:
    """A function that does nothing."""

    async def later(*_: Any, **__: Any) -> Any:
        return result

    replacement = later if asyncio.iscoroutinefunction(getattr(owner, name)) else lambda *_, **__: result
    with patch.object(owner, name, replacement):
        yield


@contextmanager
def ageless() -> Iterator[None]:
    with (
        patch.object(retention, "minimum_age", lambda *_: None),
        patch("regwarden.core.lifting.is_young", lambda *_: False),
    ):
        yield


@contextmanager
def untagging() -> Iterator[None]:
    """Every registry is taken for one that removes single tags."""
    with rewritten(planning.terms_of, ("can_untag=registry.can_untag is True", "can_untag=True")):
        yield


@contextmanager
def everywhere_runnable() -> Iterator[None]:
    """Both places that look at the state of a plan take any."""
    states = tuple(PlanState)
    with patch.object(apply_checks, "RUNNABLE", states), patch.object(cleanup, "RUNNABLE", states):
        yield


@contextmanager
def always_open() -> Iterator[None]:
    """Both places that look at the windows, before a run and before each step, find one open."""
    with (
        patch.object(apply_checks, "are_open", lambda *_: True),
        patch.object(applying, "are_open", lambda *_: True),
    ):
        yield


@contextmanager
def blindly() -> Iterator[None]:
    """What nobody answered is taken for not done."""

    async def settle(site: Any, step: Any) -> Any:
        return await apply_steps._end(site, step, journal.Result.NOT_DONE, "")

    with patch.object(apply_steps, "settle_intent", settle), patch.object(applying, "settle_intent", settle):
        yield


def _code(code: GuardCode) -> Mutation:
    return lambda: silenced(code)


@dataclass(frozen=True)
class Case:
    """What is taken out, of which function; the story that must then end badly."""

    mutation: Mutation
    story: Story
    of: Any = None
    untags: bool = False


GUARDS: dict[GuardCode, Case] = {
    GuardCode.NEVER_EMPTY: Case(_code(GuardCode.NEVER_EMPTY), stories.nothing_is_emptied),
    GuardCode.REPOSITORY_SHARE: Case(
        _code(GuardCode.REPOSITORY_SHARE), refused(EVERYTHING, per_run="share-of-repo: 50%")
    ),
    GuardCode.MANIFEST_LIMIT: Case(_code(GuardCode.MANIFEST_LIMIT), refused(EVERYTHING, per_run="manifests: 1")),
    GuardCode.TAG_LIMIT: Case(_code(GuardCode.TAG_LIMIT), refused(EVERYTHING, per_run="tags: 1")),
    GuardCode.BYTE_LIMIT: Case(_code(GuardCode.BYTE_LIMIT), refused(EVERYTHING, per_run="bytes: 1KB")),
    GuardCode.MIN_AGE: Case(ageless, stories.what_is_young_stays),
    GuardCode.INVENTORY_AGE: Case(_code(GuardCode.INVENTORY_AGE), stories.an_old_inventory_is_not_used),
    GuardCode.INCOMPLETE_INVENTORY: Case(
        _code(GuardCode.INCOMPLETE_INVENTORY), stories.what_could_not_be_read_is_not_used
    ),
    GuardCode.PULL_HISTORY: Case(_code(GuardCode.PULL_HISTORY), stories.a_short_history_of_pulls_is_not_used),
    GuardCode.OPEN_PUSH: Case(_code(GuardCode.OPEN_PUSH), stories.a_push_under_way_is_waited_for),
    GuardCode.NO_LIVE_EVENTS: Case(_code(GuardCode.NO_LIVE_EVENTS), stories.nobody_is_deaf),
    GuardCode.MISSING_SOURCE: Case(_code(GuardCode.MISSING_SOURCE), stories.what_no_source_tells_is_not_used),
    GuardCode.DELETE_DISABLED: Case(
        _code(GuardCode.DELETE_DISABLED), stories.a_registry_that_deletes_nothing_is_not_asked
    ),
    GuardCode.CANNOT_UNTAG: Case(untagging, stories.a_tag_that_cannot_go_alone_stays),
    GuardCode.CANNOT_DROP: Case(
        lambda: rewritten(planning.plan_repository, ("if registry.can_drop is True:", "if True:")),
        stories.a_repository_that_cannot_go_stays_empty,
    ),
}

_CHECKED = apply_checks.check_plan
_BEGUN = apply_steps._begin
CHECKS: dict[str, Case] = {
    "state": Case(everywhere_runnable, stories.no_plan_is_applied_that_was_rejected, _CHECKED),
    "fingerprint": Case(
        without(_CHECKED, "not seen_fingerprint == plan.fingerprint == summary.fingerprint == made"),
        stories.no_other_plan_is_applied,
        apply_checks._compute_fingerprint,
    ),
    "blocked": Case(
        without(_CHECKED, "plan.is_blocked or summary.is_blocked"), stories.no_plan_is_applied_that_is_blocked, _CHECKED
    ),
    "approvals": Case(
        without(apply_checks._check_approvals, "missing_count > 0"),
        stories.no_plan_is_applied_that_nobody_agreed_to,
        apply_checks._check_approvals,
    ),
    "expiry": Case(
        without(apply_checks._check_time, "now >= plan.expires_at"),
        stories.no_plan_is_applied_that_expired,
        apply_checks._check_time,
    ),
    "window": Case(always_open, stories.no_plan_is_applied_outside_of_its_window, apply_checks._check_time),
    "guards": Case(
        lambda: idle(cleanup, "check_guards"), stories.what_became_old_is_not_used, apply_checks.check_guards
    ),
    "blocking": Case(
        without(apply_checks._raise_blocking, "guard.state is GuardState.BLOCKS"),
        stories.what_became_old_is_not_used,
        apply_checks._raise_blocking,
    ),
    "live": Case(lambda: idle(cleanup, "check_live", result=True), stories.nobody_is_deaf, apply_checks.check_live),
    "proof": Case(lambda: idle(cleanup, "check_proof"), stories.one_bad_repository_stops_all, apply_checks.check_proof),
    "proof-again": Case(without(applying._Work._look, "self._known.violations"), stories.the_proof_is_asked_again),
    "target": Case(
        lambda: rewritten(apply_steps._compare, ("elif target != step.digest:", "elif False:")),
        stories.a_tag_that_moved_is_left_alone,
        apply_steps._compare,
    ),
    "gone": Case(
        lambda: rewritten(apply_steps._compare, ('is not") if gone else None', 'is not") if False else None')),
        stories.a_manifest_that_lost_its_tag_is_left_alone,
        apply_steps._compare,
    ),
    "gone-tag": Case(
        lambda: rewritten(
            apply_steps._compare, ('gone already") if gone else None', 'gone already") if False else None')
        ),
        stories.a_tag_that_is_gone_needs_no_request,
        apply_steps._compare,
        untags=True,
    ),
    "trash": Case(lambda: idle(trash, "put"), stories.everything_that_goes_is_kept, apply_steps.carry_out),
    "drain": Case(
        lambda: rewritten(apply_steps.carry_out, ("    await drain()\n", "")),
        stories.what_happens_in_between_is_noticed,
        apply_steps.carry_out,
    ),
    "events": Case(
        lambda: rewritten(_BEGUN, (" or not is_unconcerned(connection, known, changes, moment.at)", "")),
        stories.what_happens_in_between_is_noticed,
        _BEGUN,
    ),
    "pulls": Case(
        lambda: rewritten(_BEGUN, ("if is_pulled or", "if")), stories.what_is_pulled_in_between_stays, _BEGUN
    ),
    "holds": Case(
        lambda: rewritten(_BEGUN, ("or holds != known.holds", "")), stories.what_is_held_in_between_stays, _BEGUN
    ),
    "intent": Case(
        lambda: idle(journal, "note_intent"), stories.everything_that_goes_is_kept, apply_steps._begin_and_send
    ),
    "event-number": Case(
        lambda: rewritten(_BEGUN, ("{newest}", "{newest + 100}")), stories.what_is_pushed_in_between_comes_back, _BEGUN
    ),
    "answer": Case(blindly, stories.what_was_done_unheard_can_be_undone, apply_steps.settle_intent),
    "attempts": Case(
        lambda: patch.object(apply_steps, "_MOST_INTENTS", 99),
        stories.nobody_is_asked_for_ever,
        apply_steps.settle_intent,
    ),
    "siblings": Case(
        lambda: idle(apply_steps, "_check_manifest_stayed"),
        stories.what_goes_with_a_tag_comes_back,
        apply_steps._check_manifest_stayed,
        untags=True,
    ),
    "placeholder": Case(
        lambda: rewritten(
            apply_steps.settle_intent, ("if step.with_placeholder and target", "if not target and target")
        ),
        stories.a_placeholder_that_is_left_is_removed,
        apply_steps._remove_placeholder,
    ),
    "strange-tags": Case(lambda: idle(applying._Work, "_hold_strange_tags"), stories.a_tag_that_nobody_told_of_holds),
    "heard-all": Case(
        lambda: idle(cleanup, "has_heard_all", result=True),
        stories.a_tag_that_moved_where_nobody_listened_holds,
        apply_checks.has_heard_all,
    ),
    "reconsidering": Case(
        without(applying._Work._carry_out, "step.position not in self._known.allowed"),
        stories.what_would_stay_now_stays,
    ),
}

# These check nothing themselves: they load, send, or write down what came of it, or choose who does (``_look``). What
# they choose is looked at by ``tests/flows/test_removing_tags.py`` and ``tests/flows/test_dropping.py``.
WITHOUT_A_CHECK = {
    "_load", "_guard_live", "hears", "_knock", "was_ever_told", "skip_step", "finish_whole", "_send", "_as_deleting",
    "_end", "_moment", "_look", "_find_gone", "_end_protected", "_settle_tags", "settle_drop",
}  # fmt: skip


def tell(case: Case, *, mutated: bool) -> None:
    scene = Scene(untags=case.untags)
    try:
        with case.mutation() if mutated else ExitStack():
            case.story(scene)
    finally:
        scene.close()


@pytest.mark.parametrize("case", [*GUARDS.values(), *CHECKS.values()], ids=[*map(str, GUARDS), *CHECKS])
def test_what_is_taken_out_is_missed(case):
    tell(case, mutated=False)
    with pytest.raises((AssertionError, ExceptionGroup)):
        tell(case, mutated=True)


def test_every_guard_has_an_entry():
    assert GUARDS.keys() == set(GuardCode)


@pytest.mark.parametrize("module", [apply_checks, apply_steps], ids=lambda one: one.__name__)
def test_every_check_has_an_entry(module):
    own = {name for name, one in vars(module).items() if inspect.isfunction(one) and one.__module__ == module.__name__}
    told = {one.of.__name__ for one in CHECKS.values() if one.of is not None and one.of.__module__ == module.__name__}
    assert own - told - WITHOUT_A_CHECK == set()
