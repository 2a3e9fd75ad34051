"""How old and how complete is the inventory that answers, and shall it be read again first?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from regwarden.cli.failures import PARTLY_DONE, report_error
from regwarden.cli.output import Format
from regwarden.cli.values import escape_controls, human_duration
from regwarden.core.selectors import parse_selector
from regwarden.errors import NotFound, RegwardenError

if TYPE_CHECKING:
    from regwarden.cli.invocation import Invocation
    from regwarden.library import Inventory


def require_registries(inventory: Inventory, names: Sequence[str]) -> None:
    """Raise ``NotFound`` for a name that the inventory does not have."""
    if not names:
        return
    known = [row.registry for row in inventory.registries()]
    missing = sorted(set(names) - set(known))
    if missing:
        raise NotFound(f"the inventory has no registry {missing[0]}", hint=f"It has: {', '.join(known) or 'nothing'}.")


def say_age(invocation: Invocation, inventory: Inventory, names: Sequence[str] = ()) -> None:
    """Say on stderr, for people, how complete and how old the inventory of each registry is."""
    from regwarden import clock

    if invocation.output != Format.TABLE:
        return
    for coverage in inventory.coverage(*names):
        name = escape_controls(coverage.registry)
        if coverage.crawled_at is None and not coverage.is_crawl_running and not coverage.repository_states:
            continue
        if coverage.crawled_at is None:
            has_begun = coverage.is_crawl_running or coverage.state not in (None, "restricted")
            words = "interrupted, never completed" if has_begun else "never crawled, known from events"
            invocation.printer.talk(f"inventory of {name}: {words}: this is a part of it")
            continue
        age = human_duration(clock.now() - coverage.crawled_at)
        running = "; a crawl is running" if coverage.is_crawl_running else ""
        invocation.printer.talk(f"inventory of {name}: {coverage.state}, {age} old{running}")


def say_moment(
    invocation: Invocation,
    inventory: Inventory,
    moment: datetime | None,
    names: Sequence[str] = (),
    selectors: Sequence[str] = (),
) -> None:
    """Say on stderr of which past moment the answer is, and warn where little was known then; else as ``say_age``."""
    if moment is None:
        say_age(invocation, inventory, names)
        return
    if invocation.output == Format.TABLE:
        invocation.printer.talk(f"as of {_readable(moment)}")
    for start in inventory.history_starts(*_meant(inventory, names, selectors)):
        if start.first_seen_at > moment:
            known = _readable(start.first_seen_at)
            invocation.warn(f"nothing is known of {start.registry} before {known}; it is left out")
        elif start.first_crawled_at is not None and start.first_crawled_at > moment:
            read = _readable(start.first_crawled_at)
            invocation.warn(f"{start.registry} was first read to the end at {read}; before, only a part was known")


def _readable(moment: datetime) -> str:
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text.removesuffix(':00')} UTC"


def refresh(
    invocation: Invocation, inventory: Inventory, names: Sequence[str] = (), selectors: Sequence[str] = ()
) -> int:
    """Crawl what will be asked about: the named registries, those of the selectors, or all that are known.

    One that cannot be read is reported, and what is stored of it answers; the exit status that is returned is then 3.
    Raises the registry's error where nothing is stored that could answer.
    """
    from regwarden.cli.crawl import configured_words, crawl_one

    words = _meant(inventory, names, selectors) or configured_words(inventory)
    failed: list[tuple[str, RegwardenError]] = []
    for word in words:
        try:
            report = crawl_one(invocation, inventory, word, {})
        except RegwardenError as error:
            failed.append((word, error))
            continue
        if report.state != "complete":
            invocation.warn(f"not everything of {word} could be read; `regwarden registry check` and `usage` say more")
    if failed and not _has_content(inventory, words):
        raise failed[0][1]
    for word, reason in failed:
        message = f"{word}: {reason.message}; the answer comes from what is stored"
        report_error(reason.code, message, reason.hint, as_json=invocation.wants_json)
    return PARTLY_DONE if failed else 0


def references(text: str) -> tuple[str, ...]:
    """A reference as a selector; none for the digits of a digest, which may be in any registry."""
    return (text,) if "/" in text else ()


def _meant(inventory: Inventory, names: Sequence[str], selectors: Sequence[str]) -> tuple[str, ...]:
    """The registries to crawl, by the names they are known under where they are."""
    known = inventory.known_registries()
    by_word = {str(row.url).partition("://")[2].rstrip("/"): row.registry for row in known}
    by_word |= {row.registry: row.registry for row in known}
    parsed = [parse_selector(text, known_registries=[row.registry for row in known]) for text in selectors]
    chosen = list(names) or [one.registry for one in parsed if one.registry is not None]
    if not chosen or (not names and len(chosen) < len(parsed)):
        return tuple(row.registry for row in known)
    return tuple(dict.fromkeys(by_word.get(word, word) for word in chosen))


def _has_content(inventory: Inventory, words: Sequence[str]) -> bool:
    return any(one.registry in words and one.repository_states for one in inventory.coverage())
