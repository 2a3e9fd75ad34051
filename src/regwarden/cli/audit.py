"""``regwarden audit``: who planned, agreed to, applied and undid what."""

from __future__ import annotations

from contextlib import closing
from typing import Final

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format

_TABLE_COLUMNS: Final = ("at", "principal", "action", "plan_id", "subject")
_ALL_COLUMNS: Final = ("id", *_TABLE_COLUMNS, "detail")
_TABLE_ROWS: Final = 1000


@click.group(cls=RegwardenGroup)
def command() -> None:
    """See who planned, agreed to, applied and undid what."""


@command.command("list")
@click.option("--plan", "plan_id", type=int, metavar="ID", help="Only about this plan.")
@click.option("--principal", metavar="NAME", help="Only what this user did.")
@click.option("--action", metavar="WORD", help="Only this, for example plan-apply.")
@click.option("--since", metavar="TIME", help="From this date, or of the last 2h, 30d, …")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N rows. [default for tables: 1000]")
@pass_invocation
def list_(
    invocation: Invocation,
    plan_id: int | None,
    principal: str | None,
    action: str | None,
    since: str | None,
    limit: int | None,
) -> None:
    """List what people did, newest first.

    Rows are never changed and never purged.

    Examples:
      regwarden audit list --plan 7
      regwarden audit list --since 90d --output csv
    """
    is_table = invocation.output == Format.TABLE
    with closing(invocation.inventory()) as inventory:
        rows = inventory.audit(
            plan_id=plan_id,
            principal=principal,
            action=action,
            since=since,
            limit=limit or (_TABLE_ROWS if is_table else None),
        )
    nothing = "nothing was done yet" if (plan_id, principal, action, since) == (None,) * 4 else "no entry fits"
    invocation.printer.rows(rows, _TABLE_COLUMNS if is_table else _ALL_COLUMNS, nothing=nothing)


@command.command()
@click.argument("plan_id", type=int, metavar="PLAN")
@pass_invocation
def export(invocation: Invocation, plan_id: int) -> None:
    """Write all that is known of a plan as JSON lines: the plan, its journal, and the bytes of what it removed.

    Each line has a `record`: plan, approval, verdict, step, journal, manifest (its bytes in base64) or audit.

    Example: regwarden audit export 7 > plan-7.jsonl
    """
    import json

    from regwarden.cli.values import to_json_value

    with closing(invocation.inventory()) as inventory:
        for record in inventory.plan_evidence(plan_id):
            click.echo(json.dumps(to_json_value(record)))
