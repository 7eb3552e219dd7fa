"""CUDA versions: read from a driver's word or an image's name, compared as pairs of numbers."""

from __future__ import annotations

import re
from functools import lru_cache

Cuda = tuple[int, int]
"""Major and minor version."""

_VERSION = re.compile(r"\s*v?([0-9]{1,2})(?:\.([0-9]{1,2}))?(?:\.[0-9]+)*\s*", re.ASCII)
_IN_IMAGE = re.compile(r"(?<![a-z])(?:nvidia/)?cuda[-_:]?([0-9]{1,2})(?:[.-]([0-9]{1,2}))?(?![0-9])", re.ASCII)
_SHORT = re.compile(r"(?<![a-z0-9])cu([0-9]{2})([0-9])(?![0-9])", re.ASCII)
OLDEST, NEWEST = 8, 30
"""Majors that may be meant; another number after `cuda` is something else."""


@lru_cache(maxsize=1024)
def parse_cuda(text: str | None) -> Cuda | None:
    """(12, 4) for `"12.4"` and `"12.4.1"`, (12, 0) for `"12"`; None for what is no version."""
    match = _VERSION.fullmatch(text) if text else None
    return None if match is None else (int(match[1]), int(match[2] or 0))


@lru_cache(maxsize=4096)
def image_cuda(image: str) -> Cuda | None:
    """The CUDA that an image is made for, where its name says so: `...cuda12.4-cudnn9`, `nvidia/cuda:12.4.1`, `cu121`.

    A container whose CUDA is newer than the driver's does not start or does not compute.
    """
    name = image.casefold()
    match = _IN_IMAGE.search(name) or _SHORT.search(name)
    if match is None or not OLDEST <= int(match[1]) <= NEWEST:
        return None
    return int(match[1]), int(match[2] or 0)


def cuda_text(version: Cuda) -> str:
    """`12.4`."""
    return f"{version[0]}.{version[1]}"
