"""The runbook says what to do for each kind of registry, and never what destroys multi-platform images."""

from __future__ import annotations

import pytest

from regwarden.core.collection_runbook import Expected, build_runbook, guess_flavour, runbook_text
from regwarden.core.collection_steps import Deployment, Flavour

EXACT = Expected(at_most_bytes=1_234_567, at_least_bytes=1_234_567)
BY_COMMAND = [Flavour.DISTRIBUTION_2, Flavour.DISTRIBUTION_3, Flavour.GITLAB]


def text(flavour: Flavour, expected: Expected = EXACT, deployment: Deployment | None = None) -> str:
    return runbook_text(build_runbook("prod", flavour, expected), deployment)


def commands(flavour: Flavour) -> list[str]:
    return [
        line
        for step in build_runbook("prod", flavour, EXACT).steps
        for _, lines in step.commands
        for line in lines
    ]  # fmt: skip


@pytest.mark.parametrize("flavour", list(Flavour))
def test_no_command_removes_untagged_manifests(flavour):
    words = {word for line in commands(flavour) for word in line.split()}
    assert words.isdisjoint({"-m", "--delete-untagged", "-m=true"})


@pytest.mark.parametrize("flavour", [Flavour.DISTRIBUTION_2, Flavour.UNKNOWN])
def test_it_says_why_untagged_manifests_must_not_be_removed(flavour):
    said = text(flavour)
    assert "Never with -m" in said
    assert "Every multi-platform image is destroyed" in said


@pytest.mark.parametrize("flavour", [Flavour.DISTRIBUTION_2, Flavour.DISTRIBUTION_3])
def test_distribution_is_stopped_collected_and_started_again_in_this_order(flavour):
    titles = [step.title.lower() for step in build_runbook("prod", flavour, EXACT).steps]
    places = [
        next(at for at, title in enumerate(titles) if word in title) for word in ("read-only", "collect", "start the")
    ]
    assert places == sorted(places)
    assert "cache in memory" in text(flavour)
    assert "registry garbage-collect CONFIG" in commands(flavour)


@pytest.mark.parametrize("flavour", BY_COMMAND)
def test_every_way_to_run_it_has_its_command(flavour):
    said = text(flavour)
    assert "garbage-collect" in said
    if flavour is not Flavour.GITLAB:
        for word in ("docker compose", "systemctl", "kubectl", "runuser -u docker-registry"):
            assert word in said


def test_only_the_commands_of_one_way_are_shown_if_it_is_known():
    said = text(Flavour.DISTRIBUTION_2, deployment=Deployment.DEBIAN)
    assert "docker-registry garbage-collect /etc/docker/registry/config.yml" in said
    assert "docker compose" not in said
    assert "kubectl" not in said


def test_gitlab_with_a_database_collects_by_itself():
    runbook = build_runbook("prod", Flavour.GITLAB_DATABASE, EXACT)
    assert not runbook.is_manual
    assert not any("garbage-collect" in line for line in commands(Flavour.GITLAB_DATABASE))
    assert "day" in runbook_text(runbook)
    assert all(build_runbook("prod", one, EXACT).is_manual for one in Flavour if one is not Flavour.GITLAB_DATABASE)


def test_it_says_that_a_collection_ends_the_undo():
    for flavour in Flavour:
        assert "plan undo" in text(flavour)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (EXACT, "should free 1,234,567 bytes"),
        (Expected(at_most_bytes=2_000, at_least_bytes=500), "between 500 and 2,000 bytes"),
        (Expected(at_most_bytes=2_000), "between 0 and 2,000 bytes"),
        (Expected(), "cannot be told"),
    ],
)
def test_it_says_how_much_it_frees(expected, said):
    assert said in text(Flavour.DISTRIBUTION_2, expected)


@pytest.mark.parametrize(
    ("server", "delete_tag", "headers", "flavour"),
    [
        ("", "unsupported", {}, Flavour.DISTRIBUTION_2),
        ("nginx", "unsupported", {}, Flavour.DISTRIBUTION_2),
        ("", "supported", {}, Flavour.DISTRIBUTION_3),
        ("nginx", "supported", {}, Flavour.UNKNOWN),
        ("", "unknown", {}, Flavour.UNKNOWN),
        ("GitLab 4.32.0", "supported", {}, Flavour.GITLAB),
        ("GitLab 4.32.0", "supported", {"gitlab-container-registry-database-enabled": "false"}, Flavour.GITLAB),
        ("GitLab 4.32.0", "supported", {"gitlab-container-registry-database-enabled": "true"}, Flavour.GITLAB_DATABASE),
    ],
)
def test_the_kind_is_guessed_from_what_the_registry_can_and_says(server, delete_tag, headers, flavour):
    assert guess_flavour(server, delete_tag, headers) is flavour


def test_the_commands_of_a_runbook_name_the_plan_whose_end_it_is():
    runbook = build_runbook("prod", Flavour.DISTRIBUTION_2, EXACT)
    assert "regwarden plan finish 12 --collected" in runbook_text(runbook, plan_id=12)
    assert "regwarden plan finish PLAN --collected" in runbook_text(runbook)
