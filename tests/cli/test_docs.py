"""Commands, conditions and patterns that the manual shows are ones that the program understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

from regwarden.cli.main import cli
from regwarden.library_queries import build_query

ROOT = Path(__file__).parent.parent.parent
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("index.md", "tutorial.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "explanation").glob("*.md")),
]
SHOWN = re.compile(
    r"^(?:\w+=\$\()?(regwarden .+?)\)?$|`(regwarden [^`]+)`|`(--(?:where|tag|exclude-tag|sort|repository) [^`]+)`",
    re.MULTILINE,
)
LISTS = {"repository", "tag", "manifest", "blob"}


def shown_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for match in SHOWN.finditer(page.read_text(encoding="utf-8")):
            text = next(filter(None, match.groups()))
            yield page.name, text if text.startswith("regwarden") else f"regwarden tag list {text}"


def parse(words: list[str]) -> tuple[list[str], click.Context]:
    """The names of the command and its parsed arguments, without running it."""
    command: click.Command = cli
    context = command.make_context("regwarden", words)
    names = []
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            break
        name, found, arguments = command.resolve_command(context, rest)
        assert found is not None
        names.append(str(name))
        command, context = found, found.make_context(name, arguments, parent=context)
    return names, context


@pytest.mark.parametrize(("page", "text"), sorted(set(shown_commands())))
def test_a_shown_command_is_understood(page: str, text: str) -> None:
    words = list(takewhile(lambda word: word not in ("|", ">", "<"), shlex.split(text)))
    names, context = parse(words[1:])
    if len(names) == 2 and names[1] == "list" and names[0] in LISTS:
        given = context.params
        build_query(
            names[0],
            given["selectors"],
            {
                "where": given["where"],
                "sort": given["sort"],
                "tags": given["tags"],
                "exclude_tags": given["exclude_tags"],
                "repositories": given["repositories"],
            },
        )


def test_the_pages_show_commands() -> None:
    assert len(list(shown_commands())) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_page_that_exists(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_index_leads_to_the_tutorial_and_to_every_how_to_and_explanation() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [page for page in PAGES if page.name not in ("README.md", "index.md")]
    assert [page.name for page in pages if str(page.relative_to(ROOT / "docs")) not in index] == []
