"""Guessing is slowed down, and nobody can lock out somebody else for long."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from regwarden.errors import Forbidden, ProviderError, TooManyAttempts, Unauthorized
from regwarden.web.attempts import (
    ADDRESS_LIMIT,
    GLOBAL_LIMIT,
    MAX_REMEMBERED,
    NAME_LIMIT,
    NAME_PAUSE_SECONDS,
    TRUSTED_SECONDS,
    WINDOW_SECONDS,
    Attempts,
    network_of,
)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def fail(attempts: Attempts, address: str, name: str) -> None:
    with suppress(Unauthorized), attempts.begin(address, name):
        raise Unauthorized("wrong")


def succeed(attempts: Attempts, address: str, name: str) -> None:
    with attempts.begin(address, name) as attempt:
        attempt.succeed()


def refused(attempts: Attempts, address: str, name: str) -> int:
    """For how many seconds; 0 if it may be tried, which changes nothing."""
    try:
        with suppress(ProviderError), attempts.begin(address, name):
            raise ProviderError("down")
    except TooManyAttempts as error:
        return error.retry_after_seconds
    return 0


def test_an_address_may_fail_ten_times_in_five_minutes(attempts: Attempts, clock: Clock) -> None:
    for number in range(ADDRESS_LIMIT):
        assert not refused(attempts, "192.0.2.1", "other")
        fail(attempts, "192.0.2.1", f"user{number}")
        clock.seconds += 1
    assert refused(attempts, "192.0.2.1", "other") == WINDOW_SECONDS - ADDRESS_LIMIT
    assert not refused(attempts, "192.0.2.2", "other")
    clock.seconds += WINDOW_SECONDS - ADDRESS_LIMIT
    assert not refused(attempts, "192.0.2.1", "other"), "the first failure is forgotten"
    fail(attempts, "192.0.2.1", "other")
    assert refused(attempts, "192.0.2.1", "other")


def test_all_addresses_of_a_network_are_one(attempts: Attempts) -> None:
    for number in range(ADDRESS_LIMIT):
        fail(attempts, f"2001:db8:0:1::{number + 1:x}", f"user{number}")
    assert refused(attempts, "2001:db8:0:1:ffff::1", "other")
    assert not refused(attempts, "2001:db8:0:2::1", "other")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_who_answers_for_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_spellings_of_a_name_are_one(attempts: Attempts) -> None:
    for number, name in enumerate(["ann", "ANN", " ann", "ann ", "Ann", "\uff41nn", "aNN", "anN", "ann\t", "ANn"]):
        fail(attempts, f"192.0.2.{number}", name)
    with suppress(ProviderError), attempts.begin("198.51.100.1", "ann"):
        raise ProviderError("an address without failures is let through once")
    assert refused(attempts, "198.51.100.2", "ANN") == NAME_PAUSE_SECONDS
    assert not refused(attempts, "198.51.100.2", "bob")


def test_a_name_cannot_be_locked_for_long(attempts: Attempts, clock: Clock) -> None:
    for number in range(NAME_LIMIT):
        fail(attempts, f"192.0.2.{number}", "ann")
    assert refused(attempts, "192.0.2.1", "ann") > NAME_PAUSE_SECONDS, "an address that failed waits"
    succeed(attempts, "198.51.100.1", "ann")
    assert refused(attempts, "198.51.100.2", "ann") == NAME_PAUSE_SECONDS
    clock.seconds += NAME_PAUSE_SECONDS
    succeed(attempts, "198.51.100.2", "ann")


def test_guessing_one_name_from_many_addresses_stays_slow(attempts: Attempts, clock: Clock) -> None:
    tried = 0
    for number in range(3000):
        clock.seconds += 0.1
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
        if not refused(attempts, address, "unrelated"):
            with suppress(TooManyAttempts):
                fail(attempts, address, "ann")
                tried += 1
    assert tried <= NAME_LIMIT + WINDOW_SECONDS / NAME_PAUSE_SECONDS + 1


def test_who_signed_in_from_an_address_before_is_judged_by_their_own_failures(attempts: Attempts, clock: Clock) -> None:
    """Behind one proxy all have one address."""
    succeed(attempts, "192.0.2.1", "ann")
    for number in range(ADDRESS_LIMIT):
        fail(attempts, "192.0.2.1", f"user{number}")
    for number in range(NAME_LIMIT):
        with suppress(TooManyAttempts):
            fail(attempts, f"198.51.100.{number}", "ann")
    assert refused(attempts, "192.0.2.1", "bob")
    succeed(attempts, "192.0.2.1", "Ann")
    for _ in range(ADDRESS_LIMIT):
        fail(attempts, "192.0.2.1", "ann")
    assert refused(attempts, "192.0.2.1", "ann"), "the password is not guessed from there either"
    clock.seconds += TRUSTED_SECONDS
    for number in range(ADDRESS_LIMIT):
        fail(attempts, "192.0.2.1", f"user{number}")
    assert refused(attempts, "192.0.2.1", "ann"), "after a week they are not known any more"


def test_all_together_may_fail_a_thousand_times_and_others_still_get_in(attempts: Attempts, clock: Clock) -> None:
    for number in range(GLOBAL_LIMIT):
        fail(attempts, f"10.0.{number // 256}.{number % 256}", f"user{number}")
    assert refused(attempts, "10.0.0.1", "somebody") > 1
    succeed(attempts, "192.0.2.1", "ann")
    assert refused(attempts, "192.0.2.2", "bob") == 1
    clock.seconds += 1
    succeed(attempts, "192.0.2.2", "bob")


@pytest.mark.parametrize("error", [ProviderError("down"), Forbidden("no role")])
def test_what_says_nothing_about_the_password_is_no_failure(attempts: Attempts, error: Exception) -> None:
    for _ in range(ADDRESS_LIMIT * 2):
        with suppress(ProviderError, Forbidden), attempts.begin("192.0.2.1", "ann"):
            raise error
    assert not refused(attempts, "192.0.2.1", "ann")


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ZeroDivisionError()])
def test_going_away_is_a_failure(attempts: Attempts, error: BaseException) -> None:
    for _ in range(ADDRESS_LIMIT):
        with suppress(asyncio.CancelledError, ZeroDivisionError), attempts.begin("192.0.2.1", "ann"):
            raise error
    assert refused(attempts, "192.0.2.1", "ann")


def test_attempts_that_are_under_way_count(attempts: Attempts) -> None:
    """Or a hundred at once would all be let through."""
    opened = [attempts.begin("192.0.2.1", "ann") for _ in range(ADDRESS_LIMIT)]
    under_way = [one.__enter__() for one in opened]
    assert refused(attempts, "192.0.2.1", "ann")
    for one, attempt in zip(opened, under_way, strict=True):
        attempt.succeed()
        one.__exit__(None, None, None)
    assert not refused(attempts, "192.0.2.1", "bob")


def test_memory_is_bounded(attempts: Attempts, clock: Clock) -> None:
    for number in range(MAX_REMEMBERED):
        clock.seconds += 1
        with suppress(TooManyAttempts):
            fail(attempts, f"address{number}", f"user{number}" * 100)
        with suppress(TooManyAttempts):
            succeed(attempts, f"address{number}", f"other{number}")
    for held in (attempts._failures, attempts._trusted, attempts._passed):
        assert len(held) <= MAX_REMEMBERED


def test_what_was_typed_is_not_remembered(attempts: Attempts) -> None:
    """People type their password where the name belongs."""
    fail(attempts, "192.0.2.1", "hunter2")
    succeed(attempts, "192.0.2.1", "hunter3")
    assert "hunter" not in repr(vars(attempts))
