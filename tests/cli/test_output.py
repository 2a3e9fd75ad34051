"""Tables in a narrow terminal: what matters less is left out, the rest stays readable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime

import pytest
from rich.console import Console

from regwarden.cli import event_quarantine, output, usage

Show = Callable[[Sequence[Mapping[str, object]], Sequence[str], int], list[str]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """Prints a table in a terminal of that width; returns its lines."""

    def show(rows: Sequence[Mapping[str, object]], columns: Sequence[str], width: int) -> list[str]:
        monkeypatch.setattr(output, "stdout_console", lambda: Console(file=sys.stdout, width=width))
        output.Printer().table(rows, columns)
        return capsys.readouterr().out.splitlines()

    return show


@pytest.mark.parametrize("width", [80, 120])
def test_growth_has_a_line_for_each_day(show: Show, width: int) -> None:
    row = {
        "day": date(2026, 11, 3),
        "tag_count": 12_345,
        "tag_count_change": -120,
        "manifest_count": 2_345,
        "manifest_count_change": 12,
        "logical_bytes": 589 << 30,
        "logical_change_bytes": 34 << 20,
        "stored_bytes": 110 << 30,
        "stored_change_bytes": -(8 << 20),
        "": "#" * 20,
    }
    lines = show([row, row], (*usage._GROWTH_COLUMNS, ""), width)
    assert len(lines) == 3
    assert all(line.startswith("2026-11-03  12,345") and line.endswith("#" * 20) for line in lines[1:])


def test_why_a_delivery_was_set_aside_can_be_read_in_a_narrow_terminal(show: Show) -> None:
    row = {
        "id": 17,
        "received_at": datetime(2026, 11, 3, 15, 46, tzinfo=UTC),
        "registry": "production",
        "sender": "127.0.0.1",
        "state": "quarantined",
        "reason": "not a notification: JSON is malformed: invalid character (byte 0)",
        "body_bytes": 9,
    }
    narrow = show([row], event_quarantine._COLUMNS, 80)
    assert len(narrow) <= 4
    assert "sender" not in narrow[0]
    wide = show([row], event_quarantine._COLUMNS, 120)
    assert len(wide) <= 3
    assert "sender" in wide[0]
