"""How does the sample registry differ from others? Switches for what real servers do differently, and plain faults."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, Self

from regwarden.core.oci.digests import Digest


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer in place of the true one; ``status`` 0 closes the connection without an answer."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Behaviour:
    """What the server does; the defaults are Distribution 2.8. Facts may be changed while the server runs.

    ``faults`` maps a method and a pattern for the whole path to answers that are given once each, in order, before
    the true answer returns. ``hidden_repositories`` and ``hidden_tags`` (``repository:tag``) exist but are left out
    of listings, as some servers do by mistake. ``tag_page_limit`` 0 means that tag lists ignore paging.
    ``is_read_only`` takes no changes, as during maintenance. With ``keeps_children`` a manifest that an index lists
    is not deleted (409, as GitLab does). ``lost_blobs`` are as after a collection beside a running 2.8: HEAD still
    finds them, GET breaks off; ``unwritable_manifests`` are accepted there (201) and not stored.
    """

    generation: Literal[2, 3] = 2
    has_catalog: bool = True
    catalog_page_limit: int = 1000
    catalog_page_default: int = 100
    tag_page_limit: int = 0
    tag_page_default: int = 0
    can_delete: bool = True
    can_delete_tag: bool = False
    is_read_only: bool = False
    keeps_children: bool = False
    has_referrers_api: bool = False
    referrers_page_limit: int = 0
    latency_seconds: float = 0.0
    hidden_repositories: set[str] = field(default_factory=set)
    hidden_tags: set[str] = field(default_factory=set)
    lost_blobs: set[Digest] = field(default_factory=set)
    unwritable_manifests: set[Digest] = field(default_factory=set)
    faults: dict[tuple[str, str], list[Fault]] = field(default_factory=dict)

    @classmethod
    def distribution_2(cls) -> Self:
        """Distribution 2.8: no paging of tags, no deletion by tag, no referrers API."""
        return cls()

    @classmethod
    def distribution_3(cls) -> Self:
        """Distribution 3.x: tag lists sorted and paged on request, deletion by tag, second form of the events."""
        return cls(generation=3, tag_page_limit=1000, can_delete_tag=True)

    @classmethod
    def oci_1_1(cls) -> Self:
        """A registry that implements all of the OCI distribution specification 1.1, with small pages."""
        return cls(
            generation=3,
            tag_page_limit=100,
            tag_page_default=100,
            can_delete_tag=True,
            has_referrers_api=True,
            referrers_page_limit=50,
        )

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The next fault for this request, which is used up by asking."""
        for (fault_method, pattern), remaining in self.faults.items():
            if remaining and fault_method == method and re.fullmatch(pattern, path):
                return remaining.pop(0)
        return None
