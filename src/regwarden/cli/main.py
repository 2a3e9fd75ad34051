"""The ``regwarden`` command: its groups, and how every run of it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NoReturn

import click

from regwarden._version import __version__
from regwarden.cli.failures import OutputClosed, run_guarded
from regwarden.cli.invocation import Invocation, LazyGroup

_COMMANDS: Final = {
    "demo": "demo",
    "crawl": "crawl",
    "serve": "serve",
    "usage": "usage",
    "repository": "repository",
    "tag": "tag",
    "manifest": "manifest",
    "blob": "blob",
    "pull": "pull",
    "event": "event",
    "registry": "registry",
    "gitlab": "gitlab",
    "export": "export",
    "policy": "policy",
    "plan": "plan",
    "protection": "protection",
    "allow": "allow",
    "audit": "audit",
    "token": "token",
    "config": "config",
    "db": "db",
}


class RootGroup(LazyGroup):
    """The root group; errors end in a sentence and a documented exit status."""

    def main(  # type: ignore[override]  # it always ends the process, whatever mode is asked for
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002 - always called regwarden
        **extra: Any,
    ) -> NoReturn:
        """Run the command line and leave the process with its exit status."""
        invocation = Invocation()
        words = sys.argv[1:] if args is None else list(args)
        extra |= {"standalone_mode": False, "obj": invocation}

        def call() -> object:
            return super(RootGroup, self).main(words, "regwarden", **extra)

        status = run_guarded(
            call,
            wants_json=lambda: invocation.wants_json or _asks_for_json(words),
            is_verbose=lambda: bool(invocation.verbose),
        )
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise OutputClosed from None


def _asks_for_json(words: Sequence[str]) -> bool:
    """Whether ``--output json`` stands in a command line that may be too wrong to be understood."""
    return "--output=json" in words or ("--output", "json") in pairwise(words)


@click.group(
    cls=RootGroup,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 failed, 2 the command cannot be understood, 3 partly done, 130 interrupted.",
)
@click.version_option(__version__, prog_name="regwarden", message="%(prog)s %(version)s")
def cli() -> None:
    """Know what is in your container registries and what it weighs.

    Begin with `regwarden demo`, or with `regwarden crawl https://registry.example.com`, then ask: `regwarden usage`,
    `regwarden tag list`.
    """


def main() -> None:
    """Entry point of the ``regwarden`` command."""
    cli()
