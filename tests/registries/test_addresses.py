"""Does nothing but the configured hosts and harmless addresses pass?"""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from regwarden.registries.client.addresses import (
    ForbiddenAddress,
    GuardedResolver,
    check_literal,
    forbidden_reason,
    is_loopback_host,
    matches_host,
)


class _Fixed(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.1.1",
        "100.100.100.200",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "::",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
    ],
)
def test_metadata_link_local_multicast_and_unspecified_addresses_are_always_refused(address: str) -> None:
    assert forbidden_reason(address, allow_loopback=True)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.2", "100.64.0.1", "8.8.8.8", "fd00::1", "2a00::1"])
def test_private_and_public_addresses_pass(address: str) -> None:
    assert forbidden_reason(address, allow_loopback=False) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_loopback_passes_only_where_it_is_allowed(address: str) -> None:
    assert forbidden_reason(address, allow_loopback=True) == ""
    assert "loopback" in forbidden_reason(address, allow_loopback=False)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0", "0177.0.0.1"])
def test_numbers_that_the_socket_would_read_as_addresses_are_refused(host: str) -> None:
    assert check_literal(URL(f"http://{host}/", encoded=True), allow_loopback=True) == "not a plain address"


def test_names_are_left_to_the_resolver() -> None:
    assert check_literal(URL("https://storage.example.com/x"), allow_loopback=False) == ""


@pytest.mark.parametrize(
    ("url", "entry", "is_match"),
    [
        ("https://auth.example.com/t", "auth.example.com", True),
        ("https://AUTH.example.com:8443/t", "auth.example.com", True),
        ("https://auth.example.com/t", "auth.example.com:443", True),
        ("https://auth.example.com:8443/t", "auth.example.com:443", False),
        ("https://auth.example.com.evil.com/t", "auth.example.com", False),
        ("https://xauth.example.com/t", "auth.example.com", False),
        ("https://b.s3.amazonaws.com/x", "*.s3.amazonaws.com", True),
        ("https://s3.amazonaws.com/x", "*.s3.amazonaws.com", False),
        ("https://evils3.amazonaws.com/x", "*.s3.amazonaws.com", False),
        ("https://[::1]:5001/x", "[::1]:5001", True),
    ],
)
def test_hosts_match_whole_names_or_subdomains_only(url: str, entry: str, is_match: bool) -> None:
    assert matches_host(URL(url), (entry,)) is is_match


async def test_one_forbidden_address_among_several_refuses_the_name() -> None:
    resolver = GuardedResolver(_Fixed("10.0.0.1", "169.254.169.254"), frozenset({"r"}), loopback_everywhere=True)
    with pytest.raises(ForbiddenAddress, match="link-local or metadata"):
        await resolver.resolve("r")


async def test_only_configured_hosts_may_be_this_machine() -> None:
    resolver = GuardedResolver(_Fixed("127.0.0.1"), frozenset({"registry.example.com"}), loopback_everywhere=False)
    assert (await resolver.resolve("registry.example.com", 443))[0]["host"] == "127.0.0.1"
    with pytest.raises(ForbiddenAddress, match="loopback"):
        await resolver.resolve("storage.example.com", 443)


def test_this_machine_is_known_by_name_and_number() -> None:
    assert is_loopback_host("localhost")
    assert is_loopback_host("127.0.0.1")
    assert is_loopback_host("::1")
    assert not is_loopback_host("registry.example.com")
