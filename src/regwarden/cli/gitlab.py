"""``regwarden gitlab``: what a GitLab tells of its projects, and how its own cleanup goes with ours."""

from __future__ import annotations

import click

from regwarden.cli.gitlab_cleanup import cleanup
from regwarden.cli.gitlab_configure import configure
from regwarden.cli.gitlab_reports import projects, sizes
from regwarden.cli.invocation import RegwardenGroup


@click.group(cls=RegwardenGroup)
def command() -> None:
    """Projects of a GitLab, its sizes beside ours, its own cleanup.

    A registry of kind gitlab tells of its projects when it is crawled.
    """


command.add_command(configure)
command.add_command(projects)
command.add_command(sizes)
command.add_command(cleanup)
