"""Print the tags that are older than 90 days, except releases, oldest first.

python examples/find_old_tags.py https://registry.example.com inventory.sqlite3
"""

from __future__ import annotations

import sys

from regwarden import StoreError, connect


def main(registry: str, file: str) -> None:
    with connect(f"sqlite:///{file}") as inventory:
        try:
            inventory.coverage()
        except StoreError:
            inventory.crawl(registry)
        old = inventory.tags(where=["created > 90d"], exclude_tags=["semver:>=1.2.0"], sort=["created"])
        for row in old:
            print(f"{row.repository}:{row.tag} is {row.age_days} days old")
        print(f"{len(old)} of {inventory.count('tag')} tags")


if __name__ == "__main__":
    main(*sys.argv[1:])
