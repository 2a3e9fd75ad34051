"""``regwarden crawl``: read registries into the inventory, show the progress, say how complete the answer is."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from regwarden.cli.failures import PARTLY_DONE, report_error
from regwarden.cli.gitlab_options import gitlab_options
from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import Format
from regwarden.errors import InputError, RegwardenError

if TYPE_CHECKING:
    from regwarden.flows.crawl import CrawlReport
    from regwarden.library import Inventory


@click.command(cls=RegwardenCommand)
@click.argument("registries", nargs=-1, metavar="[URL|NAME]…")
@click.option("--name", help="What the registry is called from now on. [default: its host[:port]]")
@click.option("-u", "--user", "username", metavar="USER", help="User name. [default: the Docker configuration's]")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--password-file", metavar="FILE", help="Read the password from the first line of FILE.")
@click.option("--docker-config", metavar="FILE", help="Take the credentials from this Docker config.json.")
@click.option("--digest-auth", is_flag=True, default=None, help="The registry asks for HTTP Digest authentication.")
@click.option("--client-cert", "client_certificate", metavar="FILE", help="Client certificate (PEM).")
@click.option("--client-key", metavar="FILE", help="Its key (PEM).")
@click.option("--ca-bundle", metavar="FILE", help="Authorities to trust (PEM). [default: the system's]")
@click.option("--token-host", "token_hosts", multiple=True, metavar="HOST", help="May issue tokens. Repeatable.")
@gitlab_options
@click.option("--blob-host", "blob_hosts", multiple=True, metavar="HOST", help="May serve content. Repeatable.")
@click.option(
    "--repository", "repositories", multiple=True, metavar="PATTERN", help="Read only these. Repeatable; glob:team/**."
)
@click.option("--no-configs", is_flag=True, help="Do not read image configs: no creation time, platform or labels.")
@click.option("--verify", is_flag=True, help="Prove that everything still exists; leaves pull events.")
@click.option(
    "--verify-blobs", is_flag=True, help="Ask for each blob once; leaves pull events, which are never counted."
)
@click.option(
    "--accept-disappearance",
    is_flag=True,
    help="Believe it when suspiciously much has vanished since the last crawl, or when GitLab lists something no more "
    "and does not let us look.",
)
@click.option("--concurrency", type=click.IntRange(1, 256), help="Requests in flight at the same time. [default: 16]")
@click.option("--rate", "requests_per_second", type=float, metavar="N", help="At most N requests per second.")
@pass_invocation
def command(invocation: Invocation, registries: tuple[str, ...], **options: Any) -> int:
    """Read registries into the inventory.

    Without arguments every configured registry is read; if none is configured, the one that $REGISTRY names, or else
    every registry of the inventory. No configuration file is needed. Interrupted, run the same command again to
    continue. An unchanged registry is not read twice and gets no pull event.

    Examples:
      regwarden crawl https://registry.example.com
      regwarden crawl registry.example.com --user reader --password-stdin < password
      regwarden crawl production --repository 'glob:team/**'
      regwarden crawl https://registry.gitlab.com --gitlab https://gitlab.com --gitlab-project user/project

    Exit status: 0 complete, 3 not everything could be read, 1 a registry could not be read, 130 interrupted.
    """
    with closing(invocation.inventory()) as inventory:
        words = registries or configured_words(inventory)
        _check_name(inventory, options.get("name"), words)
        if options["username"] and len(words) > len(registries):
            raise InputError("--user is for a registry that is named", hint="Name the registry before --user.")
        arguments = crawl_arguments(options)
        _say_footprint(invocation, options)
        return crawl_all(invocation, inventory, words, arguments)


def configured_words(inventory: Inventory) -> tuple[str, ...]:
    """What a crawl without arguments means: all configured, ``$REGISTRY``, or all that the inventory knows.

    Raises ``InputError`` if there is none of these.
    """
    import os

    configured = tuple(registry.name for registry in inventory.settings.settings.registry)
    words = configured or tuple(filter(None, [os.environ.get("REGISTRY", "")]))
    words = words or tuple(row.registry for row in inventory.known_registries())
    if not words:
        raise InputError(
            "no registry is named, and none is configured or known",
            hint="Run: regwarden crawl https://registry.example.com",
            code="no-registry",
        )
    return words


def crawl_all(invocation: Invocation, inventory: Inventory, words: tuple[str, ...], arguments: dict[str, Any]) -> int:
    """Crawl one registry after the other; one that fails does not stop the others. Returns the exit status."""
    status = 0
    reports = []
    for word in words:
        try:
            report = crawl_one(invocation, inventory, word, arguments)
        except RegwardenError as error:
            if len(words) == 1:
                raise
            report_error(error.code, f"{word}: {error.message}", error.hint, as_json=invocation.wants_json)
            status = max(status, PARTLY_DONE)
            continue
        reports.append(report)
        status = max(status, PARTLY_DONE if report.state != "complete" else 0)
    _print_reports(invocation, reports)
    return 1 if words and not reports else status


def crawl_one(invocation: Invocation, inventory: Inventory, word: str, arguments: dict[str, Any]) -> CrawlReport:
    """Crawl one registry with the progress shown on stderr."""
    from regwarden.cli.progress import CrawlDisplay

    try:
        with CrawlDisplay(word.rpartition("://")[2], quiet=invocation.quiet) as display:
            return inventory.crawl(word, on_progress=display, on_warning=invocation.warn, **arguments)
    except KeyboardInterrupt:
        invocation.printer.talk("what was read is kept; run the same command again to continue")
        raise


def crawl_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The library's arguments from the command's options; reads the password."""
    from regwarden.cli.credentials import reach_arguments

    with_configs = not options.pop("no_configs")
    return {**reach_arguments(options), "with_configs": with_configs}


def _check_name(inventory: Inventory, name: str | None, words: tuple[str, ...]) -> None:
    """Refuse a ``--name`` that would make a second registry of one that has a name already."""
    if not name:
        return
    if len(words) > 1:
        raise InputError("--name is for one registry, but several are named", hint="Crawl them one by one.")
    from regwarden.settings import looks_like_url, parse_registry_url

    word = words[0]
    address = parse_registry_url(word) if looks_like_url(word) else ""
    configured = {registry.name: registry.url for registry in inventory.settings.settings.registry}
    named = [*((row.registry, "") for row in inventory.known_registries()), *configured.items()]
    called = next((other for other, url in named if other == word or (url and url == address)), name)
    if called != name:
        raise InputError(
            f"the registry {word} is called {called} already",
            hint="Leave --name out: it is for an address that has no name yet.",
        )


def _say_footprint(invocation: Invocation, options: dict[str, Any]) -> None:
    """What these two options leave at the registry, before it is left."""
    asked = [f"--{name.replace('_', '-')}" for name in ("verify", "verify_blobs") if options[name]]
    if asked:
        verb = "leave" if len(asked) > 1 else "leaves"
        invocation.printer.talk(
            f"{' and '.join(asked)} {verb} pull events at the registry; their user agent begins with regwarden/, and "
            "they are never counted as pulls"
        )


def _print_reports(invocation: Invocation, reports: list[CrawlReport]) -> None:
    from dataclasses import asdict

    from regwarden.cli.certificates import report_lines

    if invocation.output == Format.TABLE:
        for report in reports:
            for line in report_lines(report):
                click.echo(line)
        return
    rows = [
        {
            "registry": report.registry,
            "state": report.state,
            **asdict(report.certificate),
            "problems": [asdict(problem) for problem in report.problems],
        }
        for report in reports
    ]
    invocation.printer.rows(rows, tuple(rows[0]) if rows else ())
