"""How does ``registry check`` tell whether notifications arrive, and what must be pasted where so that they do?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden import clock
from regwarden.cli.invocation import Invocation
from regwarden.cli.values import counted, escape_controls, human_duration
from regwarden.core.hook_blocks import Flavour, Form, alias_line, registry_block

if TYPE_CHECKING:
    from regwarden.library_notifications import NotificationReport
    from regwarden.store.notification_reports import NotificationStatus

_QUIET_AFTER: Final = timedelta(hours=1)
_WHERE: Final = {
    Flavour.DISTRIBUTION: "its configuration file (config.yml of Distribution 2.x and 3.x) and restart it",
    Flavour.GITLAB: "/etc/gitlab/gitlab.rb and run `gitlab-ctl reconfigure`",
}
_FORMS: Final = {
    Form.LEAN: (
        "This form sends no uploads and pulls of blobs. `blob list --orphaned`, times of pushes and pulls in "
        "`blob list`, and blobs in regstat's views need them: --notifications full."
    ),
    Form.FULL: "This form sends blobs too: several times as many events. --notifications lean leaves them out.",
}


def print_notifications(invocation: Invocation, report: NotificationReport, hosts: Iterable[Any]) -> None:
    """Print the state of a registry's notifications, then the block."""
    for line in [*_status_lines(report), *unknown_host_lines(hosts)]:
        click.echo(escape_controls(f"  {line}"))
    if not report.block:
        return
    purpose = "to make it send events" if report.status.delivered_at is None else "to configure that anew"
    click.echo(f"  {purpose}, add to {_WHERE[Flavour(report.flavour)]}:")
    click.echo()
    click.echo("\n".join(f"{escape_controls(line)}" for line in report.block.splitlines()))
    click.echo()
    for remark in report.remarks:
        invocation.warn(remark)
    invocation.printer.talk(_FORMS[Form(report.form)])
    invocation.printer.talk("The address must be the final one: a registry that is redirected loses events.")


def _status_lines(report: NotificationReport) -> Iterator[str]:
    status = report.status
    now = clock.now()
    yield f"events: {_arrival(status, now)}"
    if status.pending_count:
        yield f"  {counted(status.pending_count, 'delivery', 'deliveries')} not applied yet"
    if status.quarantined_count:
        what = counted(status.quarantined_count, "delivery", "deliveries")
        yield f"  {what} in quarantine: regwarden event quarantine list"
    if status.sender_count:
        senders = counted(status.sender_count, "process", "processes")
        addresses = counted(status.sender_address_count, "address", "addresses")
        latest = status.senders[0]
        yield (
            f"  sent by {senders} of {addresses} so far; the last at {latest.address or 'an unknown one'}, "
            f"started {_ago(latest.first_at, now)} at the latest"
        )
    yield from _loss_lines(report)
    if status.reread_count:
        failing = f", {status.failing_reread_count:,} failing" if status.failing_reread_count else ""
        yield f"  to be read again: {counted(status.reread_count, 'thing')}{failing}"
    for one in status.failing_rereads:
        place = "@".join(part for part in (one.repository, one.reference) if part) or "the whole registry"
        yield f"    {place}: {one.problem} ({counted(one.attempt_count, 'attempt')})"
    if report.next_crawl_at is not None:
        yield f"next crawl by the service: {_next(report.next_crawl_at, now)}"


def _arrival(status: NotificationStatus, now: datetime) -> str:
    if status.delivered_at is None or status.events_since is None:
        return "no event has ever arrived"
    since = f"since {status.events_since:%Y-%m-%d}"
    if now - status.delivered_at < _QUIET_AFTER:
        return f"last one {_ago(status.delivered_at, now)}, {since}"
    return f"none for {human_duration(now - status.delivered_at)}; known {since}"


def _loss_lines(report: NotificationReport) -> Iterator[str]:
    loss = report.loss
    if loss is None or not loss.missed_count:
        return
    from regwarden.library_notifications import LOSS_DAYS

    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(loss.kinds.items()))
    rate = "" if loss.rate is None else f" ({loss.rate:.1%})"
    total = loss.missed_count + loss.confirmed_count
    yield (
        f"  of {counted(total, 'change')} that crawls found in {LOSS_DAYS} days, no event told of "
        f"{loss.missed_count:,}{rate}: {kinds}"
    )


def _ago(moment: datetime, now: datetime) -> str:
    return f"{human_duration(now - moment)} ago"


def _next(moment: datetime, now: datetime) -> str:
    return "as soon as it runs" if moment <= now else f"in {human_duration(moment - now)}"


def unknown_host_lines(hosts: Iterable[Any]) -> Iterator[str]:
    """For each host of events that no registry has: a sentence, and what to add to the configuration file."""
    now = clock.now()
    for one in hosts:
        found = f"{counted(one.event_count, 'event')}, the last {_ago(one.last_at, now)}"
        block = registry_block(one.host)
        if not block:
            name = repr(one.host) if one.host else "no host"
            yield f"events name {name}, which cannot be a registry's ({found})"
            continue
        yield f"events name {one.host}, which no registry has ({found}); add to the configuration file:"
        yield from (f"  {line}" for line in block.splitlines())
        yield f"or, in the block of a registry that is also known by that name: {alias_line(one.host)}"
        yield "then restart the service, which applies them"
