"""Write all tags and their sizes into a CSV file, without holding them in memory.

python examples/save_as_csv.py https://registry.example.com inventory.sqlite3
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from regwarden import connect


def main(registry: str, file: str) -> None:
    target = Path(file).with_suffix(".csv")
    with connect(f"sqlite:///{file}") as inventory, target.open("w", newline="") as output:
        inventory.crawl(registry)
        writer = csv.writer(output)
        writer.writerow(["repository", "tag", "digest", "bytes"])
        for row in inventory.iterate("tag"):
            writer.writerow([row.repository, row.tag, row.digest, row.logical_bytes])
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
