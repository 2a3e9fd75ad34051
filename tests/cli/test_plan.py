"""A cleanup from the command line: planned, looked at, agreed to, applied, taken back, made final."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from regwarden.testing.behaviour import Behaviour
from regwarden.testing.content import Content
from regwarden.testing.images import image, index, real_layer
from regwarden.testing.server import SampleRegistry, running_sample_registry
from tests.control_service import control_service
from tests.sample_inventory import Run

POLICY = """
apiVersion: retention/v1
kind: Policy
metadata: {name: ci}
scope: {registries: [one]}
delete:
  - {name: builds, match: {tags: {any: ["glob:dev-*"]}}}
limits: {min-age: 1s, per-run: {share-of-repo: unlimited}}
apply: {approval: APPROVAL}
"""


@pytest.fixture
def registry() -> Iterator[SampleRegistry]:
    content = Content()
    app = content.repository("team/app")
    for number in range(3):
        app.add(image([real_layer(b"layer %d" % number)]), f"dev-{number}")
    app.add(index([image([real_layer(b"amd")]), image([real_layer(b"arm")])]), "1.0")
    app.add(image([real_layer(b"shared")]), "dev-shared", "stable")
    content.repository("team/other").add(image([real_layer(b"other")]), "latest")
    with running_sample_registry(content, behaviour=Behaviour.distribution_3()) as running:
        yield running


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'inventory.sqlite3'}"


@pytest.fixture
def ask(run: Run, url: str, registry: SampleRegistry) -> Run:
    ask = partial(run, REGWARDEN_DATABASE=url)
    assert ask("crawl", registry.url, "--name", "one").exit_code == 0
    return ask


def create(ask: Run, *words: str, status: int = 0) -> dict:
    made = ask("plan", "create", "--output", "json", *words)
    assert made.exit_code == status, made.stderr
    return json.loads(made.stdout)


def tags_of(registry: SampleRegistry) -> set[str]:
    return set(registry.content.repository("team/app").tags)


def collect_garbage(registry: SampleRegistry) -> None:
    """What no manifest names any more goes, as far as this registry is concerned."""
    app = registry.content.repository("team/app")
    named = b"".join(one.payload for one in app.manifests.values())
    for digest in [one for one in app.blobs if str(one).encode() not in named]:
        del app.blobs[digest]


def test_what_was_just_seen_for_the_first_time_stays_and_the_plan_says_when_it_goes(ask):
    made = ask("plan", "create", "--tag", "team/app:glob:dev-*")
    assert made.exit_code == 0, made.stderr
    assert "Nothing goes." in made.stdout
    assert "something goes from" in made.stdout
    assert "min-age" in made.stdout


NEWEST = """
apiVersion: retention/v1
kind: Policy
metadata: {name: newest}
scope: {registries: [one]}
keep:
  - {match: {tags: {any: ["glob:dev-?"]}}, newest: 1}
delete:
  - {match: {tags: {all-of-digest: ["glob:dev-?"]}}, when: {tagged: {older-than: 7d}}}
