"""`regwarden policy import`."""

from __future__ import annotations

import json

from tests.imported_rules import FOLDER


def test_the_policy_is_printed_and_the_report_goes_to_standard_error(run):
    result = run("policy", "import", "--from", "gitlab", str(FOLDER / "gitlab.json"))
    assert result.exit_code == 0
    assert result.stdout.startswith("# Translated from GitLab by regwarden policy import")
    assert "removes-more[count-per-page]: container_expiration_policy.keep_n: " in result.stderr
    assert run("policy", "check", "-", stdin=result.stdout).exit_code == 0


def test_the_system_is_seen_and_the_scope_can_be_given(run):
    text = (FOLDER / "ecr.json").read_text()
    unnamed = run("policy", "import", "-", stdin=text)
    assert "note[scope-missing]" in unnamed.stderr
    result = run("policy", "import", "-", "--repository", "glob:team/*", "--repository", "web", stdin=text)
    assert 'include: ["glob:team/*", web]' in result.stdout
    assert "scope-missing" not in result.stderr


def test_json_holds_the_policies_and_the_report(run):
    result = run("policy", "import", str(FOLDER / "harbor.json"), "--project", "team", "--output", "json")
    shown = json.loads(result.stdout)
    assert (result.exit_code, shown["from"]) == (0, "harbor")
    assert shown["differences"][0] == {
        "severity": "trap",
        "code": "any-tag",
        "path": "rules[0]",
        "message": "Harbor judges images: one tag that matches keeps all tags of its image",
    }
    assert run("policy", "check", "-", stdin=shown["policies"]).exit_code == 0


def test_a_mistake_has_its_place_and_nothing_is_printed(run, tmp_path):
    (tmp_path / "x.json").write_text('{"rules": [\n {"rulePriority": 0}]}')
    result = run("policy", "import", "--from", "ecr", str(tmp_path / "x.json"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "x.json:2:19: rules[0].rulePriority: a whole number from 1" in result.stderr
