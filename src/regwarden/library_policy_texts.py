"""How do the texts that a caller of the library gives become policies with names of their own?"""

from __future__ import annotations

from collections.abc import Mapping

from regwarden.core.policy import Policy
from regwarden.core.policy_reading import parse_policies
from regwarden.errors import InputError


def parse_policy_texts(texts: Mapping[str, str], known_zones: frozenset[str]) -> tuple[Policy, ...]:
    """The policies of texts by the name of their file. Raises ``InputError`` (code ``bad-policy``)."""
    policies = tuple(
        policy for name, text in texts.items() for policy in parse_policies(text, name=name, known_zones=known_zones)
    )
    seen: set[str] = set()
    for policy in policies:
        if policy.name in seen:
            hint = "Reasons name policies: give each its own."
            raise InputError(f"two policies are called {policy.name}", hint=hint, code="bad-policy")
        seen.add(policy.name)
    if not policies:
        raise InputError("no policy is given", hint="Give at least one file: -f policy.yaml.", code="bad-policy")
    return policies


def is_in_registry_scope(policy: Policy, registry: str) -> bool:
    """Whether a policy may be about repositories of a registry."""
    patterns = policy.scope.registries
    return not patterns or any(pattern.matches(registry) for pattern in patterns)
