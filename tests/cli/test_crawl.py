"""Crawling from the command line: credentials, progress, the certificate in words, how it can fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regwarden.testing.authentication import BasicAuth, BearerAuth, DigestAuth
from regwarden.testing.behaviour import Fault
from tests.sample_inventory import Run, isolated_environment, small_registry

USERS = {"reader": "s3cret"}


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'crawled.sqlite3'}"


def test_a_crawl_needs_no_configuration_and_says_how_complete_it_is(run: Run, database: str) -> None:
    with small_registry() as registry:
        result = run("crawl", registry.url, "--database", database)
    assert result.exit_code == 0, result.stderr
    assert "complete" in result.stdout
    assert "2 repositories, 5 tags" in result.stdout
    assert run("tag", "list", "--count", "--database", database).stdout == "5\n"


def test_an_unchanged_registry_is_not_read_twice(run: Run, database: str) -> None:
    with small_registry() as registry:
        run("crawl", registry.url, "--database", database)
        registry.forget()
        result = run("crawl", registry.url.partition("://")[2], "--database", database)
        assert result.exit_code == 0, result.stderr
        assert registry.pull_events == []
    assert "0 fetched" in result.stdout
    assert '5 answered "unchanged"' in result.stdout


def test_a_crawled_registry_is_known_by_its_name_with_its_scheme(run: Run, database: str) -> None:
    with small_registry() as registry:
        run("crawl", registry.url, "--name", "mine", "--database", database)
        again = run("crawl", "mine", "--database", database)
        by_address = run("crawl", registry.url, "--database", database)
    assert again.exit_code == by_address.exit_code == 0
    assert by_address.stdout.startswith("mine: complete")


@pytest.mark.parametrize("auth", [BasicAuth(USERS), BearerAuth(USERS)], ids=["basic", "bearer"])
def test_the_password_comes_from_standard_input_or_a_file(run: Run, database: str, tmp_path: Path, auth) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\nanother line\n")
    with small_registry(auth) as registry:
        asked = ("crawl", registry.url, "--user", "reader", "--database", database)
        from_stdin = run(*asked, "--password-stdin", stdin="s3cret\n")
        from_file = run(*asked, "--password-file", str(secret))
    assert (from_stdin.exit_code, from_file.exit_code) == (0, 0), from_stdin.stderr + from_file.stderr


def test_digest_authentication_is_asked_for_with_an_option(run: Run, database: str) -> None:
    with small_registry(DigestAuth(USERS)) as registry:
        result = run(
            "crawl",
            registry.url,
            "-u",
            "reader",
            "--password-stdin",
            "--digest-auth",
            "--database",
            database,
            stdin="s3cret",
        )
    assert result.exit_code == 0, result.stderr


def test_the_predecessors_variables_name_the_registry_and_the_user(run: Run, database: str) -> None:
    with small_registry(BasicAuth(USERS)) as registry:
        result = run(
            "crawl", "--database", database, REGISTRY=registry.url, REGISTRY_USER="reader", REGISTRY_PASSWORD="s3cret"
        )
    assert result.exit_code == 0, result.stderr


def test_the_predecessors_password_does_not_reach_another_registry(run: Run, database: str) -> None:
    with small_registry(BasicAuth(USERS)) as registry:
        result = run(
            "crawl",
            registry.url,
            "--database",
            database,
            REGISTRY="registry.example.com",
            REGISTRY_USER="reader",
            REGISTRY_PASSWORD="s3cret",
        )
        schemes = {request.authorization_scheme for request in registry.requests}
    assert result.exit_code == 1
    assert schemes == {""}


def test_a_docker_configuration_gives_the_credentials(run: Run, database: str, tmp_path: Path) -> None:
    with small_registry(BasicAuth(USERS)) as registry:
        host = registry.url.partition("://")[2]
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"auths": {host: {"username": "reader", "password": "s3cret"}}}))
        result = run("crawl", registry.url, "--docker-config", str(file), "--database", database)
    assert result.exit_code == 0, result.stderr


def test_a_configured_registry_is_crawled_by_its_name(run: Run, database: str, tmp_path: Path) -> None:
    with small_registry(BasicAuth(USERS)) as registry:
        secret, config = tmp_path / "secret", tmp_path / "regwarden.toml"
        secret.write_text("s3cret")
        config.write_text(
            f'[[registry]]\nname = "prod"\nurl = "{registry.url}"\nusername = "reader"\npassword_file = "{secret}"\n'
        )
        named = run("crawl", "prod", "--config", str(config), "--database", database)
        everything = run("crawl", "--config", str(config), "--database", database)
    assert (named.exit_code, everything.exit_code) == (0, 0), named.stderr + everything.stderr
    assert named.stdout.startswith("prod: complete")


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("crawl", "http://127.0.0.1:1"), 1, "registry-unreachable"),
        (("crawl", "https://user:pw@registry.example.com"), 2, "bad-registry-url"),
        (("crawl", "ftp://registry.example.com"), 2, "bad-registry-url"),
        (("crawl", "nonsense"), 1, "unknown-registry"),
        (("crawl",), 2, "no-registry"),
        (("crawl", "a.example", "b.example", "--name", "c"), 2, "bad-input"),
        (("crawl", "a.example", "--password-file", "/nonexistent"), 2, "bad-input"),
        (("crawl", "a.example", "--repository", "re:("), 2, "bad-pattern"),
        (("crawl", "http://127.0.0.1:1", "--rate", "-1"), 2, "bad-input"),
        (("crawl", "http://127.0.0.1:1", "--rate", "nan"), 2, "bad-input"),
        (("crawl", "http://127.0.0.1:1", "--rate", "inf"), 2, "bad-input"),
    ],
)
def test_a_crawl_that_cannot_begin_is_one_sentence_and_a_status(run: Run, database, arguments, status, code) -> None:
    result = run(*arguments, "--database", database)
    assert (result.exit_code, f"error[{code}]" in result.stderr) == (status, True), result.stderr
    assert "hint: " in result.stderr
    assert "Traceback" not in result.output


def test_a_wrong_password_is_said_without_showing_it(run: Run, database: str) -> None:
    with small_registry(BasicAuth(USERS)) as registry:
        result = run(
            "crawl", registry.url, "-u", "reader", "--password-stdin", "-vv", "--database", database, stdin="wr0ng-pass"
        )
    assert result.exit_code == 1
    assert "error[registry-denied]" in result.stderr
    assert "wr0ng-pass" not in result.output


def test_a_part_that_cannot_be_read_is_status_3_and_named(run: Run, database: str) -> None:
    with small_registry() as registry:
        registry.behaviour.faults["GET", "/v2/team/web/tags/list"] = [Fault(403)] * 50
        result = run("crawl", registry.url, "--database", database)
    assert result.exit_code == 3, result.output
    assert "partial" in result.stdout
    assert "1 repository denied" in result.stdout
    assert "team/web" in result.stdout


def test_one_registry_that_fails_does_not_stop_the_others(run: Run, database: str) -> None:
    with small_registry() as registry:
        result = run("crawl", "http://127.0.0.1:1", registry.url, "--database", database)
    assert result.exit_code == 3
    assert "error[registry-unreachable]: http://127.0.0.1:1" in result.stderr
    assert "complete" in result.stdout


def test_the_certificate_is_printed_as_json_too(run: Run, database: str) -> None:
    with small_registry() as registry:
        result = run("crawl", registry.url, "--output", "json", "--database", database)
    (report,) = json.loads(result.stdout)
    assert (report["state"], report["tag_count"], report["problem_count"]) == ("complete", 5, 0)


def test_only_chosen_repositories_are_read(run: Run, database: str) -> None:
    with small_registry() as registry:
        result = run("crawl", registry.url, "--repository", "glob:team/w*", "--database", database)
        paths = [request.path for request in registry.requests]
        assert not any("team/app/tags" in path or "team/app/manifests" in path for path in paths), paths
    assert "restricted to glob:team/w*" in result.stdout


def test_refresh_crawls_before_it_answers(run: Run, database: str) -> None:
    with small_registry() as registry:
        run("crawl", registry.url, "--database", database)
        registry.content.repository("team/app").set_tag("new", registry.content.repository("team/app").tags["1.0.0"])
        stale = run("tag", "list", "--count", "--database", database)
        fresh = run("tag", "list", "--count", "--refresh", "--database", database)
    assert (stale.stdout, fresh.stdout) == ("5\n", "6\n")


def test_a_memory_database_answers_with_refresh_and_keeps_nothing(run: Run) -> None:
    with small_registry() as registry:
        result = run("tag", "list", "--count", "--refresh", "--database", ":memory:", REGISTRY=registry.url)
    assert (result.exit_code, result.stdout) == (0, "5\n"), result.stderr


def test_an_interrupted_crawl_says_how_to_go_on_and_continues(run: Run, database: str, tmp_path: Path) -> None:
    with small_registry() as registry:
        registry.behaviour.latency_seconds = 0.5
        environ = {**os.environ, **{k: v for k, v in isolated_environment(tmp_path).items() if v is not None}}
        command = [sys.executable, "-m", "regwarden", "crawl", registry.url, "--database", database]
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while not any("manifests" in request.path for request in registry.requests) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130, stderr
        assert "run the same command again to continue" in stderr
        assert "Traceback" not in stderr
        registry.behaviour.latency_seconds = 0
        again = run("crawl", registry.url, "--database", database)
    assert again.exit_code == 0, again.stderr
    assert "5 tags" in again.stdout


def test_a_registry_check_says_what_it_can_do_and_leaves_no_trace(run: Run, database: str) -> None:
    with small_registry() as registry:
        result = run("registry", "check", registry.url, "--database", database)
        assert registry.pull_events == []
    assert result.exit_code == 0, result.stderr
    assert "answers" in result.stdout
    assert "can list its repositories" in result.stdout
    assert "never crawled" in result.stdout


def test_a_check_of_an_absent_registry_fails(run: Run, database: str) -> None:
    result = run("registry", "check", "http://127.0.0.1:1", "--output", "json", "--database", database)
    assert result.exit_code == 1
    (checked,) = json.loads(result.stdout)
    assert checked["is_reachable"] is False
    assert checked["error"]["code"] == "registry-unreachable"


def test_a_restricted_crawl_says_so_and_announces_nothing_that_does_not_follow(run: Run, database: str) -> None:
    with small_registry() as registry:
        result = run("crawl", registry.url, "--repository", "team/web", "--database", database)
    assert result.exit_code == 0, result.stderr
    assert "restricted to team/web; everything else is as it was" in result.stdout
    assert "may be incomplete" not in result.stdout
    assert "1 repository, 1 tag" in result.stdout


def test_a_repository_that_was_named_and_does_not_exist_is_said(run: Run, database: str) -> None:
    with small_registry() as registry:
        result = run("crawl", registry.url, "--repository", "nothere", "--database", database)
    assert result.exit_code in (1, 3), result.output
    assert re.search(r"^  .*(does not know the repository nothere|nothere does not exist)", result.stdout, re.MULTILINE)
    assert "may be incomplete" not in result.output


def test_a_registry_that_has_a_name_does_not_get_a_second_one(run: Run, database: str, tmp_path: Path) -> None:
    config = tmp_path / "regwarden.toml"
    with small_registry() as registry:
        config.write_text(f'[[registry]]\nname = "prod"\nurl = "{registry.url}"\n')
        refused = run("crawl", "prod", "--name", "other", "--config", str(config), "--database", database)
        by_address = run("crawl", registry.url, "--name", "other", "--config", str(config), "--database", database)
        allowed = run("crawl", "prod", "--name", "prod", "--config", str(config), "--database", database)
    assert (refused.exit_code, by_address.exit_code, allowed.exit_code) == (2, 2, 0)
    assert "is called prod already" in refused.stderr


def test_missing_and_wrong_credentials_are_told_apart(run: Run, database: str) -> None:
    for auth in (BasicAuth(USERS), BearerAuth(USERS)):
        with small_registry(auth) as registry:
            without = run("crawl", registry.url, "--database", database)
            wrong = run("crawl", registry.url, "-u", "reader", "--password-stdin", "--database", database, stdin="no")
        assert "Give --user and --password-stdin, or run docker login." in without.stderr
        assert "docker login" not in wrong.stderr
        assert "hint: Check the user" in wrong.stderr


@pytest.mark.parametrize("option", ["--verify", "--verify-blobs"])
def test_a_crawl_that_leaves_pull_events_says_so(run: Run, database: str, option: str) -> None:
    with small_registry() as registry:
        loud = run("crawl", registry.url, option, "--database", database)
        usual = run("crawl", registry.url, "--database", database)
    assert loud.stderr.count("pull events") == 1
    assert f"{option} leaves pull events at the registry" in loud.stderr
    assert "pull events" not in usual.stderr


def test_a_refused_connection_is_said_in_plain_words(run: Run, database: str) -> None:
    result = run("crawl", "http://127.0.0.1:1", "--database", database)
    assert "no connection to 127.0.0.1:1: connection refused" in result.stderr


def test_a_crawl_without_arguments_reads_what_the_inventory_knows(run: Run, database: str) -> None:
    with small_registry() as registry:
        run("crawl", registry.url, "--name", "mine", "--database", database)
        again = run("crawl", "--database", database)
        with_user = run("crawl", "--user", "reader", "--password-stdin", "--database", database, stdin="s3cret")
    assert again.exit_code == 0, again.stderr
    assert again.stdout.startswith("mine: complete")
    assert with_user.exit_code == 2
    assert "Name the registry" in with_user.stderr
