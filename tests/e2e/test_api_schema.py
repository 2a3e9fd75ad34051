"""The API is what its description says, whoever asks and whatever: no failure of the server, no undocumented answer.

`REGWARDEN_SCHEMA_EXAMPLES=200` asks that many questions of each operation, with `REGWARDEN_SCHEMA_SEED=2` others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzed_service import TOKENS, FuzzedService, Run, fuzzed_service, run_schemathesis

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="the service is stopped with SIGTERM here"),
    pytest.mark.timeout(7200 if "REGWARDEN_SCHEMA_EXAMPLES" in os.environ else 300),
]

IS_LONG = "REGWARDEN_SCHEMA_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("REGWARDEN_SCHEMA_EXAMPLES", "2"))
SEED = int(os.environ.get("REGWARDEN_SCHEMA_SEED", "1"))
SOURCE = "GET /api/v1/openapi.json"  # read once, and not asked any more
# The share of the operations that something worked of, at the least; tests/e2e/test_api_examples.py asks each.
LEAST_SHARE = 0.75


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzedService]:
    with fuzzed_service(tmp_path_factory.mktemp("fuzzed")) as service:
        yield service


def run(fuzzed: FuzzedService, directory: Path, token: str | None, *phases: str, examples: int = EXAMPLES) -> Run:
    options = (
        "--checks",
        "all",
        "--exclude-checks",
        "positive_data_acceptance",
        "--phases",
        ",".join(phases),
        "--max-examples",
        str(examples),
    )
    found = run_schemathesis(directory, fuzzed, *options, token=token, seed=SEED)
    assert found.is_right, found.report
    assert not {answer for answer in found.answers if answer[1] >= 500}
    # Whatever was asked, it answers others still.
    assert fuzzed.ask("GET", "/registries")["_embedded"]["items"]
    failures = [line for line in fuzzed.service.lines if "Traceback" in line or "[error" in line]
    assert not failures, "\n".join(fuzzed.service.lines[-200:])
    return found


def test_for_an_administrator(fuzzed: FuzzedService, tmp_path: Path):
    # The phase that goes through the edges of every parameter takes a minute by itself.
    phases = ("coverage", "fuzzing") if IS_LONG else ("fuzzing",)
    found = run(fuzzed, tmp_path, TOKENS["admin"][0], *phases)
    operations = {SOURCE, *(operation for operation, _ in found.answers)}
    described = fuzzed.ask("GET", "/openapi.json")["paths"]
    assert operations >= {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    assert len(found.succeeded()) > LEAST_SHARE * len(operations)


def test_for_somebody_who_sees_one_repository(fuzzed: FuzzedService, tmp_path: Path):
    found = run(fuzzed, tmp_path, TOKENS["web"][0], "fuzzing")
    assert {status for _, status in found.answers} >= {200, 400, 403, 404}


@pytest.mark.parametrize("token", [None, "rgw_nobody_has_this_token"], ids=["nobody", "a wrong token"])
def test_for_somebody_who_is_not_known(fuzzed: FuzzedService, tmp_path: Path, token: str | None):
    found = run(fuzzed, tmp_path, token, "fuzzing", examples=max(1, EXAMPLES // 2))
    assert found.succeeded() == {"GET /api/v1/docs"}
    assert {status for _, status in found.answers} <= {200, 400, 401, 404, 405}
