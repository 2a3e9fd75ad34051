"""What does every command know: the options that are the same everywhere, the settings, the inventory?"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regwarden.cli.output import Format, Printer

if TYPE_CHECKING:
    from regwarden.library import Inventory
    from regwarden.settings_sources import LoadedSettings


@dataclass
class Invocation:
    """The common options as far as they were read; grows while click parses."""

    database: str | None = None
    config: str | None = None
    output: str = Format.TABLE
    bytes: bool = False
    verbose: int = 0
    quiet: bool = False

    @property
    def printer(self) -> Printer:
        """Prints as ``--output`` and ``--bytes`` say."""
        return Printer(Format(self.output), exact_bytes=self.bytes, quiet=self.quiet)

    @property
    def wants_json(self) -> bool:
        """Whether errors are also told to a program."""
        return self.output == Format.JSON

    @property
    def config_file(self) -> Path | None:
        """The file named by ``--config``."""
        return Path(self.config) if self.config else None

    @cached_property
    def loaded(self) -> LoadedSettings:
        """The settings in force; their warnings are said once."""
        from regwarden.settings_sources import load_settings

        loaded = load_settings(os.environ, file=self.config_file, database=self.database)
        for warning in loaded.warnings:
            self.warn(warning)
        return loaded

    @property
    def database_url(self) -> str:
        """The database in force."""
        from regwarden.settings_sources import default_database

        return self.loaded.settings.database or default_database()

    def inventory(self) -> Inventory:
        """The library's view of the inventory, with the settings in force; close it after use."""
        from regwarden.library import Inventory

        return Inventory(self.loaded)

    def warn(self, text: str) -> None:
        """Say on stderr what looks wrong or unsafe."""
        from regwarden.cli.values import escape_controls

        self.printer.talk(f"warning: {escape_controls(text)}")

    def configure_logging(self) -> None:
        """Set up the log once all options are known."""
        if self.verbose or self.quiet:
            from regwarden.telemetry import configure_logging

            configure_logging(verbose=self.verbose, quiet=self.quiet, shows_requests=self.verbose > 0)


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Keep a common option; one given after the command overrules one given before it."""
    if value not in (None, False, 0):
        setattr(context.ensure_object(Invocation), str(parameter.name), value)


def common_options() -> list[click.Option]:
    """The options that are accepted before and after every command."""
    shared: dict[str, Any] = {"expose_value": False, "callback": _remember}
    return [
        click.Option(
            ["--database"],
            metavar="URL",
            help="sqlite:///FILE, postgresql://… or :memory: [env: REGWARDEN_DATABASE; default: a file of the user]",
            **shared,
        ),
        click.Option(["--config"], metavar="FILE", help="Configuration file. [env: REGWARDEN_CONFIG]", **shared),
        click.Option(
            ["--output"],
            type=click.Choice([str(form) for form in Format]),
            help="Output format. [default: table]",
            **shared,
        ),
        click.Option(["--bytes"], is_flag=True, help="Sizes as exact numbers of bytes in tables.", **shared),
        click.Option(
            ["-v", "--verbose"],
            count=True,
            help="Log more to stderr, each request with its time; twice: everything.",
            **shared,
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="Say nothing on stderr but errors.", **shared),
    ]


class RegwardenCommand(click.Command):
    """A command that accepts the common options and lists them apart from its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _keep_lines(self.help or "")
        self._common = common_options()
        self.params.extend(self._common)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the common ones."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], "Common options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record:
                sections["Common options" if parameter in self._common else "Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records, col_max=28)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command with logging as asked for."""
        ctx.ensure_object(Invocation).configure_logging()
        return super().invoke(ctx)


def _keep_lines(text: str) -> str:
    """Tell click not to rewrap paragraphs that have indented lines: examples and lists of terms."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(f"\b\n{part}" if "\n  " in part or part.startswith("  ") else part for part in paragraphs)


class RegwardenGroup(click.Group):
    """A group whose commands accept the common options."""

    command_class = RegwardenCommand

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments begin with; a misspelt one is answered with the nearest."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            raise click.UsageError(f"there is no command {name}" + (f"; did you mean {near[0]}?" if near else ""), ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(RegwardenGroup):
    """The root group: a command's module is imported only when the command is used or listed."""

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}
        self._common = common_options()
        self.params.extend(self._common)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands, in the order of the table in ``main``."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name."""
        if cmd_name not in self._lazy:
            return None
        from importlib import import_module

        module = import_module(f"regwarden.cli.{self._lazy[cmd_name]}")
        command: click.Command = module.command
        return command


pass_invocation: Callable[..., Any] = click.make_pass_decorator(Invocation, ensure=True)
