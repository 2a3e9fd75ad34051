"""Which tags does ``/gitlab/v1/repositories/<path>/tags/list/`` give? Filters, two orders, markers, referrers."""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from aiohttp import web

from tests.gitlab_double.facade_errors import link, refuse
from tests.gitlab_double.tag_files import StoredTag, micros
from tests.gitlab_double.view import View, describe_times, moment

TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
NAME_PART = re.compile(r"[a-zA-Z0-9._-]{1,128}")
TIMESTAMP = re.compile(r"\d+-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")
SORTS = ("-name", "name", "-published_at", "published_at")
DEFAULT_COUNT, MAX_COUNT = 100, 1000


class Refused(Exception):
    """A parameter that is not as it must be: code and detail of the answer."""


class Marker(NamedTuple):
    """Where a page ends: after a tag, in the order of publication with its time."""

    tag: str
    published_at: str = ""

    @classmethod
    def of(cls, tag: StoredTag, order: str) -> Marker:
        at = moment(tag.published_at).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return cls(tag.name, at if order == "published_at" else "")

    @property
    def text(self) -> str:
        both = f"{self.published_at}|{self.tag}"
        return base64.urlsafe_b64encode(both.encode()).decode() if self.published_at else self.tag


class Wanted(NamedTuple):
    """The parameters of a listing; ``forward`` is whether the page follows its marker or ends before it."""

    limit: int
    marker: Marker | None
    forward: bool
    name: str
    name_exact: str
    sort: str
    has_referrers: bool
    referrer_types: frozenset[str]

    @property
    def order(self) -> str:
        return self.sort.removeprefix("-") or "name"

    @property
    def is_descending(self) -> bool:
        return self.sort.startswith("-")


def answer_tag_list(view: View, request: web.Request, *, name: str) -> web.Response:
    """The page that is asked for, or what is wrong with the question."""
    try:
        wanted = _read_wanted(request)
    except Refused as refused:
        code, detail = refused.args
        return refuse(code, detail)
    if not view.storage.exists(name):
        return refuse("NAME_UNKNOWN", {"name": name})
    found, has_before, has_after = _select(view, name, wanted)
    referrers = view.relations(name).referrers if wanted.has_referrers else None
    answer = web.json_response([_describe(view, tag, wanted, referrers) for tag in found])
    if found and not wanted.name_exact:
        links = _links(request, found, wanted, has=(has_before, has_after))
        if links:
            answer.headers["Link"] = links
    return answer


def _select(view: View, name: str, wanted: Wanted) -> tuple[Sequence[StoredTag], bool, bool]:
    """The tags of the page, whether there are more before it, and after it."""
    if wanted.name_exact:
        exact = view.storage.tag(name, wanted.name_exact)
        return ([exact] if exact is not None else []), False, False
    tags: Sequence[StoredTag] = view.storage.tags(name, wanted.order)
    if wanted.name:
        tags = [tag for tag in tags if wanted.name in tag.name]
    # The stored order is ascending: backwards in a descending one is forwards in it.
    is_upwards = wanted.forward != wanted.is_descending
    start, stop = 0, len(tags)
    if wanted.marker is not None:
        place = _place(tags, wanted, is_after=is_upwards)
        start, stop = (place, stop) if is_upwards else (0, place)
    page_start, page_stop = (start, min(start + wanted.limit, stop))
    if not is_upwards:
        page_start, page_stop = max(stop - wanted.limit, start), stop
    page = tags[page_start:page_stop]
    below, above = page_start > 0, page_stop < len(tags)
    return (page[::-1], above, below) if wanted.is_descending else (page, below, above)


def _place(tags: Sequence[StoredTag], wanted: Wanted, *, is_after: bool) -> int:
    """The index of the first tag beyond the marker (``is_after``), or of the first that is not before it."""
    marker = wanted.marker
    assert marker is not None
    find = bisect_right if is_after else bisect_left
    if wanted.order == "published_at" and marker.published_at:
        key = (_micros(marker.published_at), marker.tag)
        return find(tags, key, key=lambda tag: (micros(tag.published_at), tag.name))
    if wanted.order == "name":
        return find(tags, marker.tag, key=lambda tag: tag.name)
    names = [tag.name for tag in tags]  # a bare name in the order of publication: after that tag, if there is one
    return names.index(marker.tag) + is_after if marker.tag in names else (0 if is_after else len(tags))


