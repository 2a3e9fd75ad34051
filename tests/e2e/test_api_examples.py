"""The examples in the description of the API have the form of what a service answers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.api_examples import FILE, collect, names_in
from tests.fuzzed_service import fuzzed_service

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="the service is stopped with SIGTERM here"),
]
# How far long work has come when it is looked at is chance, and for which registries sizes are computed by then.
CHANCE = re.compile(r"\.(progress|result|error|plan|registry)\b")
COMPUTED = re.compile(r"\.(warnings|sizes)\b.")


def test_the_examples_are_those_of_this_program(tmp_path: Path):
    with fuzzed_service(tmp_path) as service:
        answered = collect(service)
    written = json.loads(FILE.read_text())
    hint = "run: python -m tests.api_examples"
    assert set(written) == set(answered), hint
    for operation, example in answered.items():
        now, before = (
            {name for name in names_in(one) if not COMPUTED.search(name) and not _is_chance(one, name)}
            for one in (example, written[operation])
        )
        assert not _differing(now, before), f"{operation}: {hint}"
        assert written[operation].get("body") == example.get("body"), f"{operation}: {hint}"


def test_the_examples_hold_no_secret_and_no_place_of_a_machine():
    text = FILE.read_text()
    assert not re.findall(r"rgw_(?!EXAMPLE)|127\.0\.0\.1|/tmp/|/home/|sqlite", text)


def _differing(now: set[str], before: set[str]) -> set[str]:
    """Names that only one has, of objects that both have filled: work that has not come far is empty still."""
    filled = {name.rpartition(".")[0] for name in now} & {name.rpartition(".")[0] for name in before}
    return {name for name in now ^ before if name.rpartition(".")[0] in filled}


def test_a_field_that_is_new_or_gone_is_seen():
    assert _differing({".a.b", ".a.c"}, {".a.b"}) == {".a.c"}
    assert _differing({".a"}, {".a", ".a.b"}) == set()


def _is_chance(example: dict[str, object], name: str) -> bool:
    answer = example.get("answer")
    return isinstance(answer, dict) and ("subject" in answer or "_embedded" in answer) and bool(CHANCE.search(name))
