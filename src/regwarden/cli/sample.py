"""The sample registry for ``regwarden demo``: a real HTTP server on this machine, filled with believable images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from regwarden import clock
from regwarden.testing.company import company_content
from regwarden.testing.server import running_sample_registry


@contextmanager
def running_sample() -> Iterator[str]:
    """Run the sample registry while the block lasts; gives its address."""
    with running_sample_registry(company_content(clock.now())) as registry:
        yield registry.url
