"""``regwarden registry``: which registries there are, and whether one can be asked."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden.cli.gitlab_options import gitlab_options
from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.listing import registry_list_options, run_list
from regwarden.cli.output import Format
from regwarden.cli.values import counted, escape_controls, human_duration

if TYPE_CHECKING:
    from regwarden.library_check import RegistryCheck

_ABILITIES: Final = {
    "catalog": "list its repositories",
    "referrers": "list referrers (OCI 1.1)",
    "delete": "delete manifests",
    "delete_tag": "remove tags alone",
}
_DELETION: Final = frozenset({"delete", "delete_tag"})


@click.group(cls=RegwardenGroup)
def command() -> None:
    """List registries, or check one."""


@command.command("list")
@registry_list_options
@pass_invocation
def list_(invocation: Invocation, **options: Any) -> int:
    """List the configured registries and those in the inventory, or those that are named.

    Examples:
      regwarden registry list
      regwarden registry list --where 'crawled < 1d' --sort -stored_bytes
    """
    return run_list(invocation, "registry", options)


@command.command()
@click.argument("registries", nargs=-1, metavar="[URL|NAME]…")
@click.option("-u", "--user", "username", metavar="USER", help="User name. [default: the Docker configuration's]")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--password-file", metavar="FILE", help="Read the password from the first line of FILE.")
@click.option("--docker-config", metavar="FILE", help="Take the credentials from this Docker config.json.")
@click.option("--digest-auth", is_flag=True, help="The registry asks for HTTP Digest authentication.")
@click.option("--client-cert", "client_certificate", metavar="FILE", help="Client certificate (PEM).")
@click.option("--client-key", metavar="FILE", help="Its key (PEM).")
@click.option("--ca-bundle", metavar="FILE", help="Authorities to trust (PEM). [default: the system's]")
@click.option("--token-host", "token_hosts", multiple=True, metavar="HOST", help="May issue tokens. Repeatable.")
@gitlab_options
@click.option(
    "--notifications",
    "form",
    type=click.Choice(["lean", "full", "none"]),
    default="lean",
    show_default=True,
    help="Which block to print: without or with events of blobs.",
)
@click.option(
    "--for",
    "flavour",
    type=click.Choice(["distribution", "gitlab"]),
    help="Whose configuration the block is for. [default: by the kind of the registry]",
)
@click.option("--hook-url", metavar="URL", help="How the registry reaches the service. [default: server.public_url]")
@pass_invocation
def check(invocation: Invocation, registries: tuple[str, ...], **options: Any) -> int:
    """Check that registries answer and accept the credentials, and that their notifications arrive.

    Says what they can do, and prints what to paste into a registry's configuration so that it sends its events, with
    its secret, which is made if there is none, and so that it deletes, where that is switched off. Whether it deletes
    is asked in a repository that the inventory knows, about a manifest and a tag that cannot exist; the user needs the
    right to delete. The registry is not changed, and no pull event is left. Exit status: 0 all are well, 1 one is not.

    Examples:
      regwarden registry check https://registry.example.com
      regwarden registry check production --notifications full --hook-url https://regwarden.example.com
    """
    from regwarden.cli.crawl import configured_words
    from regwarden.cli.credentials import reach_arguments
    from regwarden.cli.notifications import print_notifications

    block, flavour = {"form": options.pop("form"), "address": options.pop("hook_url") or ""}, options.pop("flavour")
    with closing(invocation.inventory()) as inventory:
        words = registries or configured_words(inventory)
        arguments = reach_arguments(options)
        checks = [inventory.check(word, on_warning=invocation.warn, **arguments) for word in words]
        reports = [
            inventory.notifications(one.registry, flavour=flavour or _flavour_of(invocation, one), **block)
            for one in checks
        ]
        hosts = inventory.unknown_hosts()
    if invocation.output != Format.TABLE:
        rows = [
            {**one.to_record(), "notifications": report.to_record(), "unknown_hosts": hosts}
            for one, report in zip(checks, reports, strict=True)
        ]
        invocation.printer.rows(rows, tuple(rows[0]))
    else:
        for one, report in zip(checks, reports, strict=True):
            _print_check(invocation, one)
            print_notifications(invocation, report, hosts if one is checks[-1] else ())
    return 1 if any(one.error for one in checks) else 0


@command.command()
@click.argument("registry", metavar="NAME")
@click.option("--rotate", is_flag=True, help="Make a new one; the one before it stays valid until the next time.")
@pass_invocation
def secret(invocation: Invocation, registry: str, *, rotate: bool) -> None:
    """Print the secrets that authenticate the notifications of a configured registry, the newest first.

    Two are valid at a time, so that a registry's configuration can be changed without losing events. One is made if
    there is none.

    Examples:
      regwarden registry secret production
      regwarden registry secret production --rotate
    """
    with closing(invocation.inventory()) as inventory:
        found = inventory.registry_secrets(registry, rotate=rotate)
    if invocation.output == Format.TABLE:
        for one in found.secrets:
            click.echo(escape_controls(one))
        return
    rows = [{"registry": found.registry, "secret": one, "source": found.source} for one in found.secrets]
    invocation.printer.rows(rows, ("registry", "secret", "source"))


def _flavour_of(invocation: Invocation, check: RegistryCheck) -> str:
    """Whose configuration a registry has; who could not be asked is known by the settings alone."""
    configured = invocation.loaded.find_registry(check.registry)
    is_of_gitlab = check.access is not None or (configured is not None and configured.kind == "gitlab")
    return "gitlab" if is_of_gitlab else "distribution"


def _print_check(invocation: Invocation, check: RegistryCheck) -> None:
    from regwarden import clock

    name = check.registry if check.registry == check.url.partition("://")[2] else f"{check.registry} ({check.url})"
    if check.error:
        click.echo(escape_controls(f"{name}: {check.error.message}"))
        invocation.printer.talk(escape_controls(f"hint: {check.error.hint}"))
    else:
        server = f", server {check.server}" if check.server else ""
        click.echo(escape_controls(f"{name}: answers{server}"))
        click.echo(f"  credentials: {check.credentials_source}")
        for ability, words in _ABILITIES.items():
            if check.access is not None and ability not in _DELETION:
                continue  # of a GitLab more is said below
            state = check.capabilities.get(ability, "unknown")
            answer = {"supported": "can", "unsupported": "cannot"}.get(state, "not known whether it can")
            is_doubted = answer.startswith("not") and ability in _DELETION and check.deletion_doubt
            doubt = escape_controls(f": {check.deletion_doubt}") if is_doubted else ""
            click.echo(f"  {answer} {words}{doubt}")
        _print_switching_on(check)
        if check.access is not None:
            from regwarden.cli.gitlab_access import access_lines

            for line in access_lines(check.access):
                click.echo(escape_controls(f"  {line}"))
    if check.crawled_at is None:
        click.echo("  never crawled")
    else:
        age = human_duration(clock.now() - check.crawled_at)
        found = f"{counted(check.tag_count, 'tag')}, {counted(check.problem_count, 'problem')}"
        click.echo(f"  last crawl: {check.crawl_state}, {age} ago, {found}")


def _print_switching_on(check: RegistryCheck) -> None:
    if not check.deletion_configuration:
        return
    lines, variable = check.deletion_configuration
    click.echo("  Deletion is switched off. In the configuration of Distribution these lines switch it on:")
    click.echo("".join(f"    {line}\n" for line in lines.splitlines()), nl=False)
    click.echo(f"  or, in its environment: {variable}")
