"""``regwarden plan``: what a cleanup would remove, agreed to, carried out, taken back, or made final."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, Final, TypeVar

import click

from regwarden.cli.invocation import Invocation, RegwardenGroup, pass_invocation
from regwarden.cli.output import Format
from regwarden.cli.plan_apply import apply, finish, undo

F = TypeVar("F", bound=Callable[..., Any])

_LIST_COLUMNS: Final = (
    "id",
    "state",
    "title",
    "tag_count",
    "manifest_count",
    "reclaimable_bytes",
    "made_at",
    "made_by",
    "expires_at",
)
_SELECTION: Final = (
    click.option(
        "--repository",
        "repositories",
        multiple=True,
        metavar="PATTERN",
        help="Repositories as a whole, or with --tag those in which the tags are. Repeatable.",
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="[REPOSITORY:]PATTERN",
        help="Tags: a name, glob:, re:, semver:, or <1.4 as docker-registry-util compares. Repeatable.",
    ),
    click.option(
        "--tag-regex", "tag_regexes", multiple=True, metavar="REGEX", help="Tags that begin like this. Repeatable."
    ),
    click.option(
        "--exclude", "excluded", multiple=True, metavar="PATTERN", help="Keep what these tags point to. Repeatable."
    ),
    click.option(
        "--exclude-regex", "excluded_regexes", multiple=True, metavar="REGEX", help="Likewise, by how tags begin."
    ),
    click.option(
        "--match-all-tags/--no-match-all-tags",
        default=True,
        help="Whether all tags of a digest must be selected, or one takes the others along. [default: all]",
    ),
    click.option(
        "--raise-intersecting-tag",
        "raise_on_shared_tag",
        is_flag=True,
        help="Fail where a digest has a tag outside the selection, instead of leaving it alone.",
    ),
    click.option(
        "--raise-intersecting-repository",
        "raise_on_shared_repository",
        is_flag=True,
        help="Fail where a repository outside the selection has the digest, instead of leaving it alone.",
    ),
    click.option("--untag", is_flag=True, help="Where a digest is used elsewhere, remove just the selected tag."),
    click.option(
        "--placeholders",
        "with_placeholders",
        is_flag=True,
        help="Where the registry cannot remove a tag alone, point it to an empty manifest and delete that.",
    ),
    click.option("--registry", default="", metavar="NAME", help="The registry, where the inventory has several."),
)


def _selecting(command: F) -> F:
    for option in reversed(_SELECTION):
        command = option(command)
    return command


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Plan a cleanup, look at it, agree to it, carry it out, take it back.

    create → show → approve → apply → undo or finish. A dry run is a plan that nobody applied.
    """


@command.command()
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="Policies; - is standard input. Repeatable.")
@_selecting
@click.option("--waive", multiple=True, metavar="GUARD", help="Waive a guard by its name. Repeatable.")
@click.option("--expires", default="7d", metavar="DURATION", help="How long it may be applied. [default: 7d]")
@click.option(
    "--untagged-known",
    is_flag=True,
    help="You know that the registry holds nothing untagged but what the inventory knows: bytes are exact.",
)
@click.option(
    "--drop-repositories",
    "drops_repositories",
    is_flag=True,
    help="Delete also each repository of which nothing stays (GitLab; with --waive never-empty).",
)
@click.option("--no-probe", is_flag=True, help="Do not ask the registry whether it deletes at all.")
@pass_invocation
def create(invocation: Invocation, files: tuple[str, ...], *, no_probe: bool, **options: Any) -> int:
    """Decide what goes and what stays, by policies or by what you name; nothing is changed.

    Without a policy the rules are those of docker-registry-util: a digest that is also used outside of what is named is
    left alone. What is younger than a day, or may be, stays; so does the last thing in a repository.

    Examples:
      regwarden plan create -f policy.yaml
      regwarden plan create --tag 'team/app:<1.4' --exclude 1.2.7
      regwarden plan create --repository team/old --waive never-empty

    Exit status: 0 planned, 3 planned, but a guard forbids to apply it.
    """
    from regwarden.cli.plan_progress import LineDisplay
    from regwarden.cli.plan_views import show_plan
    from regwarden.cli.policy import read_policy_file
    from regwarden.library_policy_texts import known_zones

    texts = {("standard input" if name == "-" else name): read_policy_file(name) for name in files}
    arguments = {name: value for name, value in options.items() if value not in ((), "", False) or name == "expires"}
    arguments["match_all_tags"] = options["match_all_tags"]
    with closing(invocation.inventory()) as inventory:
        with LineDisplay(quiet=invocation.quiet) as display:
            plan_id = inventory.create_plan(
                policies=texts,
                probe=not no_probe,
                known_zones=known_zones(),
                on_progress=lambda state: display.show(
                    state.phase, state.repositories_done, state.repositories_total, f"{state.tags_done:,} tags"
                ),
                on_warning=invocation.warn,
                **arguments,
            )
        return show_plan(invocation, inventory, plan_id)


