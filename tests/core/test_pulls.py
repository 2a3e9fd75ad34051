"""Who pulls: labelled user agents, the user's rules, and what hostile events do (nothing)."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regwarden.core.events import Action, Event, Target
from regwarden.core.pull_agents import PullClass, check_class, class_of_client
from regwarden.core.pulls import Classifier, check_rule_part, check_rules
from regwarden.errors import InputError
from regwarden.settings_sections import CLASSES, PullRule

CORPUS = Path(__file__).parents[1] / "data" / "pull_agents.tsv"
DOCKER = "docker/24.0.7 go/go1.20.10 os/linux arch/amd64 UpstreamClient(Docker-Client/24.0.7 \\(linux\\))"


def _labelled() -> list[tuple[str, str, str]]:
    lines = [line for line in CORPUS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [(row[0], row[1], row[2]) for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]


def pull(
    user_agent: str = "",
    *,
    actor: str = "",
    address: str = "",
    method: str = "GET",
    repository: str = "team/app",
) -> Event:
    """A pull of somebody."""
    return Event(
        event_id="1",
        action=Action.PULL,
        target=Target.MANIFEST,
        at=datetime(2026, 11, 1, tzinfo=UTC),
        repository=repository,
        user_agent=user_agent,
        actor=actor,
        address=address,
        method=method,
    )


def test_every_labelled_client_gets_its_class_and_no_other() -> None:
    labelled = _labelled()
    classifier = Classifier()
    found = [(label, classifier.classify(pull(agent, actor=actor))) for label, agent, actor in labelled]
    hits = Counter(label for label, one in found if label == one)
    wanted, given_out = Counter(label for label, _ in found), Counter(one for _, one in found)
    recall = {name: hits[name] / wanted[name] for name in PullClass}
    precision = {name: hits[name] / given_out[name] for name in PullClass}
    assert len(labelled) >= 60
    assert all(count >= 5 for count in wanted.values())
    assert recall == dict.fromkeys(PullClass, 1.0), [row for row in found if row[0] != row[1]]
    assert precision == dict.fromkeys(PullClass, 1.0)


def test_the_settings_know_the_same_classes() -> None:
    assert tuple(PullClass) == CLASSES


def test_what_a_kernel_is_called_or_a_comment_says_makes_nobody_a_scanner() -> None:
    assert class_of_client("containerd/1.7 (trivy; scanner)") == PullClass.WORKLOAD
    assert (
        class_of_client("docker/24.0 kernel/6.1-trivy os/linux UpstreamClient(Docker-Client/24 \\(xray\\))") == "human"
    )
    assert class_of_client("curl/8 (regsync)") == PullClass.OTHER


def test_the_first_rule_that_matches_decides_before_what_is_known_of_clients() -> None:
    classifier = Classifier(
        (
            PullRule(pull_class="ci", user_agent="glob:docker/**", network=("10.1.0.0/16",)),
            PullRule(pull_class="workload", user_agent="glob:docker/**", network=("10.0.0.0/8", "2001:db8::/32")),
        )
    )
    assert classifier.classify(pull(DOCKER, address="10.1.2.3:48358")) == "ci"
    assert classifier.classify(pull(DOCKER, address="10.2.2.3:48358")) == "workload"
    assert classifier.classify(pull(DOCKER, address="[2001:db8::7]:4000")) == "workload"
    assert classifier.classify(pull(DOCKER, address="[::ffff:10.1.2.3]:1")) == "ci"
    assert classifier.classify(pull(DOCKER, address="192.0.2.1:1")) == "human"
    assert classifier.classify(pull("containerd/1.7.2", address="10.1.2.3")) == "workload"


def test_everything_that_a_rule_sets_must_match() -> None:
    rule = PullRule(
        pull_class="crawler", user_agent="re:curl/.*", actor="glob:watch-*", method="HEAD", repository="glob:team/**"
    )
    classifier = Classifier((rule,))
    full = {"actor": "watch-1", "method": "HEAD", "repository": "team/a/b"}
    assert classifier.classify(pull("curl/8", **full)) == "crawler"
    for name, other in (("actor", "me"), ("method", "GET"), ("repository", "other/app")):
        assert classifier.classify(pull("curl/8", **full | {name: other})) == "other"
    assert classifier.classify(pull("wget/1", **full)) == "other"


def test_a_rule_with_a_network_does_not_match_an_address_that_is_none() -> None:
    classifier = Classifier((PullRule(pull_class="ci", network=("0.0.0.0/0", "::/0")),))
    for address in ("", "registry-host:5107", "[", "::::", "999.1.1.1:2", "10.0.0.1:80:80", "\x00"):
        assert classifier.classify(pull("curl/8", address=address)) == "other", address
    assert classifier.classify(pull("curl/8", address="fe80::1%eth0")) == "ci"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (PullRule(pull_class="robots", actor="a"), "not a class of pulls"),
        (PullRule(pull_class="ci"), "asks for nothing"),
        (PullRule(pull_class="ci", user_agent="glob:{"), "pull rule 2"),
        (PullRule(pull_class="ci", actor="semver:^1"), "compares versions"),
        (PullRule(pull_class="ci", network=("10.0.0.1/8",)), "not a network"),
        (PullRule(pull_class="ci", network=("runner.example.com",)), "not a network"),
        (PullRule(pull_class="ci", method="POST"), "not a method"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_with_its_number(rule: PullRule, words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        Classifier((PullRule(pull_class="ci", actor="a"), rule))
    assert raised.value.message.startswith("pull rule 2 ")
    assert raised.value.code == "bad-pull-rule"


def test_a_name_that_is_no_class_is_refused() -> None:
    assert [check_class(name) for name in CLASSES] == list(CLASSES)
    with pytest.raises(InputError, match="'bots' is not a class of pulls"):
        check_class("bots")


@pytest.mark.parametrize(
    ("name", "value"), [("actor", "glob:{"), ("network", ("10.0.0.1/8",)), ("method", "get"), ("pull_class", "")]
)
def test_one_setting_of_a_rule_is_checked_by_itself(name: str, value: object) -> None:
    with pytest.raises(InputError):
        check_rule_part(name, value)
    check_rule_part("actor", "")


def test_more_rules_than_the_limit_are_refused() -> None:
    with pytest.raises(InputError, match="501 pull rules"):
        check_rules([PullRule(pull_class="ci", actor="a")] * 501)


ODD = ("(" * 256, "docker/", "docker/1 UpstreamClient(", "/" * 200, "a/" * 99)
HOSTILE = st.text(max_size=256) | st.sampled_from(ODD)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_event_makes_it_raise(user_agent: str, actor: str, address: str, repository: str) -> None:
    rules = (PullRule(pull_class="ci", network=("10.0.0.0/8",)), PullRule(pull_class="ci", repository="glob:x/**"))
    event = pull(user_agent, actor=actor, address=address, repository=repository)
    assert Classifier(rules).classify(event) in CLASSES


def test_classes_are_remembered_without_the_port_and_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def count(user_agent: str, actor: str) -> PullClass:
        asked.append(user_agent)
        return class_of_client(user_agent, actor)

    monkeypatch.setattr("regwarden.core.pulls.class_of_client", count)
    classifier = Classifier((PullRule(pull_class="ci", network=("192.0.2.0/24",)),))
    for port in range(50):
        classifier.classify(pull("containerd/1.7.2", address=f"10.0.0.1:{port}", repository=f"team/app{port}"))
    assert asked == ["containerd/1.7.2"]
    for number in range(17_000):
        classifier.classify(pull(f"agent/{number}"))
    classifier.classify(pull("containerd/1.7.2", address="10.0.0.1:1"))
    assert asked.count("containerd/1.7.2") == 2
