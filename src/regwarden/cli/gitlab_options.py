"""Which options say that a registry is one of a GitLab? Read for every `--help`, so nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def gitlab_options(command: Command) -> Command:
    """The options that say that a registry is one of a GitLab, and what of it is meant."""
    options = (
        click.option("--gitlab", "gitlab_url", metavar="URL", help="It is the registry of the GitLab at URL."),
        click.option(
            "--gitlab-group", "gitlab_groups", multiple=True, metavar="GROUP", help="Read this group of it. Repeatable."
        ),
        click.option(
            "--gitlab-project",
            "gitlab_projects",
            multiple=True,
            metavar="PROJECT",
            help="Read this project of it. Repeatable.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