@command.command("list")
@click.option("--state", "states", multiple=True, metavar="STATE", help="open, applying, applied, … Repeatable.")
@click.option("--limit", type=click.IntRange(1), default=100, metavar="N", help="At most N rows. [default: 100]")
@pass_invocation
def list_(invocation: Invocation, states: tuple[str, ...], limit: int) -> None:
    """List plans, newest first.

    Example: regwarden plan list --state open
    """
    with closing(invocation.inventory()) as inventory:
        rows = inventory.plans(states=states, limit=limit)
    is_table = invocation.output == Format.TABLE
    columns = _LIST_COLUMNS if is_table else (*rows[0],) if rows else _LIST_COLUMNS
    invocation.printer.rows(rows, columns, nothing="there are no plans yet: regwarden plan create")


@command.command()
@click.argument("plan_id", type=int, metavar="ID")
@click.option("--verdicts", "view", flag_value="verdicts", help="Every tag with what becomes of it and why.")
@click.option("--steps", "view", flag_value="steps", help="Every change at the registry, and what became of it.")
@click.option("--guards", "view", flag_value="guards", help="Every guard that was met, also those of single tags.")
@click.option("--review", "view", flag_value="review", help="Write it as Markdown, for a merge request.")
@click.option("--repository", metavar="PATTERN", help="Only repositories that match.")
@click.option("--outcome", metavar="WORD", help="Only verdicts with this outcome: remove, keep or undecided.")
@click.option(
    "--group-by",
    type=click.Choice(["project", "group", "owner", "path"]),
    help="A row for each: what the plan does there, and what that part would free alone.",
)
@click.option(
    "--depth", type=click.IntRange(1, 64), help="With --group-by: how many parts of a group or path. [default: all, 1]"
)
@pass_invocation
def show(invocation: Invocation, plan_id: int, **options: Any) -> int:
    """Show a plan: what goes, what stays and why, what it frees, what holds it back.

    Examples:
      regwarden plan show 7
      regwarden plan show 7 --verdicts --repository team/app
      regwarden plan show 7 --review > plan.md
      regwarden plan show 7 --group-by project
    """
    from regwarden.cli import plan_views

    view, repository, outcome = options["view"], options["repository"], options["outcome"]
    _check_view(options)
    with closing(invocation.inventory()) as inventory:
        if (by := options["group_by"]) is not None:
            plan_views.show_groups(invocation, inventory, plan_id, by=by, depth=options["depth"])
            return 0
        match view or ("verdicts" if outcome else "sum"):
            case "verdicts":
                plan_views.show_verdicts(invocation, inventory, plan_id, repository=repository, outcome=outcome)
            case "steps":
                plan_views.show_steps(invocation, inventory, plan_id, repository=repository)
            case "guards":
                plan_views.show_guards(invocation, inventory, plan_id)
            case "review":
                plan_views.write_review(inventory, plan_id)
            case _:
                plan_views.show_plan(invocation, inventory, plan_id, repository=repository)
    return 0


def _check_view(options: dict[str, Any]) -> None:
    view, repository, outcome = options["view"], options["repository"], options["outcome"]
    if options["depth"] is not None and options["group_by"] is None:
        raise click.UsageError("--depth needs --group-by")
    if options["group_by"] is not None and (view or repository or outcome):
        raise click.UsageError("--group-by is a view of its own, of the whole plan")
    if outcome and view not in (None, "verdicts"):
        raise click.UsageError(f"--outcome chooses verdicts, not --{view}")
    if repository and view in ("guards", "review"):
        raise click.UsageError(f"--{view} is about the whole plan, not about some repositories")


@command.command()
@click.argument("plan_id", type=int, metavar="ID")
@click.option("--fingerprint", metavar="TEXT", help="Agree only if the plan is the one with this fingerprint.")
@pass_invocation
def approve(invocation: Invocation, plan_id: int, fingerprint: str | None) -> None:
    """Agree to a plan, as the user that you are on this machine.

    A plan that wants two people counts signed-in people only.

    Example: regwarden plan approve 7
    """
    with closing(invocation.inventory()) as inventory:
        row = inventory.approve_plan(plan_id, fingerprint=fingerprint)
    if invocation.output != Format.TABLE:
        invocation.printer.record(row)
        return
    missing = row.missing_approval_count
    click.echo(f"plan {plan_id}: agreed by {row.principal}")
    if missing:
        invocation.printer.talk(row.hint)
    else:
        invocation.printer.talk(f"next: regwarden plan apply {plan_id}")


@command.command()
@click.argument("plan_id", type=int, metavar="ID")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@pass_invocation
def reject(invocation: Invocation, plan_id: int, reason: str) -> None:
    """Refuse a plan that was not applied: it never will be.

    Example: regwarden plan reject 7 --reason 'the 1.x line is still supported'
    """
    with closing(invocation.inventory()) as inventory:
        inventory.reject_plan(plan_id, reason=reason)
    invocation.printer.talk(f"plan {plan_id} is rejected")


command.add_command(apply)
command.add_command(undo)
command.add_command(finish)
