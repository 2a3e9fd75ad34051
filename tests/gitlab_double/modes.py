"""Behind which registry does the double's GitLab stand? Apart from the rest, for this must not take long to import."""

from __future__ import annotations

import os
from typing import Literal

Mode = Literal["database", "files", "plain"]
MODES: tuple[Mode, ...] = ("database", "files", "plain")
VARIABLE = "REGWARDEN_TEST_GITLAB"


def find_chosen_mode() -> Mode | None:
    """In which mode tests of registries are to run behind a GitLab; raises ``ValueError`` for an unknown word."""
    word = os.environ.get(VARIABLE, "")
    found = next((mode for mode in MODES if mode == word), None)
    if word and found is None:
        raise ValueError(f"{VARIABLE} is {word!r} and none of {', '.join(MODES)}")
    return found


# What stands before the names of repositories that have no slash: at GitLab there are none.
ROOT = "own/" if find_chosen_mode() else ""
