"""What ``Inventory`` answers about policies: why something stays or goes, and what a policy would have done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from regwarden import clock
from regwarden.core.access import Reach

if TYPE_CHECKING:
    from regwarden.library_backtest import BacktestProgress, BacktestReport
    from regwarden.library_explain import ExplainReport

T = TypeVar("T")


class PolicyQuestions:
    """The part of ``Inventory`` that tries policies out. Nothing is changed, at no registry and in no database."""

    _reach: Reach

    def _read(self, work: Callable[[Any], T]) -> T:
        raise NotImplementedError

    def explain(
        self,
        reference: str,
        *,
        policies: Mapping[str, str] | None = None,
        plan_id: int | None = None,
        registry: str | None = None,
        waive: Sequence[str] = (),
        known_zones: frozenset[str] = frozenset(),
    ) -> ExplainReport:
        """Why a tag or manifest stays or goes, when it would go, and what would change that.

        ``reference`` is ``[REGISTRY/]REPOSITORY:TAG`` or ``REPOSITORY@DIGEST``. Either by ``policies``, texts by the
        name of their file, or by those of a stored plan. Raises ``InputError`` (codes ``bad-reference``,
        ``bad-policy``, ``nothing-in-scope``) and ``NotFound`` for what the inventory or the plan does not know.
        """
        from regwarden.library_explain import ExplainCall, run_explain

        call = ExplainCall(
            reference=reference,
            policies=policies or {},
            plan_id=plan_id,
            registry=registry,
            waive=tuple(waive),
            known_zones=known_zones,
            now=clock.now(),
            reach=self._reach,
        )
        return self._read(lambda connection: run_explain(connection, call))

    def backtest(
        self,
        policies: Mapping[str, str],
        *,
        repositories: Sequence[str] = (),
        since: str = "90d",
        every: str = "7d",
        known_zones: frozenset[str] = frozenset(),
        on_progress: Callable[[BacktestProgress], None] | None = None,
    ) -> BacktestReport:
        """What policies would have removed, freed and broken, had they run over the recorded history.

        ``policies`` are texts by the name of their file, ``repositories`` patterns of those that are looked at
        (none: all in the scope), ``since`` a moment or an age, ``every`` the time between two runs in whole days.
        Raises ``InputError`` (codes ``bad-policy``, ``bad-backtest``, ``nothing-in-scope``).
        """
        from regwarden.library_backtest import BacktestCall, run_backtest

        call = BacktestCall(
            policies=policies,
            repositories=tuple(repositories),
            since=since,
            every=every,
            known_zones=known_zones,
            now=clock.now(),
            reach=self._reach,
            on_progress=on_progress,
        )
        return self._read(lambda connection: run_backtest(connection, call))
