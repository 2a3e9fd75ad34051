"""How does a call of the library become a plan: texts to policies or a selection, registries opened, planned, kept?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypedDict

from regwarden.core.access import EVERYTHING, Reach
from regwarden.core.plan import GuardCode
from regwarden.core.quantities import parse_duration
from regwarden.core.selection import SelectionWords, parse_selection
from regwarden.errors import InputError, NotFound
from regwarden.flows.planning import PlanProgress, PlanRequest, make_plan, registries_in_scope
from regwarden.library_crawl import log_warning
from regwarden.library_policy_texts import parse_policy_texts
from regwarden.library_remote import ServiceCommand
from regwarden.settings_mistakes import nearest
from regwarden.store import reports
from regwarden.store.registry_hosts import save_hosts
from regwarden.wiring import open_services, registry_hosts, resolve_registry, run_async

if TYPE_CHECKING:
    from regwarden.settings_sources import LoadedSettings
    from regwarden.store.database import Database

DEFAULT_EXPIRY: Final = "7d"


class PlanArguments(TypedDict, total=False):
    """What ``Inventory.create_plan`` may be told.

    Either ``policies``, texts by the name of their file, or a selection: ``repositories`` and ``tags`` (patterns, or
    ``REPOSITORY:PATTERN``), ``tag_regexes``, ``excluded``, ``excluded_regexes``, ``match_all_tags``,
    ``raise_on_shared_tag``, ``raise_on_shared_repository``, ``untag``, ``with_placeholders`` in one ``registry``.
    ``waive`` names guards, ``expires`` is how long it may be applied (``7d``). ``untagged_known`` is the caller's
    word that nothing untagged is in the registry but what the inventory knows: bytes are then exact. Without
    ``probe`` the registry is not asked whether it deletes at all. ``drops_repositories``: a repository of which nothing
    stays is deleted itself, where the registry can do that.
    """

    policies: Mapping[str, str]
    registry: str
    repositories: Sequence[str]
    tags: Sequence[str]
    tag_regexes: Sequence[str]
    excluded: Sequence[str]
    excluded_regexes: Sequence[str]
    match_all_tags: bool
    raise_on_shared_tag: bool
    raise_on_shared_repository: bool
    untag: bool
    with_placeholders: bool
    waive: Sequence[str]
    expires: str
    untagged_known: bool
    drops_repositories: bool
    probe: bool


@dataclass(frozen=True, slots=True)
class PlanCall:
    """One call of ``Inventory.create_plan``; ``made_by`` is who calls, who may plan for what is in ``reach``."""

    arguments: PlanArguments
    made_by: str
    environ: Mapping[str, str] = field(repr=False)
    reach: Reach = field(default=EVERYTHING, kw_only=True)
    known_zones: frozenset[str] = field(default=frozenset(), repr=False)
    on_progress: Callable[[PlanProgress], None] | None = None
    on_warning: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The id of a new plan."""

    plan_id: int


def run_plan(database: Database, loaded: LoadedSettings, call: PlanCall) -> PlanMade:
    """``perform_plan`` for callers without an event loop."""
    return run_async(perform_plan(database, loaded, call))


def remote_plan(call: PlanCall) -> ServiceCommand[PlanMade]:
    """The plan as the service makes it, with its own settings, and these arguments."""
    on_progress = call.on_progress

    def show(state: Any) -> None:
        if on_progress is not None:
            on_progress(PlanProgress(**state))

    arguments = {"arguments": dict(call.arguments), "made_by": call.made_by}
    return ServiceCommand("plan-create", arguments, PlanMade, show, call.on_warning)


async def perform_plan(database: Database, loaded: LoadedSettings, call: PlanCall) -> PlanMade:
    """Read the policies or the selection, ask the registries what they can do, plan, keep the plan.

    Raises ``InputError`` for what cannot be understood, ``NotFound`` where no registry is meant.
    """
    hosts = registry_hosts(loaded.settings)
    await database.write(lambda connection: save_hosts(connection, hosts))
    registries = await database.read(reports.registry_overview)
    known = {one.registry: one.url for one in registries if call.reach.touches(one.registry)}
    request = build_request(call, known)
    warn = call.on_warning or log_warning
    names = registries_in_scope(request, known) if call.arguments.get("probe", True) else ()
    accesses = []
    for name in names:
        try:
            accesses.append(resolve_registry(name, loaded, call.environ, known=known))
        except (InputError, NotFound) as error:
            warn(f"{name} cannot be asked whether it deletes: {error.message}")
    defaults = loaded.settings.defaults
    async with open_services(database, accesses, defaults, environ=call.environ, warn=warn) as (services, _):
        return PlanMade(await make_plan(services, request, known, on_progress=call.on_progress, on_warning=warn))


def build_request(call: PlanCall, known: Mapping[str, str]) -> PlanRequest:
    """What the arguments mean. Raises ``InputError`` (codes ``bad-policy``, ``bad-selection``, ``unknown-guard``)."""
    arguments = call.arguments
    unknown = sorted(set(arguments) - set(PlanArguments.__annotations__))
    if unknown:
        hint = f"It has: {', '.join(PlanArguments.__annotations__)}."
        raise InputError(f"a plan has no argument {unknown[0]!r}", hint=hint)
    words = _selection_words(arguments)
    texts = dict(arguments.get("policies", {}))
    if bool(texts) == (not words.is_empty):
        message = "a plan is made from policies or from a selection" + (", not from both" if texts else "")
        raise InputError(message, hint="Give -f FILE, or --repository and --tag.", code="bad-selection")
    policies = parse_policy_texts(texts, call.known_zones) if texts else ()
    return PlanRequest(
        policies=policies,
        policy_texts=texts,
        selection=None if words.is_empty else parse_selection(words, known),
        waived=frozenset(map(parse_guard, arguments.get("waive", ()))),
        made_by=call.made_by,
        expires_after=parse_duration(arguments.get("expires", DEFAULT_EXPIRY)),
        is_untagged_known=arguments.get("untagged_known", False),
        drops_repositories=arguments.get("drops_repositories", False),
        reach=call.reach,
    )


def parse_guard(text: str) -> GuardCode:
    """The guard of this name. Raises ``InputError`` (code ``unknown-guard``) with the nearest."""
    try:
        return GuardCode(text.strip().lower())
    except ValueError:
        hint = nearest(text[:80], [str(code) for code in GuardCode])
        raise InputError(f"there is no guard called {text[:80]!r}", hint=hint, code="unknown-guard") from None


def _selection_words(arguments: PlanArguments) -> SelectionWords:
    defaults = asdict(SelectionWords())
    given = {name: value for name, value in arguments.items() if name in defaults}
    return SelectionWords(
        **{name: tuple(value) if isinstance(defaults[name], tuple) else value for name, value in given.items()}  # type: ignore[arg-type]  # PlanArguments has the same types
    )
