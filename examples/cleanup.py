"""Remove all but the newest two tags of each repository, look at what that frees, and take it back again.

python examples/cleanup.py https://registry.example.com inventory.sqlite3
"""

from __future__ import annotations

import sys

from regwarden import connect

POLICY = """\
apiVersion: retention/v1
kind: Policy
metadata: {name: newest-two}
scope: {}
keep:
  - newest: 2
    match: {tags: {any: ["glob:*"]}}
    rank: {by: [semver, tagged], over: matched, count: tags}
default: delete
"""


def main(registry: str, file: str) -> None:
    with connect(f"sqlite:///{file}") as inventory:
        inventory.crawl(registry)
        # Whoever has known the registry for a day, and gets its notifications, waives nothing.
        plan_id = inventory.create_plan(policies={"newest.yaml": POLICY}, waive=["min-age", "repository-share"])
        plan = inventory.plan(plan_id)
        print(f"plan {plan_id} removes {plan.summary.tag_count} tags and {plan.summary.manifest_count} manifests:")
        for step in inventory.plan_steps(plan_id):
            print(f"  {step.repository}: {', '.join(step.tags) or step.digest}")
        inventory.approve_plan(plan_id, fingerprint=plan.summary.fingerprint)
        report = inventory.apply_plan(plan_id, waive=["no-live-events"])
        print(f"it is {report.state}: {dict(report.results)}")
        undone = inventory.undo_plan(plan_id)
        print(f"it is {undone.state}: {undone.tag_count} tags are back")


if __name__ == "__main__":
    main(*sys.argv[1:])