def _micros(text: str) -> int:
    whole, _, part = text.removesuffix("Z").partition(".")
    seconds = (datetime.fromisoformat(f"{whole}+00:00") - moment(0)).total_seconds()
    return int(seconds) * 1_000_000 + int(part.ljust(6, "0")[:6])


def _describe(view: View, tag: StoredTag, wanted: Wanted, referrers: Any) -> dict[str, Any]:
    manifest = view.storage.manifest(tag.digest)
    found: dict[str, Any] = {"name": tag.name, "digest": tag.digest}
    if manifest is not None and manifest.config_digest:
        found["config_digest"] = manifest.config_digest
    found["media_type"] = manifest.media_type if manifest is not None else ""
    found["size_bytes"] = manifest.size_bytes if manifest is not None else 0
    found |= describe_times(tag)
    if referrers is not None:
        types = wanted.referrer_types
        listed = [
            {"artifactType": each.artifact_type, "digest": each.digest}
            for each in referrers.get(tag.digest, ())
            if not types or each.artifact_type in types
        ]
        if listed:
            found["referrers"] = listed
    return found


def _links(request: web.Request, found: Sequence[StoredTag], wanted: Wanted, *, has: tuple[bool, bool]) -> str:
    """Relative links; what asks for referrers is not in them, as in the registry itself."""
    kept = {"n": str(wanted.limit)} | {key: request.query[key] for key in ("name", "sort") if request.query.get(key)}
    links = []
    if has[0]:
        marker = Marker.of(found[0], wanted.order).text
        links.append(link(request.path, "previous", {**kept, "before": marker}))
    if has[1]:
        marker = Marker.of(found[-1], wanted.order).text
        links.append(link(request.path, "next", {**kept, "last": marker}))
    return ", ".join(links)


def _read_wanted(request: web.Request) -> Wanted:
    query = request.query
    for one, other in (("last", "before"), ("name", "name_exact")):
        if one in query and other in query:
            raise Refused("INVALID_QUERY_PARAMETER_VALUE", {"parameters": [one, other]})
    name, name_exact = query.get("name", ""), query.get("name_exact", "")
    for parameter, value, pattern in (("name", name, NAME_PART), ("name_exact", name_exact, TAG)):
        if value and not pattern.fullmatch(value):
            raise Refused("INVALID_QUERY_PARAMETER_VALUE", {"parameter": parameter, "pattern": pattern.pattern})
    sort = query.get("sort", "").strip().lower()
    if sort and sort not in SORTS:
        raise Refused("INVALID_QUERY_PARAMETER_VALUE", {"parameter": "sort", "validValues": SORTS})
    types = ",".join(query.getall("referrer_type", []))
    return Wanted(
        _read_count(query.get("n")),
        _read_marker("before", query.get("before")) or _read_marker("last", query.get("last")),
        "before" not in query,
        name,
        name_exact,
        sort,
        query.get("referrers") == "true",
        frozenset(part for part in types.lower().split(",") if part),
    )


def _read_count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    try:
        count = int(text)
    except ValueError:
        raise Refused("INVALID_QUERY_PARAMETER_TYPE", {"parameter": "n", "validTypes": ["int"]}) from None
    if not 1 <= count <= MAX_COUNT:
        raise Refused("INVALID_QUERY_PARAMETER_VALUE", {"parameter": "n", "minimum": 1, "maximum": MAX_COUNT})
    return count


def _read_marker(parameter: str, text: str | None) -> Marker | None:
    if text is None:
        return None
    found = Marker(text)
    try:
        at, bar, tag = base64.urlsafe_b64decode(text).decode().partition("|")
    except (binascii.Error, ValueError):
        at, bar, tag = "", "", ""
    if bar and TIMESTAMP.fullmatch(at):
        found = Marker(tag, at)
    if not TAG.fullmatch(found.tag):
        raise Refused("INVALID_QUERY_PARAMETER_VALUE", {"parameter": parameter, "pattern": TAG.pattern})
    return found
