"""How old and how complete is the inventory that answers, and shall it be read again first?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regwarden.cli.output import Format
from regwarden.cli.values import escape_controls, human_duration
from regwarden.errors import NotFound

if TYPE_CHECKING:
    from regwarden.cli.invocation import Invocation
    from regwarden.library import Inventory


def say_age(invocation: Invocation, inventory: Inventory, names: Sequence[str] = ()) -> None:
    """Say on stderr, for people, how complete and how old the inventory of each registry is.

    Raises ``NotFound`` for a name that the inventory does not have.
    """
    from regwarden import clock

    known = inventory.coverage(*names)
    missing = sorted(set(names) - {coverage.registry for coverage in known})
    if missing:
        everything = ", ".join(row.registry for row in inventory.registries()) or "nothing"
        raise NotFound(f"the inventory has no registry {missing[0]}", hint=f"It has: {everything}.")
    if invocation.output != Format.TABLE:
        return
    for coverage in known:
        name = escape_controls(coverage.registry)
        if coverage.crawled_at is None and not coverage.is_crawl_running and not coverage.repository_states:
            continue
        if coverage.crawled_at is None:
            invocation.printer.talk(f"inventory of {name}: no crawl has ended yet, so this is a part of it")
            continue
        age = human_duration(clock.now() - coverage.crawled_at)
        running = "; a crawl is running" if coverage.is_crawl_running else ""
        invocation.printer.talk(f"inventory of {name}: {coverage.state}, {age} old{running}")


def refresh(invocation: Invocation, inventory: Inventory, names: Sequence[str] = ()) -> None:
    """Crawl the named registries, or all that are configured or known, before they are asked about."""
    from regwarden.cli.crawl import configured_words, crawl_one

    known = tuple(row.registry for row in inventory.known_registries())
    for word in tuple(names) or known or configured_words(inventory):
        report = crawl_one(invocation, inventory, word, {})
        if report.state != "complete":
            invocation.warn(f"not everything of {word} could be read; `regwarden registry check` and `usage` say more")
