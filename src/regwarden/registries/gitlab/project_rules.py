"""Which rules hold in a project? Its protection rules by REST or GraphQL, and what tokens say of them.

Immutable tags stand in no REST list, so the patterns in the registry's tokens are read besides (``README.md``). What
could not be read is ``None``, which is not the same as no rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from regwarden.core.projects import AccessLevel, Project, ProtectionRule, RuleKind
from regwarden.errors import RegistryError
from regwarden.registries.gitlab.grants import TokenMeta
from regwarden.registries.gitlab.records import field_of, parse_rules, rule, text_of
from regwarden.registries.gitlab.rest import GitLabApi

_OPERATION: Final = "RegwardenProjectRules"
_PAGE: Final = (
    "(first: 100) { nodes { %s minimumAccessLevelForPush minimumAccessLevelForDelete } pageInfo { hasNextPage } }"
)
_REPOSITORY_RULES: Final = f"containerProtectionRepositoryRules{_PAGE % 'repositoryPathPattern'}"
_DOCUMENTS: Final = tuple(
    f"query {_OPERATION}($path: ID!) {{ project(fullPath: $path) {{ "
    f"containerProtectionTagRules{_PAGE % fields} {_REPOSITORY_RULES} }} }}"
    for fields in ("tagNamePattern immutable", "tagNamePattern")  # GitLab knows immutable tags since 18.2
)
_UNSUPPORTED: Final = frozenset({"api-not-found", "api-unsupported"})
# A token names the patterns that bar us, not the roles that they allow: at least the next one above.
_SOME_ROLE: Final = "maintainer"


@dataclass(slots=True)
class RuleReader:
    """Reads the rules of many projects; remembers whether this GitLab lists tag rules by REST (18.7)."""

    api: GitLabApi
    lists_tag_rules: bool = True
    documents: tuple[str, ...] = _DOCUMENTS

    async def read(self, project: Project, meta: TokenMeta | None) -> tuple[tuple[ProtectionRule, ...] | None, bool]:
        """The rules of a project, in order, and whether they are all there are; ``None`` if none can be known now.

        ``meta`` is what a token for one of its repositories says; refusals are no errors.
        """
        found, level = None, project.access_level
        if level is not None and level >= AccessLevel.MAINTAINER:
            found = await self._listed(project)
        patterns = rules_of_token(meta)
        if found is None:
            # A token names what bars its user. Whoever is no maintainer is barred by every rule; others, or somebody
            # whose role is not known, learn of some of them only.
            are_all = level is not None and level < AccessLevel.MAINTAINER
            rules = None if patterns is None or not (are_all or patterns) else tuple(sorted(patterns))
            return rules, are_all or rules is None
        # Immutable tags stand in no list of the REST API.
        are_all = patterns is not None or not self.lists_tag_rules
        listed = {one.pattern for one in found if one.kind is not RuleKind.REPOSITORY}
        told = (one for one in patterns or () if one.kind is RuleKind.IMMUTABLE or one.pattern not in listed)
        return tuple(sorted({*found, *told})), are_all

    async def _listed(self, project: Project) -> list[ProtectionRule] | None:
        try:
            if self.lists_tag_rules:
                tags = await self._pages(project, RuleKind.TAG, "tag")
                if tags is not None:
                    repositories = await self._pages(project, RuleKind.REPOSITORY, "repository")
                    return None if repositories is None else [*tags, *repositories]
            if not self.lists_tag_rules:
                return await self._by_graphql(project)
        except RegistryError:
            pass  # what is not known goes on holding
        return None

    async def _pages(self, project: Project, kind: RuleKind, word: str) -> list[ProtectionRule] | None:
        path, subject = f"projects/{project.id}/registry/protection/{word}/rules", f"the rules of {project.path}"
        rows: list[object] = []
        try:
            async for page in self.api.pages(path, object, subject=subject):
                rows.extend(page)
        except RegistryError as error:
            if kind is not RuleKind.TAG or error.code not in _UNSUPPORTED:
                raise
            self.lists_tag_rules = False
            return None
        return parse_rules(rows, kind)

    async def _by_graphql(self, project: Project) -> list[ProtectionRule] | None:
        found = None
        for number, document in enumerate(self.documents):
            answer = await self.api.graphql(_OPERATION, document, {"path": project.path}, subject="the rules")
            found = field_of(answer.found, "project")
            if not answer.errors:
                self.documents = self.documents[number:]
                break
        if found is None or answer.errors:
            return None
        tags = _nodes(found, "containerProtectionTagRules", RuleKind.TAG, "tagNamePattern")
        repositories = _nodes(found, "containerProtectionRepositoryRules", RuleKind.REPOSITORY, "repositoryPathPattern")
        return None if tags is None or repositories is None else [*tags, *repositories]


def rules_of_token(meta: TokenMeta | None) -> set[ProtectionRule] | None:
    """What the ``meta`` of an access entry says; ``None`` where there is none."""
    if meta is None:
        return None
    found = {ProtectionRule(RuleKind.IMMUTABLE, pattern) for pattern in meta.immutable_patterns}
    for pattern in {*meta.delete_deny_patterns, *meta.push_deny_patterns}:
        delete = _SOME_ROLE if pattern in meta.delete_deny_patterns else ""
        push = _SOME_ROLE if pattern in meta.push_deny_patterns else ""
        found.add(ProtectionRule(RuleKind.TAG, pattern, delete, push))
    return found


def _nodes(found: object, name: str, kind: RuleKind, pattern_name: str) -> list[ProtectionRule] | None:
    connection = field_of(found, name)
    nodes = field_of(connection, "nodes")
    if not isinstance(nodes, list) or field_of(connection, "pageInfo", "hasNextPage") is not False:
        return None
    rules: list[ProtectionRule] = []
    for node in nodes:
        pattern = text_of(field_of(node, pattern_name))
        if not pattern or not isinstance(node, Mapping):
            return None
        delete, push = node.get("minimumAccessLevelForDelete"), node.get("minimumAccessLevelForPush")
        is_immutable = node.get("immutable") is True
        rules.append(ProtectionRule(RuleKind.IMMUTABLE, pattern) if is_immutable else rule(kind, pattern, delete, push))
    return rules
