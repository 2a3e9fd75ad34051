"""When may a plan run?"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from regwarden.core.policy_values import WINDOW
from regwarden.core.windows import are_open, next_opening, parse_windows, write_windows
from regwarden.errors import InputError


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("texts", "moment", "expected"),
    [
        ((), "2026-03-04T12:00", True),
        (("Mon-Fri 10:00-16:00 UTC",), "2026-03-04T10:00", True),
        (("Mon-Fri 10:00-16:00 UTC",), "2026-03-04T09:59:59", False),
        (("Mon-Fri 10:00-16:00 UTC",), "2026-03-04T16:00", False),
        (("Mon-Fri 10:00-16:00 UTC",), "2026-03-07T12:00", False),  # a Saturday
        (("Mon-Fri 10:00-16:00 Europe/Berlin",), "2026-03-04T09:00", True),
        (("Mon-Fri 10:00-16:00 Europe/Berlin",), "2026-07-01T14:00", False),  # summer time: 16:00 there
        (("Fri 22:00-06:00 UTC",), "2026-03-07T05:59", True),  # the night after Friday
        (("Fri 22:00-06:00 UTC",), "2026-03-06T05:59", False),
        (("Fri 22:00-24:00 UTC",), "2026-03-06T23:59", True),
        (("daily 00:00-24:00 UTC",), "2026-03-06T00:00", True),
        (("Mon 10:00-11:00 UTC or Wed 12:00-13:00 UTC",), "2026-03-04T12:30", True),
        (("daily 00:00-24:00 UTC", "Mon 10:00-11:00 UTC"), "2026-03-04T12:30", False),
    ],
)
def test_one_window_of_every_policy_must_be_open(texts, moment, expected):
    assert are_open(texts, at(moment)) is expected


def test_a_window_without_length_never_opens():
    window = parse_windows("daily 10:00-10:00 UTC")[0]
    assert window.never_opens
    assert not are_open([str(window)], at("2026-03-04T10:00"))


def test_the_next_opening_is_the_first_moment_at_which_all_are_open():
    texts = ("Mon-Fri 10:00-16:00 Europe/Berlin", "daily 22:00-06:00 UTC or Tue 09:30-12:00 UTC")
    assert next_opening(texts, at("2026-03-05T00:00")) == at("2026-03-10T09:30")
    assert next_opening(("daily 00:00-24:00 UTC",), at("2026-03-05T07:00")) == at("2026-03-05T07:00")
    assert next_opening(("Wed 08:00-09:00 UTC",), at("2026-03-04T09:00")) == at("2026-03-11T08:00")
    assert next_opening(("Mon 08:00-09:00 UTC", "Tue 08:00-09:00 UTC"), at("2026-03-04T09:00")) is None


def test_windows_of_a_policy_are_written_and_read_again():
    windows = tuple(map(WINDOW.parse, ("Tue 09:00-10:00 UTC", "Mon-Fri 10:00-16:00 Europe/Berlin")))
    assert parse_windows(write_windows(windows)) == tuple(sorted(windows, key=str))


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "/etc/localtime", "US"])
def test_a_zone_that_nobody_knows_is_an_error_and_not_an_open_window(zone):
    with pytest.raises(InputError) as caught:
        are_open([f"daily 00:00-24:00 {zone}"], at("2026-03-04T12:00"))
    assert caught.value.code == "unknown-time-zone"
