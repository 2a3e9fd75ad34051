"""Does a repository go as a whole? Where that is asked for, and by the steps before nothing at all is left in it."""

from __future__ import annotations

from dataclasses import replace

from regwarden.core.holding import Held
from regwarden.core.lifting import Lifted
from regwarden.core.observed import ObservedRegistry, ObservedRepository
from regwarden.core.plan import Guard, GuardCode, GuardLevel, GuardState, Step, StepKind


def is_emptied(repository: ObservedRepository, lifted: Lifted, held: Held) -> bool:
    """Whether these steps remove every tag and every manifest that is known, and nothing there is held.

    One in which nothing was, so that there are no steps, is none of them: nobody decided about it.
    """
    if not lifted.steps or held.everything is not None or held.tags or held.digests:
        return False
    deleted = {step.digest for step in lifted.steps if step.kind is StepKind.DELETE}
    removed = {tag for step in lifted.steps for tag in step.tags}
    return repository.manifests.keys() <= deleted and all(tag.name in removed for tag in repository.tags)


def with_drop(repository: ObservedRepository, lifted: Lifted) -> Lifted:
    """The same with the last step, which removes the repository."""
    drop = Step(len(lifted.steps), StepKind.DROP, repository.registry, repository.name, "")
    return replace(lifted, steps=(*lifted.steps, drop))


def guard_cannot_drop(registry: ObservedRegistry, repository: ObservedRepository) -> Guard:
    """Why the emptied repository stays although its removal was asked for."""
    does = "does not allow that" if registry.can_drop is False else "is not known to do that"
    return Guard(
        code=GuardCode.CANNOT_DROP,
        level=GuardLevel.ROOT,
        state=GuardState.BLOCKS,
        message=f"{repository.registry}/{repository.name} stays as an empty repository: it would be deleted as a whole,"
        f" and the registry {does} with our token",
        hint="That needs a GitLab and a token with the scope api: regwarden registry check.",
        registry=repository.registry,
        repository=repository.name,
    )
