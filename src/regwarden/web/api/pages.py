"""How does the description of the interface look as one page for people? HTML without any script."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

_METHODS: Final = ("get", "post", "put", "patch", "delete")
_CODE: Final = re.compile(r"`([^`]+)`")
_PREFIX: Final = "/api/v1"
_UNSAFE: Final = re.compile(r"[^a-z0-9]+")


def render(document: Mapping[str, Any]) -> str:
    """The page for an OpenAPI document."""
    operations = list(_operations(document))
    tags = list(dict.fromkeys(tag for tag, *_ in operations))
    title = f"{document['info']['title']} {document['info']['version']}"
    shared = _shared_answers(operations)
    shared_rows = "".join(f"<tr><td>{status}</td><td>{_text(one)}</td></tr>\n" for status, one in shared.items())
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{escape(title)}: HTTP API</title>\n",
        '<link rel="stylesheet" href="/api/v1/docs/style.css">\n</head>\n<body>\n',
        f"<header><h1>{escape(title)}: HTTP API</h1>\n",
        *(f"<p>{_text(line)}</p>\n" for line in document["info"].get("description", "").strip().splitlines()),
        '<p>For programs: <a href="/api/v1/openapi.json">openapi.json</a></p>\n',
        f"<details><summary>What anything may answer</summary>\n<table>\n{shared_rows}</table></details>\n",
        "</header>\n<nav><ul>\n",
    ]
    for tag in tags:
        inside = "".join(
            f'<li><a href="#{_anchor(method, path)}"><b class="{method}">{method.upper()}</b>'
            f"<span>{_broken(path.removeprefix(_PREFIX) or '/')}</span></a></li>\n"
            for own, method, path, _ in operations
            if own == tag
        )
        parts.append(f'<li><a href="#{escape(tag)}">{escape(tag)}</a><ul>\n{inside}</ul></li>\n')
    parts.append("</ul></nav>\n<main>\n")
    for tag in tags:
        parts.append(f'<h2 id="{escape(tag)}">{escape(tag)}</h2>\n')
        parts += [_operation(document, one[1:], shared) for one in operations if one[0] == tag]
    parts.append("</main>\n</body>\n</html>\n")
    return "".join(parts)


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                yield (operation.get("tags") or ["other"])[0], method, path, operation


def _operation(document: Mapping[str, Any], one: tuple[str, str, Mapping[str, Any]], shared: Mapping[str, Any]) -> str:
    method, path, operation = one
    anchor = _anchor(method, path)
    sentences = f"{operation['summary']}\n\n{operation.get('description', '')}".strip()
    parts = [
        f'<section id="{anchor}">\n<h3><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code></h3>\n',
        *(f"<p>{_text(line)}</p>\n" for line in sentences.split("\n\n")),
    ]
    if parameters := operation.get("parameters"):
        parts.append("<table>\n<tr><th>Parameter</th><th>In</th><th>Type</th><th>Meaning</th></tr>\n")
        parts += [_parameter(document, each) for each in parameters]
        parts.append("</table>\n")
    for media_type, content in (operation.get("requestBody") or {}).get("content", {}).items():
        parts.append(f"<h4>Body <code>{escape(media_type)}</code></h4>\n{_schema(document, content.get('schema', {}))}")
    answers = operation["responses"].items()
    own = {status: one for status, one in answers if shared.get(status) != one["description"]}
    parts += [_answers(own), *_examples(operation), "</section>\n"]
    return "".join(parts)


def _answers(answers: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{status}</td><td>{_text(one['description'])}</td>"
        f"<td>{escape(', '.join(one.get('content', {})))}</td></tr>\n"
        for status, one in answers.items()
    )
    return f"<table>\n<tr><th>Status</th><th>Meaning</th><th>Media type</th></tr>\n{rows}</table>\n"


def _shared_answers(operations: Iterable[tuple[str, str, str, Mapping[str, Any]]]) -> dict[str, str]:
    """What failures mean nearly everywhere, status to sentence: that is told once."""
    found: dict[str, Counter[str]] = {}
    for *_, operation in operations:
        for status, answer in operation["responses"].items():
            if not status.startswith("2"):
                found.setdefault(status, Counter())[answer["description"]] += 1
    return {status: counted.most_common(1)[0][0] for status, counted in sorted(found.items())}


def _examples(operation: Mapping[str, Any]) -> Iterator[str]:
    asked = (operation.get("requestBody") or {}).get("content", {})
    answered = {
        media_type: content
        for status, answer in operation["responses"].items()
        if status.startswith("2")
        for media_type, content in answer.get("content", {}).items()
    }
    for title, contents in (("Example of a body", asked), ("Example of an answer", answered)):
        for content in contents.values():
            if "example" in content:
                shown = content["example"]
                text = shown if isinstance(shown, str) else json.dumps(shown, indent=2, ensure_ascii=False)
                yield f"<details><summary>{title}</summary>\n<pre>{escape(text, quote=False)}</pre></details>\n"


def _parameter(document: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    name = escape(one["name"]) + (" *" if one.get("required") else "")
    meaning = one.get("description") or one.get("schema", {}).get("description", "")
    kind = _kind(document, one.get("schema", {}))
    return (
        f"<tr><td><code>{name}</code></td><td>{one['in']}</td><td>{escape(kind)}</td><td>{_text(meaning)}</td></tr>\n"
    )


def _schema(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    found = _resolved(document, next((one for one in schema.get("anyOf", ()) if "$ref" in one), schema))
    rows = "".join(
        f"<tr><td><code>{escape(name)}{' *' if name in found.get('required', ()) else ''}</code></td>"
        f"<td>{escape(_kind(document, one))}</td><td>{_text(one.get('description', ''))}</td></tr>\n"
        for name, one in found.get("properties", {}).items()
    )
    return f"<table>\n<tr><th>Field</th><th>Type</th><th>Meaning</th></tr>\n{rows}</table>\n" if rows else ""


def _kind(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    found = _resolved(document, schema)
    if "enum" in found:
        return " | ".join(str(value) for value in found["enum"])
    if "anyOf" in found:
        return " | ".join(_kind(document, one) for one in found["anyOf"] if one.get("type") != "null")
    kind = str(found.get("type", "any"))
    return f"list of {_kind(document, found.get('items', {}))}" if kind == "array" else kind


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    if not reference:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"].get(reference.rpartition("/")[2], {})
    return found


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def _broken(path: str) -> str:
    """A path that may go on in the next line behind each slash."""
    return escape(path).replace("/", "/<wbr>")


def _anchor(method: str, path: str) -> str:
    return f"{method}-{_UNSAFE.sub('-', path.lower()).strip('-')}"
