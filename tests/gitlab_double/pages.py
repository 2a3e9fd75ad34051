"""How are lists cut into pages? Offsets with GitLab's ``X-`` headers, and keysets with a ``Link`` alone."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from aiohttp import web

from tests.gitlab_double.answers import invalid, number
from tests.gitlab_double.credentials import RAILS

Row = TypeVar("Row")
PER_PAGE, MOST_PER_PAGE = 20, 100


def per_page_of(request: web.Request) -> int:
    """How many rows a page has: 20, at most 100. Raises ``Refused``."""
    found = number(request.query, "per_page", PER_PAGE)
    if found == 0:
        raise invalid("per_page has a value not allowed")
    return min(max(found, 1), MOST_PER_PAGE)


def _href(request: web.Request, values: Mapping[str, object], *, names_path: bool = True) -> str:
    """The address of another page: all parameters, those of the path too, sorted; on GitLab's external host."""
    kept: dict[str, object] = dict(request.match_info) if names_path else {}
    kept |= {key: value for key, value in request.query.items() if key != "private_token"}
    pairs = sorted((kept | dict(values)).items())
    return f"{request.app[RAILS].scenario.external_url}{request.rel_url.raw_path}?{urlencode(pairs)}"


def _link(address: str, relation: str) -> str:
    return f'<{address}>; rel="{relation}"'


def offset_page(request: web.Request, rows: Sequence[Row], show: Callable[[Row], Any]) -> web.Response:
    """One page of the rows; totals are left out above GitLab's limit. Raises ``Refused``."""
    page, per_page = number(request.query, "page", 1), per_page_of(request)
    if page < 1:
        raise invalid("page does not have a valid value")
    total, pages = len(rows), max(-(-len(rows) // per_page), 1)
    has_totals = total <= request.app[RAILS].scenario.settings.limits_totals_above

    def address(number: int) -> str:
        return _href(request, {"page": number, "per_page": per_page})

    links = [_link(address(page - 1), "prev")] if page > 1 else []
    links += [_link(address(page + 1), "next")] if page < pages else []
    links.append(_link(address(1), "first"))
    headers = {
        "X-Page": str(page),
        "X-Per-Page": str(per_page),
        "X-Next-Page": str(page + 1) if page < pages else "",
        "X-Prev-Page": str(page - 1) if page > 1 else "",
    }
    if has_totals:
        headers |= {"X-Total": str(total), "X-Total-Pages": str(pages)}
        links.append(_link(address(pages), "last"))
    headers["Link"] = ", ".join(links)
    start = (page - 1) * per_page
    return web.json_response([show(row) for row in rows[start : start + per_page]], headers=headers)


def wants_keyset(request: web.Request) -> bool:
    return request.query.get("pagination") == "keyset"


def keyset_by_id(
    request: web.Request, rows: Sequence[Row], show: Callable[[Row], Any], *, number_of: Callable[[Row], int]
) -> web.Response:
    """A page by ``id_after`` or ``id_before``. A page with any row has a next one, which may be empty."""
    is_rising = request.query.get("sort", "desc") == "asc"
    marker = "id_after" if is_rising else "id_before"
    edge = number(request.query, marker, -1)
    ordered = sorted(rows, key=number_of, reverse=not is_rising)
    if edge >= 0:
        ordered = [row for row in ordered if (number_of(row) > edge) == is_rising and number_of(row) != edge]
    found = ordered[: per_page_of(request)]
    headers = {}
    if found:
        headers["Link"] = _link(_href(request, {marker: number_of(found[-1])}, names_path=False), "next")
    return web.json_response([show(row) for row in found], headers=headers)


def keyset_by_name(
    request: web.Request, rows: Sequence[Row], show: Callable[[Row], Any], *, name_of: Callable[[Row], str]
) -> web.Response:
    """A page after an opaque ``cursor``, in the order of names."""
    ordered = sorted(rows, key=name_of)
    if (cursor := request.query.get("cursor")) is not None:
        last = _read_cursor(cursor)
        ordered = [row for row in ordered if name_of(row) > last]
    per_page = per_page_of(request)
    found = ordered[:per_page]
    headers = {}
    if len(ordered) > per_page:
        mark = json.dumps({"name": name_of(found[-1]), "_kd": "n"}).encode()
        values = {"cursor": base64.urlsafe_b64encode(mark).decode(), "per_page": per_page}
        headers["Link"] = _link(_href(request, values, names_path=False), "next")
    return web.json_response([show(row) for row in found], headers=headers)


def _read_cursor(cursor: str) -> str:
    try:
        return str(json.loads(base64.urlsafe_b64decode(cursor))["name"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise invalid("cursor is invalid") from None


def keyset_of_tags(request: web.Request, names: Sequence[str], show: Callable[[str], Any]) -> web.Response:
    """A page of tags after ``last``, by name; links have four parameters only."""
    is_falling = request.query.get("sort") == "desc"
    ordered = sorted(names, reverse=is_falling)
    last = request.query.get("last")
    if last is not None:
        ordered = [name for name in ordered if (name < last if is_falling else name > last)]
    per_page = per_page_of(request)
    found = ordered[:per_page]
    headers = {}
    if len(ordered) > per_page:
        values = {"last": found[-1], "pagination": "keyset", "per_page": per_page}
        if "sort" in request.query:
            values["sort"] = request.query["sort"]
        place = request.app[RAILS].scenario.external_url + request.rel_url.raw_path
        headers["Link"] = _link(f"{place}?{urlencode(sorted(values.items()))}", "next")
    return web.json_response([show(name) for name in found], headers=headers)
