"""``regwarden demo``: see everything at work, with the bundled sample registry or one of your own."""

from __future__ import annotations

import re
import shutil
import sys
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.errors import InputError, StoreError

if TYPE_CHECKING:
    from regwarden.library import Inventory, Row

_SAMPLE: Final = "sample"
_SAMPLE_ADDRESS: Final = "http://127.0.0.1:"


@click.command(cls=RegwardenCommand)
@click.argument("registry", required=False, metavar="[URL]")
@click.option("-u", "--user", "username", metavar="USER", help="User name. [default: the Docker configuration's]")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--password-file", metavar="FILE", help="Read the password from the first line of FILE.")
@pass_invocation
def command(invocation: Invocation, registry: str | None, **options: Any) -> int:
    """Crawl a registry, report what it holds, and say what to try next.

    Without URL a sample registry with the images of an invented company is started on this machine, only for as long
    as the command runs. Its inventory goes to a file of its own, begun anew each time; with --database, to that
    database, which must hold nothing but the sample. A registry of yours gets a file of its own as well.

    Example: regwarden demo
    """
    from regwarden.cli.credentials import reach_arguments

    if invocation.database is None:
        invocation.database = _demo_database(registry)
    arguments = reach_arguments(options)
    if registry is None:
        _begin_anew(invocation)
    with closing(invocation.inventory()) as inventory, _sample_or(registry) as url:
        return _run(invocation, inventory, url, arguments, is_sample=registry is None)


def _run(invocation: Invocation, inventory: Inventory, url: str, arguments: dict[str, Any], *, is_sample: bool) -> int:
    from regwarden.cli.crawl import crawl_all
    from regwarden.cli.usage import print_usage

    if is_sample:
        click.echo(f"A sample registry runs at {url}, with the images of an invented company.\n")
        arguments = {**arguments, "name": _SAMPLE, "accept_disappearance": True}
    status = crawl_all(invocation, inventory, (url,), arguments)
    click.echo()
    name = _SAMPLE if is_sample else url
    known = [row.registry for row in inventory.registries() if name in (row.registry, row.url)]
    print_usage(invocation.printer, inventory.usage(*known, top=5))
    _print_next_steps(invocation, inventory)
    return status


def _print_next_steps(invocation: Invocation, inventory: Inventory) -> None:
    """Commands that can be pasted, about what is really there."""
    report = inventory.usage(top=1)
    repository = report.by_stored[0].repository if report.by_stored else ""
    tag = f"{report.largest_tags[0].repository}:{report.largest_tags[0].tag}" if report.largest_tags else ""
    commands = [
        "repository list --sort -exclusive_bytes",
        f"tag list {_quoted(repository)} --sort -created" if repository else "",
        "tag list --where 'size > 100MiB' --where 'created > 90d'",
        f"tag show {_quoted(tag)}" if tag else "",
        "export tag --to tags.csv",
    ]
    database = f"--database {_quoted(str(invocation.database))}"
    invocation.printer.heading("Try next")
    program = _program()
    for text in filter(None, commands):
        click.echo(f"  {program} {database} {text}")
    click.echo(f"\nYour own registry: {program} crawl https://registry.example.com, then: {program} usage")


def _program() -> str:
    """How to call us: by name where that finds this installation, else by the path that was used."""
    called = Path(sys.argv[0])
    if called.name != "regwarden":
        return "regwarden"
    found = shutil.which("regwarden")
    is_ours = found is not None and Path(found).resolve() == called.resolve()
    return "regwarden" if is_ours else _quoted(sys.argv[0])


def _sample_or(registry: str | None) -> AbstractContextManager[str]:
    """The address to crawl: the one given, or that of a sample registry which runs until the block ends."""
    if registry is not None:
        return nullcontext(registry)
    from regwarden.cli.sample import running_sample

    return running_sample()


def _demo_database(registry: str | None) -> str:
    """A file for the sample, and one for each registry: their inventories do not mix."""
    import platformdirs

    from regwarden.settings import parse_registry_url, registry_name_of

    name = "demo"
    if registry is not None:
        name += "-" + re.sub(r"[^a-z0-9.-]", "_", registry_name_of(parse_registry_url(registry)).lower())
    return f"sqlite:///{platformdirs.user_data_path('regwarden', appauthor=False) / f'{name}.sqlite3'}"


def _registries_in(invocation: Invocation) -> list[Row]:
    """The registries of an inventory that may not exist yet."""
    with closing(invocation.inventory()) as inventory:
        try:
            return inventory.registries()
        except StoreError as error:
            if error.code != "no-inventory":
                raise
            return []


def _begin_anew(invocation: Invocation) -> None:
    """Remove the inventory of an earlier sample, whose dates and so digests were others; refuse any other inventory.

    Raises ``InputError`` if the database holds a registry that is not the sample, ``StoreError`` if it is in use.
    """
    from regwarden.store.addresses import parse_database_address
    from regwarden.store.upkeep import migrate

    known = _registries_in(invocation)
    if not known:
        return
    file = parse_database_address(invocation.database_url).file
    if file is None or any(row.registry != _SAMPLE or not row.url.startswith(_SAMPLE_ADDRESS) for row in known):
        raise InputError(
            "the sample registry needs a database of its own, but this one holds another inventory",
            hint="Leave --database out, or name a file that does not exist yet.",
        )
    # Opening it for writing proves that no other process is writing to it.
    migrate(invocation.database_url)
    for ending in ("", "-wal", "-shm"):
        file.with_name(f"{file.name}{ending}").unlink(missing_ok=True)


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
