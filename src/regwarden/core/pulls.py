"""Who pulls: a node that runs it, CI, a person, a scanner, a mirror, or something that only looks?

The user's rules decide first, then what is known of the clients (``core.pull_agents``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from regwarden.core.patterns import Pattern, PatternKind, parse_pattern
from regwarden.core.pull_agents import check_class, class_of_client
from regwarden.core.pull_query import METHODS
from regwarden.errors import InputError

if TYPE_CHECKING:
    from regwarden.core.events import Event

MAX_RULES: Final = 500
_CACHED: Final = 16_384
_VERSIONS: Final = frozenset({PatternKind.SEMVER, PatternKind.LOOSE})

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PullRuleLike(Protocol):
    """A rule as it is configured; what is empty is not asked for."""

    @property
    def pull_class(self) -> str:
        """The class it gives."""

    @property
    def user_agent(self) -> str:
        """A pattern."""

    @property
    def actor(self) -> str:
        """A pattern of the user's name."""

    @property
    def network(self) -> Sequence[str]:
        """Networks of the client's address, of which one must hold it."""

    @property
    def method(self) -> str:
        """GET or HEAD."""

    @property
    def repository(self) -> str:
        """A pattern."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that has been read; what is empty matches everything."""

    pull_class: str
    user_agent: Pattern | None
    actor: Pattern | None
    networks: tuple[Network, ...]
    method: str
    repository: Pattern | None


class Classifier:
    """Gives pulls their class. Made once from the rules; thread-safe, and never raises for an event."""

    def __init__(self, rules: Iterable[PullRuleLike] = ()) -> None:
        """Raises ``InputError`` (code ``bad-pull-rule``) for a rule that cannot be used."""
        self._rules = check_rules(rules)
        # What no rule asks for is left out of the key, so that few different keys remain.
        self._needs_address = any(rule.networks for rule in self._rules)
        self._needs_repository = any(rule.repository is not None for rule in self._rules)
        self._cached: Callable[[str, str, str, str, str], str] = lru_cache(_CACHED)(self._decide)

    def classify(self, event: Event) -> str:
        """The class of a pull: the first of the user's rules that matches, or what its client is known for."""
        return self._cached(
            event.user_agent,
            event.actor,
            event.method,
            event.repository if self._needs_repository else "",
            _without_port(event.address) if self._needs_address else "",
        )

    def _decide(self, user_agent: str, actor: str, method: str, repository: str, host: str) -> str:
        address = _parse_address(host) if host else None
        for rule in self._rules:
            if (
                (rule.user_agent is None or rule.user_agent.matches(user_agent))
                and (rule.actor is None or rule.actor.matches(actor))
                and (not rule.method or rule.method == method)
                and (rule.repository is None or rule.repository.matches(repository))
                and (not rule.networks or _is_within(address, rule.networks))
            ):
                return rule.pull_class
        return class_of_client(user_agent, actor).value


def check_rules(rules: Iterable[PullRuleLike]) -> tuple[Rule, ...]:
    """The rules, read; raises ``InputError`` (code ``bad-pull-rule``) that names the first that cannot be used."""
    given = tuple(rules)
    if len(given) > MAX_RULES:
        raise InputError(f"there are {len(given)} pull rules, the limit is {MAX_RULES}", code="bad-pull-rule")
    read = []
    for number, rule in enumerate(given, 1):
        try:
            read.append(read_rule(rule))
        except InputError as error:
            message = f"pull rule {number} cannot be used: {error.message}"
            raise InputError(message, hint=error.hint, code="bad-pull-rule") from None
    return tuple(read)


def check_rule_part(name: str, value: Any) -> None:
    """Check one setting of a rule by itself; raises ``InputError`` if it cannot be used."""
    _READERS[name](value)


def read_rule(rule: PullRuleLike) -> Rule:
    """One rule, read; raises ``InputError`` for what cannot be used."""
    read = Rule(
        pull_class=check_class(rule.pull_class),
        user_agent=_read_pattern(rule.user_agent),
        actor=_read_pattern(rule.actor),
        networks=_read_networks(rule.network),
        method=_read_method(rule.method),
        repository=_read_pattern(rule.repository),
    )
    if not (rule.user_agent or rule.actor or rule.network or rule.method or rule.repository):
        raise InputError(
            "it asks for nothing, so it would decide every pull",
            hint="Set user_agent, actor, network, method or repository; user_agent = 'glob:**' is every client.",
        )
    return read


def _read_method(text: str) -> str:
    if text not in ("", *METHODS):
        raise InputError(f"{text[:40]!r} is not a method of pulls", hint="Write GET or HEAD.")
    return text


def _read_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    return tuple(_read_network(text) for text in texts)


def _read_pattern(text: str) -> Pattern | None:
    if not text:
        return None
    pattern = parse_pattern(text)
    if pattern.kind in _VERSIONS:
        raise InputError(f"{text[:80]!r} compares versions", hint="Write glob:, re: or the exact text.")
    return pattern


def _read_network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        hint = "Write for example 10.1.0.0/16, 192.0.2.7 or 2001:db8::/32."
        raise InputError(f"{text[:80]!r} is not a network: {str(error)[:160]}", hint=hint) from None


def _without_port(address: str) -> str:
    """The host of ``HOST:PORT``, ``[HOST]:PORT`` or ``HOST``: every connection has another port."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _parse_address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_within(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


_READERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "pull_class": check_class,
    "user_agent": _read_pattern,
    "actor": _read_pattern,
    "network": _read_networks,
    "method": _read_method,
    "repository": _read_pattern,
}
