"""Where snapshots lie in object storage, as the settings write it."""

from __future__ import annotations

import re
from dataclasses import dataclass

FORM = "s3://BUCKET or s3://BUCKET/PREFIX"
CHARACTERS = "a prefix has letters, digits and ! _ . * ( ) = @ + - between single slashes"
EXTRA_MISSING = "the library that speaks to object storage is not installed: pip install 'gpuscale-tui[s3]'"
LIBRARY = "boto3"
MIB = 1 << 20

# Bucket names as Amazon's rules have them (Amazon S3 User Guide, "General purpose bucket naming rules"); prefixes of
# the characters that the same guide calls safe, for what else may stand there differs from service to service.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*()=@+-]+(/[A-Za-z0-9!_.*()=@+-]+)*")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+(/[A-Za-z0-9._/-]*)?")


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket and what the names of all our objects in it begin with: no slash at either end, may be empty."""

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def key(self, name: str) -> str:
        """The name of an object below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name


@dataclass(frozen=True, slots=True)
class PartSizes:
    """From how many bytes on a file goes in parts, and of how many (whole MiB) each is at least."""

    parts_from: int = 64 * MIB
    part: int = 32 * MIB

    def part_of(self, size: int) -> int:
        """How large the parts of a file are: a service takes ten thousand at most (Amazon S3 User Guide, limits)."""
        return max(self.part, -(-size // 9_000 // MIB) * MIB)


def parse_s3(text: str) -> S3Place:
    """`s3://bucket/prefix` taken apart. Raises ValueError that says which part is wrong."""
    scheme, mark, rest = text.partition("://")
    if scheme != "s3" or not mark:
        raise ValueError(f"it does not have the form {FORM}")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.rstrip("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError("a bucket's name has 3 to 63 small letters, digits, dots and hyphens")
    if prefix and (not _PREFIX.fullmatch(prefix) or len(prefix) > 500 or {".", ".."} & set(prefix.split("/"))):
        raise ValueError(CHARACTERS)
    return S3Place(bucket, prefix)


def sound_place(text: str) -> bool:
    """Whether `parse_s3` takes it."""
    try:
        parse_s3(text)
    except ValueError:
        return False
    return True


def sound_endpoint(text: str) -> bool:
    """Whether it is the address of a service: http or https, a host, perhaps a port and a path; no user, no query."""
    return _ADDRESS.fullmatch(text) is not None
