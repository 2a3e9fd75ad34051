"""Crawl a registry and report what its repositories weigh.

python examples/report_usage.py https://registry.example.com inventory.sqlite3
"""

from __future__ import annotations

import sys

from regwarden import connect


def main(registry: str, file: str) -> None:
    with connect(f"sqlite:///{file}") as inventory:
        report = inventory.crawl(registry)
        print(f"{report.registry}: {report.state}, {report.certificate.tag_count} tags")
        for row in inventory.repositories(sort=["-exclusive_bytes"], limit=10):
            print(f"{row.repository}: stored {row.stored_bytes} bytes, of which {row.exclusive_bytes} are its alone")


if __name__ == "__main__":
    main(*sys.argv[1:])
