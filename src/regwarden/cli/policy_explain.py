"""``regwarden policy explain``: why does a tag stay or go, when would it go, and what would change that?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.values import escape_controls

if TYPE_CHECKING:
    from regwarden.library_explain import ExplainReport
    from regwarden.library_rows import Row

_RULE_COLUMNS: Final = ("effect", "policy", "rule", "match", "when", "found")
_CLOCK_COLUMNS: Final = ("clock", "at", "known", "source")
_OUTCOMES: Final = {"keep": "stays", "remove": "goes", "undecided": "stays: nothing can be decided about it"}
_ANSWERS: Final = {True: "yes", False: "no", None: "unknown"}
_RELATIONS: Final = {
    "tag": "another tag of its image",
    "index": "an index that lists it",
    "child": "a child of it",
    "subject": "its subject",
    "referrer": "refers to it",
}
_SHOWN_RELATIONS: Final = 20


@click.command("explain", cls=RegwardenCommand)
@click.argument("reference", metavar="REF")
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="Policies; - is standard input. Repeatable.")
@click.option("--plan", "plan_id", type=int, metavar="ID", help="Explain what this stored plan decided instead.")
@click.option("--registry", metavar="NAME", help="The registry, where the inventory has several.")
@click.option("--waive", multiple=True, metavar="GUARD", help="As if this guard were waived. Repeatable.")
@pass_invocation
def command(
    invocation: Invocation,
    reference: str,
    *,
    files: tuple[str, ...],
    plan_id: int | None,
    registry: str | None,
    waive: tuple[str, ...],
) -> None:
    """Tell why a tag or manifest stays or goes, when it would go, and what would change that.

    REF is [REGISTRY/]REPOSITORY:TAG or REPOSITORY@DIGEST. Every rule that speaks about it is listed with what it found:
    true, false, or unknown because a fact is missing. Changes are tried out before they are told. Nothing is changed.

    Examples:
      regwarden policy explain team/app:1.4.2 -f policy.yaml
      regwarden policy explain team/app:1.4.2 --plan 7
    """
    from regwarden.cli.policy import read_policy_file
    from regwarden.library_policy_texts import known_zones

    texts = {("standard input" if name == "-" else name): read_policy_file(name) for name in files}
    with closing(invocation.inventory()) as inventory:
        report = inventory.explain(
            reference, policies=texts, plan_id=plan_id, registry=registry, waive=waive, known_zones=known_zones()
        )
    if invocation.output == Format.TABLE:
        _say(invocation, report)
    elif invocation.output == Format.JSON:
        invocation.printer.record({"subject": report.subject, "explanation": report.explanation, "plan": report.plan})
    else:
        roots = report.explanation.roots if report.explanation is not None else ()
        invocation.printer.rows((row for root in roots for row in _rule_rows(root)), _RULE_COLUMNS)


def _say(invocation: Invocation, report: ExplainReport) -> None:
    if report.plan is not None:
        for line in _plan_lines(report):
            click.echo(escape_controls(line))
    found = report.explanation
    if found is None:
        if report.plan is not None:
            invocation.printer.talk("nothing more is told of it: it is not in the inventory, or no policy decided")
        return
    now = "now " if report.plan is not None else ""
    click.echo(escape_controls(f"{report.subject} {now}{_OUTCOMES[found.outcome]}"))
    if found.tag and found.digest:
        click.echo(f"digest {found.digest}")
    if found.step is not None:
        click.echo({"untag": "a plan removes the tag alone", "delete": "a plan deletes its manifest"}[found.step])
    click.echo(escape_controls(f"by {', '.join(found.policies)}"))
    if not found.roots:
        click.echo("it is not decided about itself: it stays or goes with what leads to it")
    for root in found.roots:
        _say_root(invocation, found, root)
    _say_surroundings(invocation, found)


def _say_root(invocation: Invocation, found: Row, root: Mapping[str, Any]) -> None:
    from regwarden.library_plan_reports import reasons_text

    if not found.tag:
        invocation.printer.heading(f"{root['tag'] or 'untagged'}: {_OUTCOMES[root['outcome']]}")
    click.echo(escape_controls(f"because: {reasons_text(root['reasons'])}"))
    if root["special"]:
        click.echo(escape_controls(f"it belongs to other images ({root['special']}): only rules that name it see it"))
    rows = list(_rule_rows(root))
    if rows:
        invocation.printer.heading("Rules")
        invocation.printer.table(rows, _RULE_COLUMNS, is_fixed=True)
    elif not root["unreadable"]:
        click.echo("no rule speaks about it")
    invocation.printer.heading("Clocks")
    invocation.printer.table(
        [{**one, "known": str(one["precision"])} for one in root["clocks"]], _CLOCK_COLUMNS, is_fixed=True
    )
    if root["changes"]:
        invocation.printer.heading("What would change it")
        for change in root["changes"]:
            click.echo(escape_controls(f"- {change['text']}"))


def _say_surroundings(invocation: Invocation, found: Row) -> None:
    if found.relations:
        invocation.printer.heading("What it is bound to")
        for one in found.relations[:_SHOWN_RELATIONS]:
            becomes = {True: "goes", False: "stays", None: "is not in the repository"}[one["goes"]]
            click.echo(escape_controls(f"- {one['name']} {becomes} ({_RELATIONS[one['kind']]})"))
        if len(found.relations) > _SHOWN_RELATIONS:
            click.echo(f"- and {len(found.relations) - _SHOWN_RELATIONS} more")
    if found.guards:
        invocation.printer.heading("Guards that a plan of this repository would meet")
        for guard in found.guards:
            click.echo(escape_controls(f"- {guard['code']} ({guard['state']}): {guard['message']}"))
    for note in found.notes:
        click.echo(escape_controls(note))


def _rule_rows(root: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    for rule in root["rules"]:
        found: Sequence[str] = [*([rule["place"]] if rule["place"] else []), *rule["told"]]
        if not rule["is_claimed"]:
            found = ["an earlier rule has claimed it"]
        yield {
            "effect": str(rule["effect"]),
            "policy": rule["policy"],
            "rule": rule["rule"],
            "match": _ANSWERS[rule["is_match"]],
            "when": _ANSWERS[rule["is_met"]],
            "found": ", ".join(found),
        }


def _plan_lines(report: ExplainReport) -> Iterator[str]:
    from regwarden.library_plan_reports import reasons_text

    plan = report.plan
    if plan is None:
        return
    made = f"{plan.made_at:%Y-%m-%d %H:%M} UTC"
    for one in plan.verdicts:
        subject = f" {one['tag']}" if len(plan.verdicts) > 1 else ""
        yield f"plan {plan.plan_id} of {made} ({plan.state}) decided{subject}: {one['outcome']}"
        yield f"because: {reasons_text(one['reasons'])}"
    for step in plan.steps:
        detail = f" ({step['detail']})" if step["detail"] else ""
        yield f"step {step['position']}: {step['kind']}, {step['state']}{detail}"
    for guard in plan.guards:
        yield f"guard {guard['code']} ({guard['state']}): {guard['message']}"
