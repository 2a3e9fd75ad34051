"""One thing in detail: a repository, a tag, a digest of any kind; and everything as a file."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from regwarden.cli.output import Printer
from regwarden.testing.content import Content
from regwarden.testing.images import image, image_config, layer, sbom
from regwarden.testing.server import running_sample_registry
from tests.sample_inventory import BASE_BYTES, Run


def test_a_repository_shows_its_sizes_and_largest_tags(ask: Run) -> None:
    result = ask("repository", "show", "team/app")
    assert result.exit_code == 0, result.stderr
    assert "stored bytes" in result.stdout
    assert "Largest tags" in result.stdout
    assert "1.2.0" in result.stdout


def test_a_tag_shows_its_layers_and_platforms(ask: Run) -> None:
    shown = json.loads(ask("tag", "show", "team/app:1.0.0", "--output", "json").stdout)
    assert [layer["size_bytes"] for layer in shown["manifest"]["layers"]] == [BASE_BYTES, 250_000]
    assert shown["manifest"]["labels"] == {"minor": "0"}
    people = ask("tag", "show", "team/web:edge")
    assert people.exit_code == 0, people.stderr
    assert "linux/arm64" in people.stdout


def test_a_reference_may_name_the_registry(ask: Run) -> None:
    assert ask("tag", "show", "small/team/app:1.0.0").exit_code == 0


def test_a_layer_is_found_by_the_start_of_its_digest_with_everything_that_needs_it(ask: Run) -> None:
    digest = str(layer("base", BASE_BYTES).blob.digest)
    found = json.loads(ask("manifest", "show", digest[:19], "--output", "json").stdout)
    assert found["digest"] == digest
    assert found["kinds"] == ["layer"]
    assert {(use["repository"], use["tag"]) for use in found["uses"]} >= {
        ("team/app", "1.0.0"),
        ("team/app", "latest"),
        ("team/web", "edge"),
    }
    assert "team/web" in ask("manifest", "show", digest).stdout


def test_a_hostile_label_is_shown_harmless(ask: Run) -> None:
    manifests = json.loads(ask("manifest", "list", "team/web", "--output", "json").stdout)
    arm = next(row["digest"] for row in manifests if row["platform"] == "linux/arm64")
    result = ask("manifest", "show", arm)
    assert "\\x1b[31m=red\\u202e" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("tag", "show", "team/app:9.9"), 1, "not-found"),
        (("tag", "show", "team/app"), 2, "bad-reference"),
        (("repository", "show", "team/none"), 1, "not-found"),
        (("manifest", "show", "sha256:" + "0" * 64), 1, "not-found"),
        (("manifest", "show", "sha256:xyz"), 2, "bad-digest"),
        (("manifest", "show", "f7"), 2, "bad-digest"),
        (("manifest", "show", "sha256:f7"), 2, "bad-digest"),
    ],
)
def test_what_is_not_there_is_said_with_a_hint(ask: Run, arguments, status, code) -> None:
    result = ask(*arguments)
    assert (result.exit_code, f"error[{code}]" in result.stderr) == (status, True), result.stderr
    assert "hint: " in result.stderr


def test_usage_adds_up(ask: Run) -> None:
    report = json.loads(ask("usage", "--output", "json").stdout)
    (registry,) = report["registries"]
    repositories = {row["repository"]: row for row in report["by_stored"]}
    assert registry["logical_bytes"] == sum(row["logical_bytes"] for row in repositories.values())
    assert registry["stored_bytes"] == sum(row["attributed_bytes"] for row in repositories.values())
    assert repositories["team/app"]["shared_bytes"] == BASE_BYTES
    people = ask("usage")
    assert "Largest repositories" in people.stdout


def test_export_writes_all_rows_as_json_lines_and_csv(ask: Run, tmp_path) -> None:
    file = tmp_path / "tags.jsonl"
    result = ask("export", "tag", "--to", str(file))
    assert result.exit_code == 0, result.stderr
    assert [json.loads(line)["tag"] for line in file.read_text().splitlines()] == [
        "1.0.0",
        "1.1.0",
        "1.2.0",
        "latest",
        "edge",
    ]
    lines = ask("export", "tag", "team/web", "--columns", "repository,tag", "--format", "csv").stdout.splitlines()
    assert lines == ["repository,tag", "team/web,edge"]


def test_parquet_keeps_types(ask: Run, tmp_path) -> None:
    file = tmp_path / "tags.parquet"
    assert ask("export", "tag", "--to", str(file)).exit_code == 0
    table = pq.read_table(file)
    assert table.num_rows == 5
    assert str(table.schema.field("created_at").type) == "timestamp[us, tz=UTC]"
    assert str(table.schema.field("logical_bytes").type) == "int64"


def test_parquet_without_its_library_names_the_extra(ask: Run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = ask("export", "tag", "--to", str(tmp_path / "tags.parquet"))
    assert result.exit_code == 2
    assert "regwarden[parquet]" in result.stderr


def test_an_export_that_cannot_be_written_leaves_nothing_behind(ask: Run, tmp_path) -> None:
    result = ask("export", "tag", "--to", str(tmp_path / "none" / "tags.csv"))
    assert result.exit_code == 2
    assert "cannot write" in result.stderr
    wrong = ask("export", "tag", "--to", str(tmp_path / "tags.csv"), "--where", "sze > 1")
    assert wrong.exit_code == 2
    assert list(tmp_path.glob("tags*")) == []


def test_registries_are_listed_with_their_totals(ask: Run) -> None:
    (row,) = json.loads(ask("registry", "list", "--output", "json").stdout)
    assert (row["registry"], row["tag_count"], row["crawl_state"]) == ("small", 5, "complete")
    assert ask("registry", "list", "--count").stdout == "1\n"


def test_a_sound_database_passes_its_check(ask: Run) -> None:
    report = json.loads(ask("db", "check", "--output", "json").stdout)
    assert (report["sound"], report["row_counts"]["tags"]) == (True, 5)


def test_migrate_makes_an_empty_database(run: Run, tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite3'}"
    assert run("db", "migrate", "--database", url).exit_code == 0
    assert run("tag", "list", "--count", "--database", url).stdout == "0\n"


def test_registries_are_exported_too(ask: Run) -> None:
    lines = ask("export", "registry", "--columns", "registry,tag_count").stdout.splitlines()
    assert lines == ["registry,tag_count", "small,5"]


def test_an_export_whose_format_is_not_clear_asks_for_it(ask: Run, tmp_path) -> None:
    unclear = ask("export", "tag", "--to", str(tmp_path / "tags.xyz"))
    assert (unclear.exit_code, "--format" in unclear.stderr) == (2, True)
    assert list(tmp_path.glob("tags*")) == []
    misplaced = ask("export", "tag", "--output", "csv")
    assert (misplaced.exit_code, misplaced.stdout, "--format" in misplaced.stderr) == (2, "", True)


def test_the_shortest_start_of_a_digest_is_named(ask: Run) -> None:
    assert "needs at least six hexadecimal digits" in ask("manifest", "show", "f7").stderr


def test_referrers_are_shown_once(run: Run, tmp_path) -> None:
    content = Content()
    app = content.repository("team/app")
    built = image([layer("base", 1000)], image_config())
    app.add(built, "1.0")
    app.add(sbom(built), "sbom")
    url = f"sqlite:///{tmp_path / 'signed.sqlite3'}"
    with running_sample_registry(content) as registry:
        assert run("crawl", registry.url, "--database", url).exit_code == 0
    for shown in (("manifest", str(built.digest)), ("manifest", "team/app:1.0"), ("tag", "team/app:1.0")):
        result = run(shown[0], "show", shown[1], "--database", url)
        assert result.stdout.count("Signatures, attestations and other referrers") == 1, result.stdout


def test_a_size_is_not_written_twice(capsys: pytest.CaptureFixture[str]) -> None:
    Printer().facts({"size_bytes": 491, "logical_bytes": 1_000_000, "total_size": 0})
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["size bytes     491 B", "logical bytes  977 KiB (1,000,000 bytes)", "total size     0 B"]
