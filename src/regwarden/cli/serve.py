"""``regwarden serve``: run the service until it is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import say

if TYPE_CHECKING:
    from regwarden.service import Ready


@click.command(cls=RegwardenCommand)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    help="HOST:PORT or unix:/path/to/socket. Repeatable. [default: 127.0.0.1:8350, or [server] in the configuration]",
)
@pass_invocation
def command(invocation: Invocation, listen: tuple[str, ...]) -> None:
    """Take in notifications, crawl by schedule, keep the inventory live and serve it, until stopped.

    Registries send their notifications to /hooks/NAME; `regwarden registry check NAME` prints what to configure
    there. Every configured registry is crawled at its own interval. /healthz and /readyz tell how the service is.
    /api/v1 answers those who show a token; on a first start that only this machine can reach, one is printed.
    SIGTERM or Ctrl-C ends it: what was acknowledged is on the disk.

    Examples:
      regwarden serve
      regwarden serve --listen 0.0.0.0:8350 --listen unix:/run/regwarden/hooks.sock

    Exit status: 0 stopped, 1 it cannot run.
    """
    import os

    from regwarden.service import serve
    from regwarden.telemetry import configure_logging
    from regwarden.wiring import run_async

    level = max(invocation.verbose, 0 if invocation.quiet else 1)
    configure_logging(verbose=level, quiet=invocation.quiet, shows_requests=invocation.verbose > 0)
    run_async(serve(invocation.loaded, os.environ, listen, on_ready=lambda ready: _tell(invocation, ready)))


def _tell(invocation: Invocation, ready: Ready) -> None:
    """Say where the service is, and what to do next."""
    talk = invocation.printer.talk
    for address in ready.addresses:
        talk(f"listening on {address}")
    for name, address in ready.compatible_addresses.items():
        talk(f"listening as {name} on {address}")
    if ready.has_api and ready.addresses:
        talk(f"API: {ready.addresses[0]}/api/v1, described at {ready.addresses[0]}/api/v1/docs")
    if ready.setup.token is not None:
        say(f"first token, shown only now, valid for a day: {ready.setup.token}")
    if ready.setup.hint:
        say(ready.setup.hint)
    talk(f"database: {ready.database}")
    for name, schedule in ready.schedules.items():
        talk(f"registry {name}: crawl schedule {schedule}")
    for name, reason in ready.problems.items():
        talk(f"registry {name}: not crawled until the service is started again: {reason}")
    if not ready.schedules and not ready.problems:
        talk("no registry is configured; `regwarden config default` shows how to")
        return
    talk("notifications: `regwarden registry check NAME` prints what to configure in a registry")
