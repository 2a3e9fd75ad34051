"""Which tests of real registries make no sense behind a GitLab, in which mode, and why? All of the skips are here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pytest

from tests.gitlab_double.modes import MODES, Mode

DATABASE: tuple[Mode, ...] = ("database",)
BY_TAG: tuple[Mode, ...] = ("database", "files")


class Skip(NamedTuple):
    """``test`` is what the test's name begins with; empty, all of ``file`` is meant."""

    file: str
    test: str
    modes: tuple[Mode, ...]
    reason: str


OWN_ACCOUNTS = "the accounts are those of a registry by itself; GitLab issues its own tokens"
RECORDED = "tests/e2e/test_gitlab_inventory.py does it in each mode, with what has no namespace moved into one"
NO_CACHE = "the registry of the double has no cache, of which this test is: its storage also changes without it"
TAGS_ALONE = "only the tag goes there and no manifest; tests/e2e/test_behind_gitlab.py pushes what is removed meanwhile"
UNKNOWN_GOES = "what nobody knows of and no tag leads to goes there, too, at any time"
BY_ITSELF = "GitLab's registry is collected by GitLab's own means: by itself with the database, by gitlab-ctl without"

SKIPS = (
    Skip("test_servers.py", "test_a_registry_with_a_password_refuses_everybody_else", MODES, OWN_ACCOUNTS),
    Skip("test_token_registry.py", "", MODES, OWN_ACCOUNTS),
    Skip("test_ground_truth.py", "", MODES, RECORDED),
    Skip("test_undo.py", "test_a_collection_beside_a_running_registry_is_seen", MODES, NO_CACHE),
    Skip("test_cleanup_races.py", "", DATABASE, TAGS_ALONE),
    Skip(
        "test_cleanup_collection.py",
        "test_what_else_holds_content_is_taken_into_account[an unknown",
        DATABASE,
        UNKNOWN_GOES,
    ),
    Skip("test_undo.py", "test_the_operators_command_frees_what_was_expected", BY_TAG, BY_ITSELF),
    Skip(
        "test_cleanup_commands.py",
        "test_untag_leaves_the_tag_where_the_registry_cannot_and_says_so",
        BY_TAG,
        "GitLab's registry can remove a tag by itself",
    ),
)


def skip_senseless(tests: Iterable[pytest.Item], mode: Mode) -> None:
    """Mark what is not to be run in this mode."""
    for test in tests:
        for skip in SKIPS:
            if mode in skip.modes and test.path.name == skip.file and test.name.startswith(skip.test):
                test.add_marker(pytest.mark.skip(reason=f"GitLab, {mode}: {skip.reason}"))
