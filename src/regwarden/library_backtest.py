"""How does a question about the past become a backtest: which repositories, since when, in which steps?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.backtesting import Backtest, BacktestInputs, backtest, list_moments
from regwarden.core.holding import GroupedHolds
from regwarden.core.patterns import PatternSet
from regwarden.core.policy import Policy
from regwarden.core.policy_values import parse_scope_pattern
from regwarden.core.quantities import parse_duration
from regwarden.core.retention import collect_policies, needs_of
from regwarden.errors import InputError
from regwarden.library_approvals import parse_since
from regwarden.library_policy_texts import is_in_registry_scope, parse_policy_texts
from regwarden.library_rows import Row
from regwarden.store import reports
from regwarden.store.collector import collector_paused
from regwarden.store.observed import load_registry
from regwarden.store.protections import load_holds
from regwarden.store.recorded import find_pinned, history_begin, iterate_recorded, load_sizes


@dataclass(frozen=True, slots=True)
class BacktestProgress:
    """How far a backtest is."""

    repositories_done: int
    tags_done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestCall:
    """One call of ``Inventory.backtest``."""

    policies: Mapping[str, str]
    repositories: Sequence[str]
    since: str
    every: str
    known_zones: frozenset[str] = field(repr=False)
    now: datetime
    reach: Reach = EVERYTHING
    on_progress: Callable[[BacktestProgress], None] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestReport:
    """What policies would have done.

    ``summary`` sums up (``failed_pull_count`` are pulls that would have failed, ``failed_use_count`` those of classes
    that count as use), ``steps`` has one row for each run, ``regrets`` one for each thing that was missed, worst first.
    """

    summary: Row
    steps: tuple[Row, ...]
    regrets: tuple[Row, ...]


def run_backtest(connection: Any, call: BacktestCall) -> BacktestReport:
    """Read the histories and replay the policies over them. Raises ``InputError``."""
    policies = parse_policy_texts(call.policies, call.known_zones)
    found_names = (one.registry for one in reports.registry_overview(connection))
    known = sorted(name for name in found_names if call.reach.touches(name))
    names = [name for name in known if any(is_in_registry_scope(one, name) for one in policies)]
    begins = [begun for name in names if (begun := history_begin(connection, name)) is not None]
    if not begins:
        hint = "See scope.registries, and regwarden registry list."
        raise InputError("no registry of the inventory is in the scope", hint=hint, code="nothing-in-scope")
    since = parse_since(call.since, call.now) or call.now
    begins_at = max(since, min(begins))
    moments = list_moments(begins_at, call.now, parse_duration(call.every))
    if not moments:
        message = f"there is no midnight (UTC) between {begins_at:%Y-%m-%d %H:%M} UTC and now"
        hint = "A backtest needs history: crawl, receive notifications, and wait some days."
        raise InputError(message, hint=hint, code="bad-backtest")
    scope = _Scope(policies, call.repositories, call.reach)
    with collector_paused():
        found = _replay(connection, call, scope, names, moments)
    if not found.repository_count:
        hint = "regwarden repository list shows what there is."
        raise InputError("no repository of the inventory is in the scope", hint=hint, code="nothing-in-scope")
    notes = list(found.notes)
    if begins_at > since:
        notes.insert(0, f"the history begins on {begins_at:%Y-%m-%d}: what was before is not known")
    return _report(found, begins_at, notes)


class _Scope:
    """Which repositories are looked at."""

    def __init__(self, policies: tuple[Policy, ...], repositories: Sequence[str], reach: Reach) -> None:
        self.policies = policies
        self._reach = reach
        patterns = tuple(parse_scope_pattern(text) for text in repositories)
        self._chosen = PatternSet(patterns, ()) if patterns else None

    def names(self, registry: str) -> Callable[[str], bool]:
        """Says of a repository of a registry whether it is looked at."""
        return lambda name: (
            (self._chosen is None or self._chosen.matches(name))
            and self._reach.has(registry, name)
            and collect_policies(self.policies, registry, name) is not None
        )


def _replay(
    connection: Any, call: BacktestCall, scope: _Scope, names: Sequence[str], moments: tuple[datetime, ...]
) -> Backtest:
    tell = call.on_progress
    needs = needs_of(scope.policies)
    inputs = BacktestInputs(
        policies=scope.policies,
        registries={name: load_registry(connection, name) for name in names},
        moments=moments,
        ends_at=call.now,
        holds=GroupedHolds(hold for name in names for hold in load_holds(connection, name, moments[0])),
        pinned={name: find_pinned(connection, name, scope.names(name)) for name in names},
    )
    return backtest(
        inputs,
        (one for name in names for one in iterate_recorded(connection, name, scope.names(name), needs)),
        lambda _registry, numbers: load_sizes(connection, numbers),
        on_repository=lambda done, tags: tell(BacktestProgress(done, tags)) if tell is not None else None,
    )


def _report(found: Backtest, begins_at: datetime, notes: Sequence[str]) -> BacktestReport:
    steps = tuple(Row({**asdict(one), "saved_bytes": one.saved_bytes}) for one in found.steps)
    summary = {
        "begins_at": begins_at,
        "ended_at": found.ended_at,
        "run_count": len(steps),
        "repository_count": found.repository_count,
        "tag_count": found.tag_count,
        "removed_tag_count": sum(one.tag_count for one in found.steps),
        "removed_manifest_count": sum(one.manifest_count for one in found.steps),
        "failed_pull_count": sum(one.failed_count for one in found.steps),
        "failed_use_count": sum(one.failed_use_count for one in found.steps),
        "first_failed_at": min((one.first_at for one in found.regrets), default=None),
        "regret_count": len(found.regrets),
        "stored_bytes": found.steps[-1].stored_bytes,
        "stored_with_policy_bytes": found.steps[-1].stored_with_policy_bytes,
        "saved_bytes": found.steps[-1].saved_bytes,
        "notes": list(notes),
    }
    regrets = tuple(Row({**one._asdict(), "by_class": dict(one.by_class)}) for one in found.regrets)
    return BacktestReport(summary=Row(summary), steps=steps, regrets=regrets)
