"""Which traps are in a policy, seen from its text alone?"""

from __future__ import annotations

from regwarden.core.policy import Policy
from regwarden.core.policy_lint_guards import lint_conditions, lint_guards
from regwarden.core.policy_lint_patterns import lint_patterns
from regwarden.core.policy_lint_rules import lint_rules
from regwarden.core.policy_problems import Problem


def lint(policy: Policy) -> tuple[Problem, ...]:
    """Every warning about a policy, in the order of its text; ``code`` is a key of ``policy_lint_codes.WARNINGS``."""
    found = (*lint_guards(policy), *lint_conditions(policy), *lint_patterns(policy), *lint_rules(policy))
    warnings = {
        Problem(place=policy.place_of(one.path), message=one.message, hint=one.hint, code=one.name) for one in found
    }
    return tuple(sorted(warnings, key=lambda warning: warning.sort_key))
