"""What does a person see while a registry is crawled: a live display in a terminal, a line now and then elsewhere?"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from regwarden import clock
from regwarden.cli.output import say
from regwarden.cli.plan_progress import live_display
from regwarden.cli.values import counted, escape_controls

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from regwarden.flows.crawl import Progress

_LINE_SECONDS: Final = 10.0
_REDRAW_SECONDS: Final = 0.1
_PHASES: Final = {"listing": "listing", "reading": "reading", "sizes": "computing sizes", "done": "done"}


class CrawlDisplay:
    """Shows the progress of one crawl at a time; call it with each ``Progress``, use it as a context manager."""

    def __init__(self, registry: str, *, quiet: bool) -> None:
        self._registry = registry
        self._quiet = quiet
        self._live: RichProgress | None = None
        self._task = 0
        self._shown_at = clock.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._live = live_display()
            self._task = self._live.add_task(f"{self._registry}: listing", total=None, detail="")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Show ``progress``, if the last showing is long enough ago."""
        moment = clock.monotonic()
        wait = _REDRAW_SECONDS if self._live is not None else _LINE_SECONDS
        if self._quiet or (moment - self._shown_at < wait and progress.phase != "done"):
            return
        self._shown_at = moment
        if self._live is not None:
            self._live.update(
                self._task,  # type: ignore[arg-type]  # rich's task ids are whole numbers
                description=escape_controls(f"{self._registry}: {_PHASES.get(progress.phase, progress.phase)}"),
                completed=progress.repositories_done,
                total=progress.repositories_total or None,
                detail=_detail(progress),
            )
        elif progress.phase != "done":
            say(
                f"{escape_controls(self._registry)}: {_PHASES.get(progress.phase, progress.phase)}, "
                f"{progress.repositories_done:,} of {progress.repositories_total:,} repositories, {_detail(progress)}"
            )


def _detail(progress: Progress) -> str:
    parts = [counted(progress.tags_done, "tag"), counted(progress.manifests_fetched, "manifest")]
    if progress.problems:
        parts.append(counted(progress.problems, "problem"))
    return ", ".join(parts)
