"""What does a crawl's coverage certificate say, in words?"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from regwarden.cli.values import counted, escape_controls, human_bytes, human_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regwarden.core.coverage import Certificate
    from regwarden.flows.crawl import CrawlReport

_SHOWN_PROBLEMS = 10


def report_lines(report: CrawlReport) -> Iterator[str]:
    """Everything a person should know about a finished crawl, line by line."""
    certificate = report.certificate
    yield f"{escape_controls(report.registry)}: {_state(report)} in {_duration(certificate)}"
    yield f"  {_content(certificate)}"
    is_first = certificate.new_tag_count == certificate.tag_count
    if not is_first and (changes := _changes(certificate)):
        yield f"  since the last crawl: {changes}"
    yield f"  {_traffic(certificate)}"
    yield from (f"  {sentence}" for sentence in _gaps(certificate))
    if certificate.problem_count:
        yield from _problem_lines(report)


def _state(report: CrawlReport) -> str:
    resumed = ", continuing an interrupted crawl" if report.certificate.was_resumed else ""
    words = {"complete": "complete", "partial": "partial, not everything could be read", "failed": "failed"}
    return words.get(report.state, report.state) + resumed


def _duration(certificate: Certificate) -> str:
    return human_duration(timedelta(seconds=certificate.duration_seconds))


def _content(certificate: Certificate) -> str:
    return ", ".join(
        (
            counted(certificate.repository_count, "repository", "repositories"),
            counted(certificate.tag_count, "tag"),
            f"{counted(certificate.manifest_count, 'manifest')} ({certificate.fetched_manifest_count:,} fetched)",
        )
    )


def _changes(certificate: Certificate) -> str:
    parts = (
        (certificate.new_tag_count, "new tag", ""),
        (certificate.moved_tag_count, "moved tag", ""),
        (certificate.gone_tag_count, "tag gone", "tags gone"),
        (certificate.gone_repository_count, "repository gone", "repositories gone"),
    )
    return ", ".join(counted(count, noun, plural) for count, noun, plural in parts if count)


def _traffic(certificate: Certificate) -> str:
    parts = [counted(certificate.request_count, "request"), f"{human_bytes(certificate.received_bytes)} received"]
    if certificate.not_modified_count:
        parts.append(f'{certificate.not_modified_count:,} answered "unchanged"')
    if certificate.retry_count:
        parts.append(counted(certificate.retry_count, "retry", "retries"))
    return ", ".join(parts)


def _gaps(certificate: Certificate) -> Iterator[str]:
    """Where the inventory is not the whole truth."""
    if certificate.scope:
        yield f"restricted to {escape_controls(certificate.scope)}; everything else is as it was"
    repositories = (
        (certificate.denied_count, "denied: what is known of them is kept"),
        (certificate.failed_count, "could not be read: what is known of them is kept"),
        (certificate.partial_count, "partly read"),
        (certificate.untagged_count, "without any tag"),
    )
    yield from (f"{counted(count, 'repository', 'repositories')} {words}" for count, words in repositories if count)
    heading = _listing_heading(certificate)
    if heading:
        yield heading
    for doubt in certificate.doubts:
        yield f"{'  ' if heading else ''}{escape_controls(doubt)}"
    if certificate.verified_blob_count:
        yield f"{counted(certificate.verified_blob_count, 'blob')} found, {certificate.missing_blob_count:,} missing"


def _listing_heading(certificate: Certificate) -> str:
    """What the doubts below it put in question; empty where it is not the list of all repositories."""
    if not certificate.is_listing_complete:
        return "the list of repositories broke off: more may exist"
    if certificate.doubts and not certificate.is_listing_trustworthy and not certificate.scope:
        return "the list of repositories may be incomplete:"
    return ""


def _problem_lines(report: CrawlReport) -> Iterator[str]:
    yield f"  {counted(report.certificate.problem_count, 'problem')}:"
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        detail = f":{problem.tag}" if problem.tag else f"@{problem.digest[:19]}" if problem.digest else ""
        place = f"{problem.repository}{detail}" or report.registry
        yield escape_controls(f"    {place}: {problem.message} [{problem.code}]")
    if (left := report.certificate.problem_count - _SHOWN_PROBLEMS) > 0:
        yield f"    and {left:,} more"
