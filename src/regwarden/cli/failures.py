"""What does a user see, and which exit status does a program get, when something goes wrong?

0 done, 1 failed, 2 the command cannot be understood, 3 partly done, 130 interrupted,
141 whoever read our output has gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

import click

from regwarden.cli.output import say
from regwarden.cli.values import escape_controls
from regwarden.errors import RegistryError, RegwardenError

FAILED: Final = 1
USAGE: Final = 2
PARTLY_DONE: Final = 3
INTERRUPTED: Final = 130
# What a shell reports of a program that SIGPIPE ended; systems without that signal call it a success.
OUTPUT_CLOSED: Final = 141 if hasattr(signal, "SIGPIPE") else 0


class OutputClosed(Exception):
    """Whoever read our output has gone. Under this name it gets past click, which would end with status 1."""


def run_guarded(call: Callable[[], object], *, wants_json: Callable[[], bool], is_verbose: Callable[[], bool]) -> int:
    """Run a command and return its exit status; whatever goes wrong becomes two lines on stderr."""
    try:
        status = call()
        sys.stdout.flush()
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return USAGE
    except click.ClickException as error:
        return _usage_error(error, wants_json())
    except RegwardenError as error:
        return _deliberate_error(error, wants_json(), is_verbose())
    except (OutputClosed, BrokenPipeError, SystemExit) as ending:
        # rich turns a broken pipe into an exit with status 1.
        if isinstance(ending, SystemExit) and not isinstance(ending.__context__, BrokenPipeError):
            raise
        return _end_quietly()
    except Exception as error:  # noqa: BLE001 - the one place where an unforeseen error must end in a sentence
        return _unforeseen_error(error, wants_json(), is_verbose())
    return status if isinstance(status, int) else 0


def report_error(code: str, message: str, hint: str, *, as_json: bool = False) -> None:
    """Print an error as ``error[code]: …`` and ``hint: …``, or for programs as one line with a JSON object."""
    if as_json:
        say(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
        return
    say(f"error[{code}]: {escape_controls(message)}")
    if hint:
        say(f"hint: {escape_controls(hint)}")


def _end_quietly() -> int:
    """Whoever read our output has seen enough; Python must not complain when it closes the pipe at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OUTPUT_CLOSED


def _usage_error(error: click.ClickException, as_json: bool) -> int:
    hint = "Run `regwarden --help`."
    context = getattr(error, "ctx", None)
    if context is not None:
        hint = f"Run `{context.command_path} --help`."
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        hint = f"Did you mean {' or '.join(sorted(error.possibilities))}? {hint}"
        message = f"there is no option {error.option_name}"
    else:
        message = " ".join(error.format_message().split()).rstrip(".")
    report_error("usage", message, hint, as_json=as_json)
    return USAGE


def _deliberate_error(error: RegwardenError, as_json: bool, is_verbose: bool) -> int:
    report_error(error.code, error.message, error.hint, as_json=as_json)
    if is_verbose and not as_json and isinstance(error, RegistryError) and error.diagnostics:
        say(f"the registry said: {escape_controls(error.diagnostics)}")
    return error.exit_status


def _unforeseen_error(error: Exception, as_json: bool, is_verbose: bool) -> int:
    from regwarden.telemetry import hide_secrets

    if is_verbose:
        import structlog

        structlog.get_logger().error("unforeseen error", exc_info=error)
    report_error(
        "unforeseen",
        f"this should not have happened ({type(error).__name__}: {hide_secrets(str(error))[:300]})",
        "Please report it with the output of the same command and --verbose.",
        as_json=as_json,
    )
    return FAILED
