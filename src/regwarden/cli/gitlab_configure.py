"""``regwarden gitlab configure``: the lines that configure the registry of a GitLab, from what GitLab itself tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regwarden.cli.invocation import Invocation, RegwardenCommand, pass_invocation
from regwarden.cli.output import Format

if TYPE_CHECKING:
    from regwarden.core.projects import FoundRegistry


@click.command(cls=RegwardenCommand)
@click.argument("url", metavar="URL")
@click.option("--password-file", metavar="FILE", help="Read the token from the first line of FILE.")
@click.option("--password-stdin", is_flag=True, help="Read the token from standard input.")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Read this group. Repeatable. [default: all]")
@click.option("--project", "projects", multiple=True, metavar="PROJECT", help="Read this project. Repeatable.")
@click.option("--name", metavar="NAME", help="What the registry is called. [default: GitLab's host]")
@pass_invocation
def configure(invocation: Invocation, url: str, *, password_stdin: bool, **options: Any) -> None:
    """Print the lines of a configuration file for the registry of the GitLab at URL.

    Asks GitLab who the token belongs to, what it allows, and where its registry is. The registry itself is not asked:
    look at its address before you put the lines into your file. The token itself is shown to GitLab only.

    Examples:
      regwarden gitlab configure https://gitlab.example.com --password-file gitlab-token
      regwarden gitlab configure https://gitlab.example.com --password-file gitlab-token --group team
    """
    from regwarden.cli.credentials import read_token
    from regwarden.settings import Secret, check_registry_name, parse_registry_url, registry_name_of
    from regwarden.wiring import find_gitlab, run_async

    gitlab_url = parse_registry_url(url)
    label = check_registry_name(options["name"] or registry_name_of(gitlab_url))
    groups, projects, file = options["groups"], options["projects"], options["password_file"]
    token = read_token(file, is_in_stdin=password_stdin)
    secret = None if token is None else Secret(token)
    found = run_async(find_gitlab(gitlab_url, secret, groups=groups, projects=projects))
    block = {"name": label, "kind": "gitlab", "url": found.url, "gitlab_url": gitlab_url}
    scope = {"gitlab_groups": list(groups), "gitlab_projects": list(projects)}
    if invocation.output != Format.TABLE:
        person = found.access
        told = {"user": person.user, "is_admin": person.is_admin, "scopes": person.scopes, "version": person.version}
        row = {**block, **scope, **told, "expires_at": person.expires_at, "lacks": list(person.lacks)}
        invocation.printer.rows([row], tuple(row))
        return
    lines = [f"{key} = {_quoted(value)}" for key, value in block.items()]
    lines += [f"{key} = [{', '.join(map(_quoted, paths))}]" for key, paths in scope.items() if paths]
    if token is not None:
        place = str(Path(file).expanduser().absolute()) if file else "/etc/regwarden/gitlab-token"
        lines.append(f"password_file = {_quoted(place)}")
    for line in (*_comments(found, gitlab_url, has_token=token is not None), "[[registry]]", *lines):
        click.echo(line)


def _comments(found: FoundRegistry, gitlab_url: str, *, has_token: bool) -> Iterator[str]:
    from regwarden.cli.gitlab_access import expiry_line, who_line

    person = found.access
    told = [f"GitLab{f' {person.version}' if person.version else ''} at {gitlab_url}"]
    if has_token:
        told.append(who_line(person.user, person.scopes, is_admin=person.is_admin))
    if person.expires_at is not None:
        told.append(expiry_line(person.expires_at))
    told.append(f"Its registry is at {found.url}, as {found.seen_in} says. Is that right? Nothing was asked there.")
    told += [f"Missing: {line}" for line in person.lacks]
    return (f"# {_printable(line)}" for line in told)


def _quoted(text: str) -> str:
    """A basic string of TOML; JSON's are, as long as nothing above the basic plane is escaped in pairs."""
    return json.dumps(_printable(text), ensure_ascii=False)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
