"""What do routes that begin or change something have in common: known registries, wrong fields, notes in the audit?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from regwarden import clock
from regwarden.core.access import Permission, reach
from regwarden.errors import Forbidden, InputError, NotFound
from regwarden.store import audit
from regwarden.store.query_fields import load_registries
from regwarden.web.api.context import Caller
from regwarden.web.api.problems import WrongParameter


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


# Requests per second, as the command line takes them.
LEAST_RATE: Final = 0.01
# A name, a pattern, a reference: one line.
Line = Annotated[str, StringConstraints(min_length=1, max_length=2500), AfterValidator(_printable)]
Sentence = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_printable)]
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), AfterValidator(_printable)
]
Fingerprint = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]


class QueryWords(BaseModel):
    """The parameters of a question: these and no others, read from text."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Body(BaseModel):
    """The body of a request: an object with these fields and no others; a number is no text, and 1 is not true."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@contextmanager
def naming(field: str) -> Iterator[None]:
    """What cannot be understood here is the field of this name. Raises ``WrongParameter``."""
    try:
        yield
    except WrongParameter:
        raise
    except InputError as error:
        raise WrongParameter(field, error.message, hint=error.hint, code=error.code) from error


async def known_registries(caller: Caller) -> frozenset[str]:
    """The names of the registries that are configured or in the inventory, as far as somebody may know of them."""
    stored = await caller.parts.database.read(load_registries)
    names = {one.name for one in stored} | {one.name for one in caller.parts.loaded.settings.registry}
    seen = reach(caller.principal, Permission.INVENTORY_READ)
    return frozenset(name for name in names if caller.reach.touches(name) or seen.touches(name))


async def require_registry(caller: Caller, name: str) -> None:
    """Go on only with a registry that is known by this very name: nothing that is sent here is taken as an address.

    Raises ``NotFound`` (code ``unknown-registry``), and ``Forbidden`` for one in which nothing may be done.
    """
    if name not in await known_registries(caller):
        hint = "GET /api/v1/registries shows what there is."
        raise NotFound(f"there is no registry {name[:160]!r}", hint=hint, code="unknown-registry")
    if not caller.reach.touches(name):
        raise Forbidden(f"{caller.principal.name} may not do this to the registry {name}")


async def note(
    caller: Caller,
    action: str,
    *,
    subject: str = "",
    detail: Mapping[str, Any] | None = None,
    plan_id: int | None = None,
) -> None:
    """Keep in the audit that somebody did what the command that does it does not note by itself."""
    await caller.parts.database.write(
        lambda connection: audit.record(
            connection,
            at=clock.now(),
            principal=caller.principal.name,
            action=action,
            plan_id=plan_id,
            subject=subject,
            detail=detail,
        )
    )
