"""Does the manual explain every error code and exit status, and no others?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from regwarden import errors
from tests.architecture.source_tree import ROOT, modules

PAGE = ROOT / "docs" / "reference" / "errors.md"
INTERRUPTED = 130
PARTLY_DONE = 3


def test_every_error_code_is_explained():
    assert _codes_in_source() - _rows("Codes") == set()


def test_no_error_code_is_explained_that_nothing_raises():
    assert _rows("Codes") - _codes_in_source() == set()


def test_error_codes_are_lower_case_words_with_hyphens():
    assert [code for code in _codes_in_source() if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)] == []


def test_every_exit_status_is_explained():
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    statuses = {kind.exit_status for kind in classes if issubclass(kind, errors.RegwardenError)}
    assert _rows("Exit statuses") == {str(status) for status in statuses | {0, PARTLY_DONE, INTERRUPTED, 141}}


def _codes_in_source() -> set[str]:
    return {code for module in modules() for code in _codes(module.tree)}


def _codes(tree: ast.Module) -> Iterator[str]:
    """The text of ``code = "…"``, of ``code="…"`` in calls and of ``report_error("…", …)``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "code":
            yield from _texts(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "report_error":
            yield from _texts(node.args[0])
        elif isinstance(node, ast.Assign) and _is_code(node.targets[0]):
            yield from _texts(node.value)


def _is_code(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "code"


def _texts(value: ast.expr) -> Iterator[str]:
    branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
    for branch in branches:
        if isinstance(branch, ast.Constant) and isinstance(branch.value, str):
            yield branch.value


def _rows(heading: str) -> set[str]:
    """The first column of the tables under a heading of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
