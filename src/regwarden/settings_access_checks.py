"""Do the settings of who may come in make sense? Refuses what cannot work, and what would not be safe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from regwarden.core.allowlist import Outcome, TagMode
from regwarden.core.network_addresses import is_loopback_host
from regwarden.core.quantities import parse_duration
from regwarden.core.role_rules import parse_rule
from regwarden.errors import InputError
from regwarden.settings import Settings
from regwarden.settings_access import LdapSettings, OidcSettings
from regwarden.settings_mistakes import at_setting, nearest

DIRECTORY: Final = "ldap"
# Signatures by a key pair. Those by a shared secret, and none, are no proof of who made a token.
ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
MAX_ISSUER_LENGTH: Final = 255
_SHORTEST_ACCESS: Final = timedelta(minutes=1)
_LONGEST_ACCESS: Final = timedelta(hours=1)
_LONGEST_REFRESH: Final = timedelta(days=90)
_PROVIDER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,100}")
USERNAME: Final = "{username}"
MAX_DIRECTORY_SERVERS: Final = 10
_ATTRIBUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}|[0-9]+(?:\.[0-9]+)+")
_ATTRIBUTES: Final = ("username_attribute", "identity_attribute", "display_name_attribute", "group_name_attribute")
_NAME_LIST: Final = re.compile(r"\s*[A-Za-z][A-Za-z0-9.-]*\s*=.+", re.DOTALL)


def check_sign_ins(settings: Settings, origins: Mapping[str, str]) -> None:
    """Whether ``[auth]`` makes sense. Raises ``InputError`` that begins with the place of the mistake."""
    with at_setting(origins, "auth.access_lifetime"):
        access = parse_duration(settings.auth.access_lifetime)
        if not _SHORTEST_ACCESS <= access <= _LONGEST_ACCESS:
            raise InputError("access tokens are valid for 1m to 1h", hint='Write access_lifetime = "15m".')
    with at_setting(origins, "auth.refresh_lifetime"):
        if not access <= parse_duration(settings.auth.refresh_lifetime) <= _LONGEST_REFRESH:
            hint = 'Write refresh_lifetime = "8h".'
            raise InputError("a sign-in lasts at least as long as an access token, and at most 90d", hint=hint)


def check_allow_list(settings: Settings, origins: Mapping[str, str]) -> None:
    """Whether ``[allow]`` makes sense. Raises ``InputError`` that begins with the place of the mistake."""
    for key, choices in (("default", Outcome), ("tags", TagMode)):
        with at_setting(origins, f"allow.{key}"):
            text = getattr(settings.allow, key)
            if text not in set(choices):
                raise InputError(f"{text[:80]!r} is not possible here", hint=f"There are: {', '.join(choices)}.")
    for key in ("settled_after", "stale_after", "keep_decisions"):
        with at_setting(origins, f"allow.{key}"):
            parse_duration(getattr(settings.allow, key))


def check_directory(settings: Settings, origins: Mapping[str, str]) -> None:
    """Whether ``[ldap]`` can work, if it is used. Raises ``InputError`` that begins with the place of the mistake."""
    ldap = settings.ldap
    if not ldap.servers:
        nothing = LdapSettings()
        if changed := [key for key in ldap.__struct_fields__ if getattr(ldap, key) != getattr(nothing, key)]:
            with at_setting(origins, f"ldap.{changed[0]}"):
                raise InputError("there is no directory", hint='Add servers = ["ldaps://ldap.example.com"] to [ldap].')
        return
    with at_setting(origins, "ldap.servers"):
        _check_servers(ldap)
    _check_transport(ldap, origins)
    _check_users(ldap, origins)
    _check_account(ldap, origins)
    for key in _ATTRIBUTES:
        with at_setting(origins, f"ldap.{key}"):
            _check_attribute(getattr(ldap, key))
    for key in ("member_of_attribute", "group_member_attribute"):
        with at_setting(origins, f"ldap.{key}"):
            if getattr(ldap, key):
                _check_attribute(getattr(ldap, key))
    with at_setting(origins, "ldap.attributes"):
        for name in ldap.attributes:
            _check_attribute(name)


def check_identity_providers(settings: Settings, origins: Mapping[str, str]) -> None:
    """Whether each ``[[oidc]]`` can work. Raises ``InputError`` that begins with the place of the mistake."""
    for number, provider in enumerate(settings.oidc):
        place, before = f"oidc.{provider.name}", settings.oidc[:number]
        with at_setting(origins, f"{place}.name"):
            _check_provider_name(provider.name, [other.name for other in before])
        with at_setting(origins, f"{place}.issuer"):
            _check_issuer(provider.issuer)
        with at_setting(origins, f"{place}.client_id"):
            _check_client(provider, settings.server.public_url)
        with at_setting(origins, f"{place}.audience"):
            _check_audience(provider, settings.oidc[: number + 1])
        with at_setting(origins, f"{place}.algorithms"):
            _check_algorithms(provider.algorithms)
        with at_setting(origins, f"{place}.scopes"):
            for scope in provider.scopes:
                if not _SCOPE.fullmatch(scope):
                    raise InputError(f"{scope[:120]!r} is not a scope", hint="A scope is a word, such as profile.")


def check_roles(settings: Settings, origins: Mapping[str, str]) -> None:
    """Whether each ``[[role]]`` can be understood. Raises ``InputError`` that begins with the place of the mistake."""
    known = (DIRECTORY, *(provider.name for provider in settings.oidc))
    for number, rule in enumerate(settings.role, 1):
        with at_setting(origins, f"role.{number}.role"):
            parse_rule(rule)
        with at_setting(origins, f"role.{number}.provider"):
            if rule.provider and rule.provider not in known:
                raise InputError(
                    f"there is no identity provider called {rule.provider[:120]!r}", hint=nearest(rule.provider, known)
                )
        with at_setting(origins, f"role.{number}.everyone"):
            # An issuer of CI jobs often has customers, and any of them can name our audience.
            jobs = next((one.name for one in settings.oidc if one.audience), "")
            if rule.everyone and not rule.provider and jobs:
                raise InputError(
                    f"everyone is also every CI job for which {jobs} answers, whoever it belongs to",
                    hint="Add provider to this rule, and for CI jobs a rule with claims.",
                )


def _check_provider_name(name: str, others: Sequence[str]) -> None:
    if not _PROVIDER_NAME.fullmatch(name) or name == DIRECTORY:
        raise InputError(
            f"{name[:120]!r} cannot be a provider's name",
            hint=f"Use lower-case letters, digits, - and _, at most 63; {DIRECTORY} is the directory.",
        )
    if name in others:
        raise InputError(f"two providers are called {name}", hint="Rename one of them.")


def _check_issuer(issuer: str) -> None:
    try:
        parts = urlsplit(issuer)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    is_plain = not parts.query and not parts.fragment and "@" not in parts.netloc and issuer.isprintable()
    if parts.scheme not in {"http", "https"} or not host or not is_plain or len(issuer) > MAX_ISSUER_LENGTH:
        raise InputError(
            f"{issuer[:120]!r} is not an issuer",
            hint="Write it as the provider does, for example https://sso.example.com/realms/company.",
        )
    if parts.scheme == "http" and not is_loopback_host(host):
        raise InputError(f"{issuer} has no TLS: anybody between could sign in as anybody", hint="Write https://.")


def _check_client(provider: OidcSettings, public_url: str) -> None:
    if not provider.client_id and not provider.audience:
        raise InputError(
            "nobody can sign in with this provider",
            hint="Add client_id for people, or audience for CI jobs.",
        )
    if provider.client_secret_file and not provider.client_id:
        raise InputError("there is a client secret but no client", hint='Add client_id = "…".')
    if provider.client_id and not public_url:
        raise InputError(
            "the provider must send browsers back, and it is not known where to",
            hint='Add public_url = "https://regwarden.example.com" to [server].',
        )


def _check_audience(provider: OidcSettings, providers: Sequence[OidcSettings]) -> None:
    """A token of a person must not pass for one of a CI job, and a token has one provider that answers for it."""
    same = [other for other in providers if other.issuer == provider.issuer]
    clients, audiences = {one.client_id for one in same} - {""}, [one.audience for one in same if one.audience]
    if clients & set(audiences):
        raise InputError(
            f"the audience of CI jobs is {audiences[-1][:120]!r}, which is also a client of people",
            hint="Give CI jobs an audience of their own, for example the address of this service.",
        )
    if len(set(audiences)) < len(audiences):
        raise InputError("two providers have the same issuer and audience", hint="Remove one of them.")


def _check_algorithms(algorithms: Sequence[str]) -> None:
    if not algorithms:
        raise InputError("no signature is accepted", hint='Write algorithms = ["RS256"].')
    for name in algorithms:
        if name not in ALGORITHMS:
            raise InputError(f"{name[:120]!r} is not a signature that can be accepted", hint=nearest(name, ALGORITHMS))


def _check_servers(ldap: LdapSettings) -> None:
    if len(ldap.servers) > MAX_DIRECTORY_SERVERS:
        raise InputError(f"there are {len(ldap.servers)} servers", hint=f"The limit is {MAX_DIRECTORY_SERVERS}.")
    for number, server in enumerate(ldap.servers):
        if not _is_directory_address(server):
            hint = "Write ldaps://ldap.example.com, with :PORT if it is not 636."
            raise InputError(f"{server[:120]!r} is not the address of a directory", hint=hint)
        if server in ldap.servers[:number]:
            raise InputError(f"{server} is listed twice", hint="Remove one of them.")


def _is_directory_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_plain = parts.path in {"", "/"} and not parts.query and not parts.fragment and "@" not in parts.netloc
    return parts.scheme in {"ldap", "ldaps"} and bool(parts.hostname) and port != 0 and is_plain and text.isprintable()


def _check_transport(ldap: LdapSettings, origins: Mapping[str, str]) -> None:
    """A password travels inside TLS, or not at all."""
    secured = [server for server in ldap.servers if server.startswith("ldaps:")]
    open_servers = [server for server in ldap.servers if not server.startswith("ldaps:")]
    with at_setting(origins, "ldap.start_tls"):
        if ldap.start_tls and secured:
            raise InputError(f"{secured[0]} has TLS from the start", hint="Write ldap:// or remove start_tls.")
    with at_setting(origins, "ldap.insecure"):
        if ldap.insecure and ldap.start_tls:
            raise InputError("start_tls and insecure exclude each other", hint="Keep start_tls.")
        for server in open_servers if ldap.insecure else ():
            if not is_loopback_host(urlsplit(server).hostname or ""):
                raise InputError(
                    f"{server} is not on this machine: passwords would travel in the open",
                    hint="Write ldaps://, or start_tls = true in [ldap].",
                )
    with at_setting(origins, "ldap.servers"):
        if open_servers and not ldap.start_tls and not ldap.insecure:
            hint = "Write ldaps://, or start_tls = true in [ldap]."
            raise InputError(f"{open_servers[0]} has no TLS: passwords would travel in the open", hint=hint)


def _check_users(ldap: LdapSettings, origins: Mapping[str, str]) -> None:
    with at_setting(origins, "ldap.user_base"):
        if not ldap.user_base and not ldap.user_dn:
            raise InputError(
                "it is not said where users are",
                hint='Add user_base = "ou=people,dc=example,dc=com", or user_dn, to [ldap].',
            )
        if ldap.user_base and ldap.user_dn:
            raise InputError("user_base and user_dn exclude each other", hint="user_base searches; keep one of them.")
        _check_dn(ldap.user_base)
    with at_setting(origins, "ldap.user_dn"):
        for template in ldap.user_dn:
            if USERNAME not in template:
                raise InputError(
                    f"{template[:120]!r} has no {USERNAME} in it",
                    hint='Write user_dn = ["uid={username},ou=people,dc=example,dc=com"].',
                )
            _check_dn(template)
    with at_setting(origins, "ldap.user_filter"):
        _check_filter(ldap.user_filter)
    with at_setting(origins, "ldap.group_base"):
        _check_dn(ldap.group_base)


def _check_account(ldap: LdapSettings, origins: Mapping[str, str]) -> None:
    with at_setting(origins, "ldap.bind_dn"):
        if ldap.bind_dn and not ldap.bind_password_file:
            raise InputError("the account has no password", hint='Add bind_password_file = "FILE" to [ldap].')
    with at_setting(origins, "ldap.bind_password_file"):
        if ldap.bind_password_file and not ldap.bind_dn:
            raise InputError("the password is of no account", hint='Add bind_dn = "DN" to [ldap].')


def _check_dn(text: str) -> None:
    if text and not (_NAME_LIST.fullmatch(text) and text.isprintable()):
        raise InputError(f"{text[:120]!r} is not a DN", hint="Write it as ou=people,dc=example,dc=com.")


def _check_attribute(name: str) -> None:
    if not _ATTRIBUTE.fullmatch(name):
        raise InputError(f"{name[:120]!r} is not an attribute", hint="An attribute is a word, such as uid.")


def _check_filter(text: str) -> None:
    """Whether a filter has its parentheses; what is in them is for the directory to judge."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        is_whole = depth == 0 and place == len(text) - 1
        if depth < 0 or (depth == 0 and not is_whole):
            break
    if text and (depth != 0 or not text.startswith("(") or not text.endswith(")") or not is_whole):
        raise InputError(f"{text[:120]!r} is not one filter in parentheses", hint="Write (objectClass=person).")
