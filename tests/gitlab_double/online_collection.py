"""What does GitLab's registry with its database remove by itself, once it has waited long enough?"""

from __future__ import annotations

from tests.gitlab_double.storage import Storage


def collect_online(storage: Storage) -> None:
    """Remove every manifest without a tag that no index lists and nothing refers to, and what that sets free.

    The blobs are left to an ordinary collection.
    """
    for path in storage.repositories():
        tagged = {tag.digest for tag in storage.tags(path)}
        while True:
            found = storage.revisions(path)
            manifests = [one for one in map(storage.manifest, sorted(found)) if one is not None]
            held = tagged.union(*(one.children for one in manifests), *({one.subject} for one in manifests))
            if not (gone := found - held):
                break
            for digest in gone:
                storage.delete_revision(path, digest)
