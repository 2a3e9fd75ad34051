"""`regwarden policy`: check, show, example, schema."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "src" / "regwarden" / "core" / "policy_example.yaml"
WRONG = EXAMPLE.read_text().replace("default: keep", "defalt: keep").replace("newest: 3", "newest: 0")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(EXAMPLE.read_text())
    (tmp_path / "trap.yaml").write_text(EXAMPLE.read_text().replace("never-empty: true", "never-empty: false"))
    (tmp_path / "wrong.yaml").write_text(WRONG)
    return tmp_path


def test_a_good_policy_is_called_correct(run, place):
    result = run("policy", "check", "good.yaml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "good.yaml: correct; policy ci-default\n"


def test_every_mistake_is_shown_with_its_place_in_the_form_that_editors_know(run, place):
    result = run("policy", "check", "wrong.yaml")
    lines = WRONG.splitlines()
    newest = next(number for number, line in enumerate(lines, 1) if "newest: 0" in line)
    default = next(number for number, line in enumerate(lines, 1) if line.startswith("defalt"))
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
        f"wrong.yaml:{newest}:13: error[bad-policy]: '0' is not a whole number from 1 to 1000000",
        f"wrong.yaml:{default}:1: error[bad-policy]: there is no 'defalt' here",
        "  hint: Did you mean default?",
    ]
    assert result.stderr == "wrong.yaml: 2 mistakes\n"


def test_warnings_fail_only_where_it_is_strict(run, place):
    result = run("policy", "check", "trap.yaml")
    assert result.exit_code == 0
    assert "warning[never-empty-off]: a repository may be emptied" in result.stdout
    assert "1 warning\n" in result.stderr
    assert run("policy", "check", "--strict", "trap.yaml").exit_code == 1
    assert run("policy", "check", "--strict", "good.yaml").exit_code == 0
    assert run("policy", "check", "--strict", "trap.yaml", "wrong.yaml").exit_code == 2


def test_all_findings_of_all_files_are_one_json_list(run, place):
    result = run("policy", "check", "good.yaml", "trap.yaml", "wrong.yaml", "--output", "json")
    rows = json.loads(result.stdout)
    assert [(row["file"], row["severity"], row["code"]) for row in rows] == [
        ("trap.yaml", "warning", "never-empty-off"),
        ("wrong.yaml", "error", "bad-policy"),
        ("wrong.yaml", "error", "bad-policy"),
    ]
    assert set(rows[0]) == {"file", "line", "column", "severity", "code", "message", "hint"}
    assert json.loads(run("policy", "check", "good.yaml", "--output", "json").stdout) == []


def test_a_policy_comes_from_standard_input(run):
    result = run("policy", "check", "-", stdin=EXAMPLE.read_text())
    assert (result.exit_code, result.stderr) == (0, "standard input: correct; policy ci-default\n")
    assert run("policy", "check", "-", stdin=WRONG).stdout.startswith("standard input:")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read x.yaml: no such file or directory"),
        (b"a: \xff", "x.yaml:1: this is not text in UTF-8"),
        (b"#" * (1024 * 1024 + 1), "x.yaml is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_of_one_sentence(run, place, content, words):
    if content is not None:
        (place / "x.yaml").write_bytes(content)
    result = run("policy", "check", "x.yaml")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == f"error[bad-input]: {words}"


def test_what_a_hostile_policy_says_does_not_reach_the_terminal(run):
    result = run("policy", "check", "-", stdin='"\\e[31m\\n": 1')
    assert result.exit_code == 2
    assert "\x1b" not in result.stdout + result.stderr


def test_show_says_what_a_policy_does(run, place):
    result = run("policy", "show", "good.yaml")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Policy ci-default, owned by platform team, for repositories matching glob:team-*/**")
    assert "- Delete (left-behind) all manifests without a tag, untagged more than 7 days ago." in lines


def test_show_prints_every_default_for_programs(run, place):
    (policy,) = json.loads(run("policy", "show", "good.yaml", "--output", "json").stdout)
    assert policy["limits"]["min-age"] == "1d"
    assert policy["mode"] == "keep-and-delete"


def test_show_of_a_wrong_policy_names_the_first_mistake(run, place):
    result = run("policy", "show", "wrong.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error[bad-policy]: wrong.yaml:")
    assert "(and 1 more)" in result.stderr


def test_the_example_is_correct_without_a_warning_and_stands_in_the_manual(run):
    printed = run("policy", "example").stdout
    assert run("policy", "check", "--strict", "-", stdin=printed).exit_code == 0
    assert f"```yaml\n{printed}```" in (ROOT / "docs" / "how-to" / "policies.md").read_text()


def test_every_policy_of_the_manual_can_be_used(run):
    head = "apiVersion: retention/v1\nkind: Policy\nmetadata: {name: x}\nscope: {repositories: {include: [a]}}\n"
    blocks = (ROOT / "docs" / "how-to" / "policies.md").read_text().split("```yaml\n")[1:]
    bodies = [block.partition("```")[0] for block in blocks]
    assert len(bodies) > 5
    for body in bodies:
        result = run("policy", "check", "-", stdin=body if "apiVersion" in body else head + body)
        assert result.exit_code == 0, (body, result.stdout)


def test_the_schema_is_printed_as_it_is_published(run):
    printed = run("policy", "schema").stdout
    assert printed == (ROOT / "src" / "regwarden" / "core" / "policy.schema.json").read_text()
    assert json.loads(printed)["title"] == "Regwarden policy"


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["policy-clauses.md", "policy-lint.md"])
def test_a_generated_page_about_policies_is_current(name):
    written = (ROOT / "docs" / "reference" / name).read_text()
    assert written == load_generator().policy_pages()[name], "run: python docs/generate_reference.py"


def test_the_published_schema_is_current():
    written = (ROOT / "src" / "regwarden" / "core" / "policy.schema.json").read_text()
    assert written == load_generator().schema_text(), "run: python docs/generate_reference.py"
