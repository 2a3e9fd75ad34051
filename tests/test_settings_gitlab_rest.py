"""Mistakes in the settings of gitlab-registry-usage-rest's interface are found before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from regwarden.errors import InputError
from regwarden.settings_checks import shown_registry
from regwarden.settings_sources import load_settings

ONE = '[[registry]]\nname = "a"\nurl = "https://a.example"\n'
TWO = ONE + '[[registry]]\nname = "b"\nurl = "https://b.example"\n'
SECTION = "[compat.gitlab_registry_usage_rest]\n"


def load(tmp_path: Path, text: str) -> str:
    file = tmp_path / "regwarden.toml"
    file.write_text(text)
    return shown_registry(load_settings({}, file=file).settings)


def test_which_registry_is_shown(tmp_path: Path) -> None:
    assert load(tmp_path, f"{ONE}{SECTION}enabled = true\n") == "a"
    assert load(tmp_path, f'{TWO}{SECTION}enabled = true\nregistry = "b"\n') == "b"
    assert load(tmp_path, f'{ONE}{SECTION}listen = "127.0.0.1:5000"\nprefix = "/old/place"\n') == "a"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{TWO}{SECTION}enabled = true\n", "one registry, and 2 are configured"),
        (f"{SECTION}enabled = true\n", "one registry, and 0 are configured"),
        (f'{TWO}{SECTION}listen = "127.0.0.1:5000"\n', "one registry, and 2 are configured"),
        (f'{TWO}{SECTION}registry = "c"\n', "no registry called 'c'"),
        (f'{ONE}{SECTION}enabled = true\nprefix = "old"\n', "'old' is not a path"),
        (f'{ONE}{SECTION}enabled = true\nprefix = "/a b"\n', "is not a path"),
        (f'{ONE}{SECTION}enabled = true\nprefix = "/old/"\n', "is not a path"),
        (f'{ONE}{SECTION}enabled = true\ntoken_lifetime = "0s"\n', "up to 366 days"),
        (f'{ONE}{SECTION}enabled = true\ntoken_lifetime = "2y"\n', "up to 366 days"),
        (f'{ONE}{SECTION}enabled = true\ntoken_lifetime = "long"\n', "not a duration"),
        (f'{ONE}{SECTION}listen = "nowhere"\n', "not an address to listen on"),
        (f'{ONE}{SECTION}listen = "127.0.0.1:8350"\n', "is listed twice"),
    ],
)
def test_what_cannot_work_is_refused_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        load(tmp_path, text)
    assert "compat.gitlab_registry_usage_rest." in caught.value.message


def test_what_is_not_served_needs_no_registry(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 are configured") as caught:
        load(tmp_path, TWO)
    assert "compat." not in caught.value.message  # the settings loaded; only the question fails
