"""What can be configured about who may come in: tokens, directory, identity providers, roles, the allow-list.

Like the classes of ``settings``, these are the reference from which documents and the manual are made.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a sign-in lasts, and tokens that are kept in a file."""

    access_lifetime: Annotated[
        str, Meta(description="How long an access token of somebody who signed in is valid; at most 1h.")
    ] = "15m"
    refresh_lifetime: Annotated[
        str, Meta(description="How long a sign-in can be prolonged before the password is wanted again.")
    ] = "8h"
    tokens_file: Annotated[
        str,
        Meta(
            description="YAML file with tokens for programs, beside those in the database. Read again when changed.",
            extra={"example": "/etc/regwarden/tokens.yaml"},
        ),
    ] = ""


class LdapSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Signing in with a directory. Without `servers` there is none."""

    servers: Annotated[
        tuple[str, ...],
        Meta(
            description="ldaps://HOST[:PORT], or ldap:// with start_tls; the next is asked when one is down.",
            extra={"example": ["ldaps://ldap.example.com"]},
        ),
    ] = ()
    start_tls: Annotated[bool, Meta(description="Begin TLS on ldap:// connections before anything is said.")] = False
    insecure: Annotated[
        bool, Meta(description="Speak without TLS; only with a server on this machine, for trying things out.")
    ] = False
    ca_bundle: Annotated[
        str,
        Meta(
            description="PEM file with the authorities to trust, instead of the system's.",
            extra={"example": "/etc/ssl/certs/company.pem"},
        ),
    ] = ""
    bind_dn: Annotated[
        str,
        Meta(
            description="DN of the account that searches; empty searches anonymously.",
            extra={"example": "cn=regwarden,ou=services,dc=example,dc=com"},
        ),
    ] = ""
    bind_password_file: Annotated[
        str,
        Meta(
            description="File whose first line is the password of that account.",
            extra={"example": "/etc/regwarden/ldap-password"},
        ),
    ] = ""
    user_dn: Annotated[
        tuple[str, ...],
        Meta(
            description="Instead of searching: DN of a user, with {username} in it; several are tried in order.",
            extra={"example": ["uid={username},ou=people,dc=example,dc=com"]},
        ),
    ] = ()
    user_base: Annotated[
        str, Meta(description="Where users are searched.", extra={"example": "ou=people,dc=example,dc=com"})
    ] = ""
    username_attribute: Annotated[
        str, Meta(description="The attribute that users type; its spelling in the directory is their name here.")
    ] = "uid"
    user_filter: Annotated[
        str,
        Meta(description="What else an entry must match to be a user.", extra={"example": "(objectClass=person)"}),
    ] = ""
    identity_attribute: Annotated[
        str, Meta(description="What never changes in an entry: entryUUID, or objectGUID in Active Directory.")
    ] = "entryUUID"
    display_name_attribute: Annotated[str, Meta(description="A name for people to read.")] = "cn"
    member_of_attribute: Annotated[
        str, Meta(description="The user's attribute that lists their groups; empty does not look at it.")
    ] = "memberOf"
    group_base: Annotated[
        str,
        Meta(
            description="Where groups are searched that list their members; empty does not search.",
            extra={"example": "ou=groups,dc=example,dc=com"},
        ),
    ] = ""
    group_member_attribute: Annotated[str, Meta(description="The groups' attribute that lists members by DN.")] = (
        "member"
    )
    group_name_attribute: Annotated[str, Meta(description="The groups' attribute that rules of roles name.")] = "cn"
    group_depth: Annotated[
        int, Meta(ge=0, le=5, description="How many groups above a user's own also count: groups in groups.")
    ] = 5
    attributes: Annotated[
        tuple[str, ...],
        Meta(
            description="More attributes of a user that rules of roles may ask for.", extra={"example": ["gidNumber"]}
        ),
    ] = ()


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An identity provider: people sign in with it (client_id), or CI jobs show its tokens (audience)."""

    name: Annotated[str, Meta(description="What it is called here, in addresses and rules.", extra={"example": "sso"})]
    issuer: Annotated[
        str,
        Meta(
            description="Its issuer, exactly; https://, except on this machine.",
            extra={"example": "https://sso.example.com/realms/company"},
        ),
    ]
    client_id: Annotated[
        str, Meta(description="Our client at the provider, for people.", extra={"example": "regwarden"})
    ] = ""
    client_secret_file: Annotated[
        str,
        Meta(
            description="File whose first line is the client's secret; without one it is a public client.",
            extra={"example": "/etc/regwarden/oidc-secret"},
        ),
    ] = ""
    audience: Annotated[
        str,
        Meta(
            description="The audience that tokens of CI jobs must have, for exchange; empty takes none.",
            extra={"example": "https://regwarden.example.com"},
        ),
    ] = ""
    scopes: Annotated[tuple[str, ...], Meta(description="What is asked of the provider.")] = ("openid", "profile")
    name_claim: Annotated[str, Meta(description="The claim that is somebody's name here.")] = "preferred_username"
    groups_claim: Annotated[str, Meta(description="The claim that lists groups.")] = "groups"
    algorithms: Annotated[tuple[str, ...], Meta(description="Signatures that are accepted.")] = ("RS256", "ES256")
    ca_bundle: Annotated[
        str,
        Meta(
            description="PEM file with the authorities to trust, instead of the system's.",
            extra={"example": "/etc/ssl/certs/company.pem"},
        ),
    ] = ""


class RoleRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who gets a role. What is set must match; everything that matches is given. Nobody has a role without a rule."""

    role: Annotated[str, Meta(description="viewer, operator, cleaner, approver or admin.", extra={"example": "viewer"})]
    provider: Annotated[
        str, Meta(description="ldap, or the name of an OIDC provider; empty is any.", extra={"example": "ldap"})
    ] = ""
    groups: Annotated[
        tuple[str, ...],
        Meta(description="Patterns of groups, any of them.", extra={"example": ["registry-users"]}),
    ] = ()
    users: Annotated[
        tuple[str, ...], Meta(description="Patterns of names, any of them.", extra={"example": ["alice"]})
    ] = ()
    claims: Annotated[
        tuple[str, ...],
        Meta(
            description="Claims or attributes and a pattern of their value, all of them.",
            extra={"example": ["project_path=glob:team/**", "ref_protected=true"]},
        ),
    ] = ()
    everyone: Annotated[bool, Meta(description="All who can sign in; for rules without any other condition.")] = False
    registries: Annotated[
        tuple[str, ...],
        Meta(description="Patterns of the registries in which it holds; empty is all.", extra={"example": ["prod"]}),
    ] = ()
    repositories: Annotated[
        tuple[str, ...],
        Meta(
            description="Patterns of the repositories in which it holds; empty is all.",
            extra={"example": ["glob:team/**"]},
        ),
    ] = ()


class AllowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the allow-list answers."""

    default: Annotated[
        str, Meta(description="The answer for an image that no entry names: deny, unknown or allow.")
    ] = "deny"
    tags: Annotated[
        str,
        Meta(
            description=(
                "How an image named by tag is answered: current (by the digest that the tag has in the inventory), "
                "digest-required (unknown), any (by name alone)."
            )
        ),
    ] = "current"
    settled_after: Annotated[
        str, Meta(description="With `current`: how long a tag must not have moved; 0s does not matter.")
    ] = "0s"
    stale_after: Annotated[
        str, Meta(description="For how long answers are given from memory while the database cannot be read.")
    ] = "1h"
    keep_decisions: Annotated[str, Meta(description="How long answers are kept in the log.")] = "30d"


class ImagelistSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The interface of imagelist, at /compat/imagelist/ and, with `listen`, at the root of a listener of its own."""

    enabled: Annotated[bool, Meta(description="Serve it at /compat/imagelist/.")] = False
    listen: Annotated[
        str, Meta(description="Address of its own listener; empty: there is none.", extra={"example": "0.0.0.0:8000"})
    ] = ""
    unauthenticated_reads: Annotated[
        bool, Meta(description="Let anybody read, as imagelist did; otherwise a token that may read is asked for.")
    ] = False
    unauthenticated_writes: Annotated[
        bool,
        Meta(description="Let anybody write, as imagelist did without a tokens file; not beside tokens_file."),
    ] = False
    tokens_file: Annotated[
        str,
        Meta(
            description="imagelist's YAML file of tokens that may write here. Read again when changed.",
            extra={"example": "/etc/regwarden/imagelist-tokens.yaml"},
        ),
    ] = ""


class GitlabRegistryUsageRestSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The interface of gitlab-registry-usage-rest, at /compat/gitlab-registry-usage-rest/ or a listener of its own."""

    enabled: Annotated[bool, Meta(description="Serve it at /compat/gitlab-registry-usage-rest/.")] = False
    listen: Annotated[
        str, Meta(description="Address of its own listener; empty: there is none.", extra={"example": "127.0.0.1:5000"})
    ] = ""
    prefix: Annotated[str, Meta(description="Path under which its own listener answers, as server_prefix.")] = "/"
    registry: Annotated[
        str,
        Meta(
            description="The registry it shows; may be left out where there is only one.",
            extra={"example": "production"},
        ),
    ] = ""
    token_lifetime: Annotated[str, Meta(description="How long tokens of its /auth_token are valid.")] = "2w"  # noqa: S105 -- a duration
