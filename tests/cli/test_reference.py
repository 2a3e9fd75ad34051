"""The generated pages of the manual are those of this program."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pytest

from regwarden.cli import event, event_quarantine, usage
from regwarden.core.pull_query import FIGURES, GROUPINGS

DOCS = Path(__file__).parent.parent.parent / "docs"


def load_generator():
    spec = importlib.util.spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "fields.md", "settings.md"])
def test_a_generated_page_is_current(name: str) -> None:
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == load_generator().pages()[name], "run: python docs/generate_reference.py"


@pytest.mark.parametrize(
    "columns",
    [event._ALL_COLUMNS.split(), event_quarantine._COLUMNS, (*GROUPINGS, *FIGURES), usage._GROWTH_COLUMNS],
)
def test_every_column_of_a_report_is_explained(columns: Sequence[str]) -> None:
    page = load_generator().pages()["fields.md"]
    assert [name for name in columns if f"\n| `{name}` |" not in page] == []
