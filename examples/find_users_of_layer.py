"""Who needs the largest layer of a registry? Prints every tag that contains it.

python examples/find_users_of_layer.py https://registry.example.com inventory.sqlite3
"""

from __future__ import annotations

import sys

from regwarden import connect


def main(registry: str, file: str) -> None:
    with connect(f"sqlite:///{file}") as inventory:
        inventory.crawl(registry)
        largest = inventory.blobs(sort=["-size"], limit=1)[0]
        found = inventory.find_content(largest.digest)
        print(f"{found.digest} ({found.size_bytes} bytes) is needed by {found.use_count} tags and manifests:")
        for use in found.uses:
            print(f"  {use.repository}:{use.tag}" if use.tag else f"  {use.repository}@{use.digest}")


if __name__ == "__main__":
    main(*sys.argv[1:])
