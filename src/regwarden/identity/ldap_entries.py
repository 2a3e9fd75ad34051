"""Who is the user of an entry: what never changes, the name as the directory spells it, attributes; are they active?"""

from __future__ import annotations

import unicodedata
import uuid
from typing import Final

from regwarden.core.role_rules import SignedIn
from regwarden.identity.ldap_errors import DirectoryError
from regwarden.identity.ldap_names import MAX_NAME_LENGTH, escape_filter, parse_dn
from regwarden.identity.ldap_protocol import Entry
from regwarden.settings_access import LdapSettings

PROVIDER: Final = "ldap"
DN_CLAIM: Final = "dn"
MAX_IDENTITY_LENGTH: Final = 200
MAX_VALUES: Final = 100
MAX_VALUE_LENGTH: Final = 1024
_GUID: Final = "objectguid"
_GUID_BYTES: Final = 16
_ACCOUNT_DISABLED: Final = 0x2  # userAccountControl, [MS-ADTS] 2.2.16
_LOCKED_FOR_GOOD: Final = "000001010000Z"  # pwdAccountLockedTime of slapo-ppolicy
_STATE: Final = ("userAccountControl", "nsAccountLock", "loginDisabled", "pwdAccountLockedTime")
_WINDOWS_NAME: Final = "sAMAccountName"


def wanted_attributes(settings: LdapSettings) -> tuple[str, ...]:
    """The attributes of a user's entry that are asked for."""
    named = (
        settings.username_attribute,
        settings.identity_attribute,
        settings.display_name_attribute,
        settings.member_of_attribute,
        *settings.attributes,
        *_STATE,
        _WINDOWS_NAME,
    )
    return tuple(dict.fromkeys(filter(None, named)))


def identity_of(entry: Entry, settings: LdapSettings) -> str:
    """What never changes in an entry, as text. Raises ``DirectoryError`` where it is missing or not one value."""
    values = entry.values(settings.identity_attribute)
    if len(values) == 1 and settings.identity_attribute.lower() == _GUID and len(values[0]) == _GUID_BYTES:
        return str(uuid.UUID(bytes_le=values[0]))
    texts = entry.texts(settings.identity_attribute)
    if len(values) == 1 and texts and 0 < len(texts[0]) <= MAX_IDENTITY_LENGTH and texts[0].isprintable():
        return texts[0]
    raise DirectoryError(
        f"{entry.dn} has not one {settings.identity_attribute} that the account may read: check identity_attribute"
    )


def identity_filter(identity: str, settings: LdapSettings) -> str:
    """The filter that finds the entry of ``identity_of``. Raises ``ValueError`` for what is no identity."""
    if settings.identity_attribute.lower() == _GUID:
        return f"({settings.identity_attribute}={escape_filter(uuid.UUID(identity).bytes_le)})"
    return f"({settings.identity_attribute}={escape_filter(identity)})"


def is_disabled(entry: Entry) -> bool:
    """Whether the directory says that nobody may use this account; what only a bind finds out is not known here."""

    def first(name: str) -> str:
        return next(iter(entry.texts(name)), "")

    flags = first("userAccountControl")
    return (
        (flags.isdecimal() and len(flags) < MAX_NAME_LENGTH and bool(int(flags) & _ACCOUNT_DISABLED))
        or any(first(name).lower() == "true" for name in ("nsAccountLock", "loginDisabled"))
        or first("pwdAccountLockedTime") == _LOCKED_FOR_GOOD
    )


def has_windows_name(entry: Entry, authorization: str) -> bool:
    """Whether ``u:DOMAIN`` with a backslash and a name, Active Directory's answer to Who-Am-I, means this entry."""
    name = authorization.removeprefix("u:").rpartition("\\")[2]
    return bool(name) and name.casefold() in {text.casefold() for text in entry.texts(_WINDOWS_NAME)}


def signed_in(entry: Entry, settings: LdapSettings, groups: frozenset[str]) -> SignedIn:
    """The user of an entry. Raises ``DirectoryError`` where name or identity are missing or unfit."""
    claims = {name: _texts(entry, name) for name in settings.attributes}
    return SignedIn(
        provider=PROVIDER,
        subject=f"{PROVIDER}:{identity_of(entry, settings)}",
        name=_name(entry, settings),
        display_name=next(iter(_texts(entry, settings.display_name_attribute)), "")[:MAX_NAME_LENGTH],
        groups=groups,
        claims={**claims, DN_CLAIM: (entry.dn,)},
    )


def _name(entry: Entry, settings: LdapSettings) -> str:
    """The directory's spelling; of several, the one in the DN, else the first by the alphabet: always the same."""
    names = sorted(entry.texts(settings.username_attribute))
    first_part = (parse_dn(entry.dn) or ((),))[0]
    for name in names:
        if (settings.username_attribute.lower(), _folded(name)) in first_part:
            names = [name]
    if not names or not names[0] or len(names[0]) > MAX_NAME_LENGTH or not names[0].isprintable():
        raise DirectoryError(
            f"{entry.dn} has no {settings.username_attribute} that can be a name: check username_attribute"
        )
    return names[0]


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _texts(entry: Entry, name: str) -> tuple[str, ...]:
    """The values of an attribute that can be shown and compared; the order of the directory means nothing."""
    found = sorted(text for text in entry.texts(name) if len(text) <= MAX_VALUE_LENGTH and text.isprintable())
    return tuple(found[:MAX_VALUES])
