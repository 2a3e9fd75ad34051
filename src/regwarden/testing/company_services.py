"""Which images does the sample company build? A table; ``company`` turns it into a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

_BOTH: Final = ("linux/amd64", "linux/arm64")


@dataclass(frozen=True, slots=True)
class Base:
    """A base image; ``size_bytes`` is what it adds to its ``parent``."""

    name: str
    major: str
    size_bytes: int
    parent: str = ""
    release_count: int = 8


@dataclass(frozen=True, slots=True)
class Service:
    """An application and how its team builds, signs, promotes and forgets its images."""

    name: str
    base: str
    application_bytes: int
    dependencies_bytes: int
    release_count: int = 9
    pace_days: int = 14
    branch_count: int = 2
    pull_request_count: int = 2
    platforms: tuple[str, ...] = ("linux/amd64",)
    is_oci: bool = True
    is_signed: bool = False
    is_promoted: bool = False
    has_sbom: bool = False
    has_cache: bool = False
    has_attestations: bool = False


BASES: Final = (
    Base("base/debian", "12", 49 * MIB),
    Base("base/python", "3.12", 62 * MIB, "base/debian"),
    Base("base/node", "22", 78 * MIB, "base/debian"),
    Base("base/java", "21", 132 * MIB, "base/debian", 6),
    Base("base/cuda", "12.6", 2_900 * MIB, "base/debian", 3),
)

SERVICES: Final = (
    Service("payments/api", "base/java", 46 * MIB, 118 * MIB, 18, 11, 5, 4, _BOTH, is_signed=True, is_promoted=True,
            has_cache=True, has_attestations=True),
    Service("payments/worker", "base/java", 31 * MIB, 104 * MIB, 12, 14, 3, 2, is_signed=True, is_promoted=True),
    Service("payments/ledger", "base/java", 28 * MIB, 97 * MIB, 10, 20, 1, 1),
    Service("shop/web", "base/node", 22 * MIB, 210 * MIB, 21, 8, 11, 6, _BOTH, is_signed=True, is_promoted=True,
            has_cache=True, has_attestations=True),
    Service("shop/search", "base/python", 14 * MIB, 165 * MIB, 15, 12, 7, 3, is_promoted=True, has_cache=True),
    Service("shop/cart", "base/node", 9 * MIB, 140 * MIB, 12, 12, 6, 3, is_promoted=True),
    Service("shop/images", "base/python", 11 * MIB, 240 * MIB, 9, 21, 4, 1, _BOTH, is_oci=False),
    Service("shop/recommendations", "base/python", 19 * MIB, 610 * MIB, 8, 24, 5, 1),
    Service("data/etl", "base/python", 17 * MIB, 420 * MIB, 14, 10, 9, 2, is_oci=False),
    Service("data/warehouse-sync", "base/python", 8 * MIB, 310 * MIB, 9, 18, 3, 0, is_oci=False),
    Service("data/notebooks", "base/python", 35 * MIB, 1_450 * MIB, 6, 40, 8, 0),
    Service("ml/train", "base/cuda", 340 * MIB, 4_800 * MIB, 9, 16, 11, 0, has_cache=True),
    Service("ml/serve", "base/cuda", 1_250 * MIB, 1_900 * MIB, 9, 16, 4, 1),
    Service("platform/ingress", "base/debian", 38 * MIB, 12 * MIB, 10, 20, 0, 1, _BOTH, is_signed=True, has_sbom=True,
            has_attestations=True),
    Service("platform/auth", "base/java", 33 * MIB, 88 * MIB, 10, 17, 2, 1, is_signed=True, is_promoted=True,
            has_sbom=True),
    Service("platform/mailer", "base/python", 6 * MIB, 74 * MIB, 7, 30, 1, 0, has_sbom=True),
    Service("platform/ci-runner", "base/debian", 160 * MIB, 480 * MIB, 12, 9, 3, 2, _BOTH),
    Service("platform/logship", "base/debian", 27 * MIB, 5 * MIB, 6, 45, 0, 0, is_oci=False),
    Service("mobile/push", "base/node", 7 * MIB, 96 * MIB, 8, 25, 4, 1),
    Service("tools/cli", "base/debian", 13 * MIB, 2 * MIB, 9, 28, 1, 0, _BOTH),
    Service("sandbox/hello", "base/debian", 1 * MIB, 1 * MIB, 2, 300, 6, 0),
)  # fmt: skip
