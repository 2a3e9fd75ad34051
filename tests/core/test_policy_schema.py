from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from regwarden.core.policy import Policy
from regwarden.core.policy_reading import read_policies, write_policy, write_policy_in_full
from regwarden.core.policy_schema import build_schema
from tests.policies import HEAD, built

ROOT = Path(__file__).parents[2]
EXAMPLES = [*(ROOT / "tests" / "data" / "policies").glob("*.yaml"), ROOT / "src/regwarden/core/policy_example.yaml"]
VALIDATOR = jsonschema.Draft7Validator(build_schema())


def test_the_published_schema_is_that_of_the_classes():
    published = (ROOT / "src" / "regwarden" / "core" / "policy.schema.json").read_text()
    assert json.loads(published) == build_schema(), "run: python docs/generate_reference.py"


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(build_schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_schema_accepts_every_example(path):
    for document in yaml.safe_load_all(path.read_text()):
        assert list(VALIDATOR.iter_errors(document)) == []


@pytest.mark.parametrize(
    "body",
    [
        "keeep: []",
        "keep: {newest: 3}",
        "keep: [{newest: 0}]",
        "keep: [{newest: 1000001}]",
        "keep: [{newest: three}]",
        "keep: [{match: {tags: [a]}}]",
        "keep: [{match: {tags: {any: []}}}]",
        "keep: [{match: {tags: {any: [1.10]}}}]",
        "mode: first",
        "limits: {never-empty: 'yes'}",
        "limits: {min-age: 3}",
        "limits: {per-run: {manifests: many}}",
        "limits: {per-run: {share-of-repo: 30}}",
        "protect: [{pulled: {within: 30d, by: [humans]}}]",
        "delete: [{budget: {scope: repo}}]",
        "metadata: {}",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses_or_warns_of(body):
    document = {**yaml.safe_load(HEAD), **yaml.safe_load(body)}
    assert list(VALIDATOR.iter_errors(document)) != []
    read = read_policies(json.dumps(document) if "1.10" not in body else HEAD + body)
    assert read.problems or read.policies[0].unquoted


@settings(max_examples=100, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(built(Policy))
def test_the_schema_accepts_whatever_the_reader_accepts(policy):
    assert list(VALIDATOR.iter_errors(write_policy(policy))) == []
    assert list(VALIDATOR.iter_errors(write_policy_in_full(policy))) == []


def test_every_clause_and_every_map_is_explained_to_the_editor():
    for definition in build_schema()["definitions"].values():
        assert definition["description"]
        assert all(one["description"] for one in definition["properties"].values())