"""


def test_without_notifications_a_plan_says_what_stays_because_nobody_knows_the_order_and_what_to_do(ask, tmp_path):
    (tmp_path / "newest.yaml").write_text(NEWEST)
    told = ask("plan", "create", "-f", str(tmp_path / "newest.yaml"))
    assert "Nothing goes." in told.stdout
    assert "1 kept, 2 unordered; --verdicts tells it of each" in told.stdout
    assert "2 tags stay only because it is not known which are the newest" in told.stdout
    assert "Rank by version, semver or created" in told.stdout
    assert json.loads(ask("plan", "show", "1", "--output", "json").stdout)["stay_counts"]["unordered"] == 2
    assert "it is not known which are the newest" in ask("plan", "show", "1", "--review").stdout


def test_a_selection_of_nothing_says_so(ask):
    assert "Nothing that there is was selected" in ask("plan", "create", "--tag", "team/app:no-such").stdout


def test_an_applied_plan_says_what_became_of_it(ask):
    create(ask, "--tag", "team/app:dev-0", "--waive", "min-age")
    ask("plan", "approve", "1")
    ask("plan", "apply", "1", "--waive", "no-live-events")
    told = ask("plan", "show", "1").stdout
    assert "(1 done), to be undone until" in told
    assert "may be applied until" not in told


def test_a_cleanup_goes_all_the_way_and_back(ask, registry):
    before = tags_of(registry)
    plan = create(ask, "--tag", "team/app:glob:dev-*", "--waive", "min-age")
    number = str(plan["id"])
    assert (plan["tag_count"], plan["manifest_count"], plan["missing_approval_count"]) == (3, 3, 1)
    refused = ask("plan", "apply", number)
    assert refused.exit_code == 1
    assert "needs the approval of 1 person" in refused.stderr
    agreed = ask("plan", "approve", number, "--fingerprint", plan["fingerprint"])
    assert agreed.exit_code == 0, agreed.stderr
    applied = ask("plan", "apply", number, "--waive", "no-live-events")
    assert applied.exit_code == 0, applied.stderr
    assert "3 done" in applied.stdout
    assert "whether a push raced a deletion cannot be known" in applied.stdout
    assert tags_of(registry) == {"1.0", "dev-shared", "stable"}
    assert "dev-1" not in ask("tag", "list", "team/app", "--columns", "tag", "--output", "plain").stdout.split()
    one = ask("plan", "undo", number, "--only", "team/app:dev-1")
    assert one.exit_code == 0, one.stderr
    assert tags_of(registry) == {"1.0", "dev-1", "dev-shared", "stable"}
    undone = ask("plan", "undo", number)
    assert undone.exit_code == 0, undone.stderr
    assert tags_of(registry) == before
    finished = ask("plan", "finish", number)
    assert finished.exit_code == 0, finished.stderr
    assert "no garbage of it" in finished.stdout
    assert ask("plan", "undo", number).exit_code == 1
    actions = [row["action"] for row in json.loads(ask("audit", "list", "--output", "json").stdout)]
    assert actions == [
        "plan-finish",
        "plan-undo",
        "plan-undo",
        "plan-applied",
        "plan-apply",
        "plan-approve",
        "plan-create",
    ]


def test_a_finished_plan_says_how_its_registry_collects_garbage_and_compares_afterwards(ask, registry):
    plan = create(ask, "--tag", "team/app:dev-0", "--waive", "min-age", "--untagged-known")
    number = str(plan["id"])
    ask("plan", "approve", number)
    assert ask("plan", "apply", number, "--waive", "no-live-events").exit_code == 0
    finished = ask("plan", "finish", number)
    assert finished.exit_code == 0, finished.stderr
    assert "Collecting garbage at one" in finished.stdout
    assert f"{plan['sizes']['one']['reclaimable_bytes']:,} bytes" in finished.stdout
    assert f"plan finish {number} --collected" in finished.stderr
    compared = ask("plan", "finish", number, "--collected")
    assert "not-collected" in compared.stdout
    assert compared.exit_code == 3
    collect_garbage(registry)
    assert "one: collected" in ask("plan", "finish", number, "--collected").stdout


def test_without_live_events_nothing_is_applied_unless_that_is_waived_by_name(ask, registry):
    before = tags_of(registry)
    plan = create(ask, "--tag", "team/app:dev-0", "--waive", "min-age")
    ask("plan", "approve", str(plan["id"]))
    refused = ask("plan", "apply", str(plan["id"]), "--waive", "min-age")
    assert refused.exit_code == 1
    assert "no-live-events" in refused.stderr
    assert tags_of(registry) == before


def test_a_digest_that_another_tag_needs_is_left_alone_and_why_is_shown(ask):
    plan = create(ask, "--tag", "team/app:dev-shared", "--waive", "min-age")
    assert plan["step_counts"] == {}
    shown = ask("plan", "show", str(plan["id"]), "--verdicts", "--outcome", "keep").stdout
    row = next(line for line in shown.splitlines() if "dev-shared" in line)
    assert "shared" in row
    assert "stable" in row


def test_untag_removes_just_the_tag_of_a_digest_that_is_needed(ask, registry):
    plan = create(ask, "--tag", "team/app:dev-shared", "--untag", "--waive", "min-age")
    steps = json.loads(ask("plan", "show", str(plan["id"]), "--steps", "--output", "json").stdout)
    assert [(step["kind"], step["tags"]) for step in steps] == [("untag", ["dev-shared"])]
    ask("plan", "approve", str(plan["id"]))
    assert ask("plan", "apply", str(plan["id"]), "--waive", "no-live-events").exit_code == 0
    assert "dev-shared" not in tags_of(registry)
    assert "stable" in tags_of(registry)


def test_a_whole_repository_goes_only_if_never_empty_is_waived(ask):
    held = create(ask, "--repository", "team/other", "--waive", "min-age")
    assert held["step_counts"] == {}
    assert [guard["code"] for guard in held["guards"] if guard["state"] == "blocks"] == ["never-empty"]
    freed = create(ask, "--repository", "team/other", "--waive", "min-age", "--waive", "never-empty")
    assert sum(freed["step_counts"].values()) == 1


def test_what_a_person_protected_by_hand_stays(ask):
    held = ask("protection", "add", "team/app:dev-1", "--reason", "a customer runs it", "--until", "30d")
    assert held.exit_code == 0, held.stderr
    plan = create(ask, "--tag", "team/app:glob:dev-?", "--waive", "min-age")
    assert plan["tag_count"] == 2
    shown = ask("plan", "show", str(plan["id"]), "--verdicts", "--outcome", "keep").stdout
    assert "a customer runs it" in next(line for line in shown.splitlines() if "dev-1" in line)
    listed = json.loads(ask("protection", "list", "--output", "json").stdout)
    assert ask("protection", "remove", str(listed[0]["id"])).exit_code == 0
    assert create(ask, "--tag", "team/app:glob:dev-?", "--waive", "min-age")["tag_count"] == 3
    assert json.loads(ask("protection", "list", "--output", "json").stdout) == []
    assert len(json.loads(ask("protection", "list", "--all", "--output", "json").stdout)) == 1


def test_what_is_protected_after_the_plan_was_made_stays_too(ask, registry):
    plan = create(ask, "--tag", "team/app:glob:dev-?", "--waive", "min-age")
    ask("plan", "approve", str(plan["id"]))
    ask("protection", "add", "team/app:dev-1", "--reason", "just noticed")
    applied = ask("plan", "apply", str(plan["id"]), "--waive", "no-live-events")
    assert applied.exit_code == 3
    assert "dev-1" in tags_of(registry)
    assert "dev-0" not in tags_of(registry)


def test_a_plan_by_a_policy_that_wants_two_people_waits_for_signed_in_ones(ask, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace("APPROVAL", "two"))
    plan = create(ask, "-f", str(file), "--waive", "min-age")
    agreed = ask("plan", "approve", str(plan["id"]))
    assert "signed in" in agreed.stderr
    refused = ask("plan", "apply", str(plan["id"]), "--waive", "no-live-events")
    assert refused.exit_code == 1
    assert "approval" in refused.stderr


def test_a_policy_that_wants_nobodys_approval_is_applied_at_once(ask, tmp_path, registry):
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY.replace("APPROVAL", "none"))
    plan = create(ask, "-f", str(file), "--waive", "min-age")
    applied = ask("plan", "apply", str(plan["id"]), "--waive", "no-live-events")
    assert applied.exit_code == 0, applied.stderr
    assert tags_of(registry) == {"1.0", "stable"}


def test_a_review_file_is_the_same_for_the_same_facts_and_escapes_what_a_registry_says(ask):
    numbers = [create(ask, "--tag", "team/app:glob:dev-?", "--waive", "min-age")["id"] for _ in range(2)]
    first, second = (ask("plan", "show", str(number), "--review").stdout for number in numbers)
    assert "## What goes" in first
    assert "dev\\-0" not in first
    assert "`dev-0`" in first

    def facts(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("| one/")]

    assert facts(first) == facts(second)
    assert len(facts(first)) == 3


def test_a_review_writes_tags_as_they_are(ask, registry):
    registry.content.repository("team/app").add(image([real_layer(b"underscore")]), "night_ly_1")
    assert ask("crawl", registry.url, "--name", "one").exit_code == 0
    number = create(ask, "--tag", "team/app:night_ly_1", "--waive", "min-age")["id"]
    assert "| `night_ly_1` |" in ask("plan", "show", str(number), "--review").stdout


def test_a_registry_that_does_not_delete_holds_the_plan_back(ask, registry):
    registry.behaviour.can_delete = False
    plan = create(ask, "--tag", "team/app:dev-0", "--waive", "min-age", status=3)
    assert plan["is_blocked"]
    (guard,) = [one for one in plan["guards"] if one["code"] == "delete-disabled"]
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in guard["hint"]
    refused = ask("plan", "approve", str(plan["id"]))
    assert refused.exit_code == 1
    assert "delete-disabled" in refused.stderr


def test_a_rejected_plan_is_never_applied(ask):
    plan = create(ask, "--tag", "team/app:dev-0", "--waive", "min-age")
    assert ask("plan", "reject", str(plan["id"]), "--reason", "not yet").exit_code == 0
    assert ask("plan", "approve", str(plan["id"])).exit_code == 1
    assert ask("plan", "list", "--state", "rejected", "--output", "plain").stdout.startswith(f"{plan['id']}\t")


def test_the_evidence_of_a_plan_holds_the_bytes_of_what_it_removed(ask):
    plan = create(ask, "--tag", "team/app:dev-0", "--waive", "min-age")
    ask("plan", "approve", str(plan["id"]))
    ask("plan", "apply", str(plan["id"]), "--waive", "no-live-events")
    records = [json.loads(line) for line in ask("audit", "export", str(plan["id"])).stdout.splitlines()]
    kinds = {record["record"] for record in records}
    assert kinds == {"plan", "approval", "verdict", "step", "journal", "manifest", "audit"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("create",), "bad-selection"),
        (("create", "--tag", "team/app:x", "--waive", "everything"), "unknown-guard"),
        (("create", "--tag", "team/app:x", "--expires", "99d"), "bad-duration"),
        (("create", "--repository", "no/such"), "nothing-in-scope"),
        (("show", "99"), "plan-not-found"),
        (("show", "1", "--steps", "--outcome", "keep"), "usage"),
        (("show", "1", "--guards", "--repository", "team/app"), "usage"),
        (("undo", "99"), "plan-not-found"),
    ],
)
def test_bad_input_is_an_error_with_a_code_and_a_hint(ask, words, code):
    told = ask("plan", *words, "--output", "json")
    error = json.loads(told.stderr.splitlines()[-1]) if told.stderr.startswith("{") else told.stderr
    assert told.exit_code in (1, 2)
    assert code in str(error)
    assert "Traceback" not in told.stderr


def test_beside_a_service_the_service_does_it(ask, run, url, registry):
    with control_service(url):
        plan = create(ask, "--tag", "team/app:dev-0", "--waive", "min-age")
        number = str(plan["id"])
        assert ask("plan", "approve", number).exit_code == 0
        applied = ask("plan", "apply", number, "--waive", "no-live-events")
        assert applied.exit_code == 0, applied.stderr
        assert "dev-0" not in tags_of(registry)
        undone = ask("plan", "undo", number)
        assert undone.exit_code == 0, undone.stderr
        assert "dev-0" in tags_of(registry)
        assert ask("protection", "add", "team/app:1.0", "--reason", "release").exit_code == 0
        assert ask("plan", "finish", number).exit_code == 0


def test_a_plan_says_what_its_budgets_come_to_and_that_a_goal_is_missed(ask, tmp_path):
    file = tmp_path / "policy.yaml"
    keeps = 'keep: [{match: {tags: {any: ["1.0"]}}}]\n'
    text = POLICY.replace("APPROVAL", "none").replace("delete:\n", f"{keeps}delete:\n  - budget: {{max: 1}}\n")
    file.write_text(text)
    made = ask("plan", "create", "--file", str(file), "--waive", "min-age", "--waive", "never-empty")
    assert made.exit_code == 0, made.stderr
    assert "Budget ci: delete[0] of 1 B for one/team/app" in made.stdout
    assert "it is NOT met" in made.stdout
    plan = json.loads(ask("plan", "show", "1", "--output", "json").stdout)
    assert [(one["subject"], one["is_met"], one["chosen_count"]) for one in plan["budgets"]] == [
        ("one/team/app", False, 1),
        ("one/team/other", True, 1),
    ]
