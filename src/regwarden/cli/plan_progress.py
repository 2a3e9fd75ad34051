"""What does a person see while something is planned, applied or undone: one line that is kept up to date."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from regwarden import clock
from regwarden.cli.output import say
from regwarden.cli.values import escape_controls

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_LINE_SECONDS: Final = 10.0
_REDRAW_SECONDS: Final = 0.1


class LineDisplay:
    """Shows how far a long work is; use it as a context manager and tell it with ``show``."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live: RichProgress | None = None
        self._task = 0
        self._shown_at = clock.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._live = live_display()
            self._task = self._live.add_task("", total=None, detail="")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, phase: str, done: int, total: int, detail: str = "") -> None:
        """``done`` of ``total`` (0: nobody knows), if the last showing is long enough ago."""
        moment = clock.monotonic()
        wait = _REDRAW_SECONDS if self._live is not None else _LINE_SECONDS
        if self._quiet or moment - self._shown_at < wait:
            return
        self._shown_at = moment
        if self._live is not None:
            self._live.update(
                self._task,  # type: ignore[arg-type]  # rich's task ids are whole numbers
                description=escape_controls(phase),
                completed=done,
                total=total or None,
                detail=escape_controls(detail),
            )
            return
        of = f" of {total:,}" if total else ""
        say(escape_controls(f"{phase}: {done:,}{of}{', ' + detail if detail else ''}"))


def live_display() -> RichProgress:
    """A line on stderr with a description, a bar, counts and a ``detail``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=8,
    )
