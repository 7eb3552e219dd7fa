"""Whether a machine is what it was offered as: what a test found against the offer and the settings, in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuscale_tui.model.cuda import cuda_text
from gpuscale_tui.model.gpus import same_gpu
from gpuscale_tui.model.hosts import Examination, Promise, cards_in_words

MEMORY_SHARE = 0.9
"""Least part of the promised memory that a GPU must show: drivers and error correction take some of it."""
_NO_NVIDIA = ("radeon", "instinct", "gaudi", "arc ")
"""Words in the names of GPUs that nvidia-smi does not list."""


@dataclass(frozen=True, slots=True)
class TestLimits:
    """What a machine must prove beside what it was offered as; see the settings of `[machines]`."""

    __test__ = False  # not a test of pytest's

    min_free_disk_gb: float = 0.0
    min_download_mbps: float = 0.0
    max_clock_skew_sec: float = 0.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """`faults` are reasons to give the machine back, `warnings` are worth a word only.

    `impossible` is True when it lacks GPUs that were promised: no job for them can run there.
    """

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    impossible: bool = field(default=False)


def judge(found: Examination, promise: Promise, limits: TestLimits) -> Opinion:
    """What speaks against giving the machine work. What the test could not find out speaks neither way."""
    missing = _missing_cards(found, promise)
    faults = [
        missing or _other_cards(found, promise) or _small_memory(found, promise),
        _old_driver(found, promise),
        _full_disk(found, limits),
        _slow(found, limits),
    ]
    warnings = [_wrong_clock(found, limits), _newer_offered(found, promise)]
    return Opinion(
        tuple(fault for fault in faults if fault), tuple(warning for warning in warnings if warning), bool(missing)
    )


def _missing_cards(found: Examination, promise: Promise) -> str:
    if promise.gpu_type is None or promise.gpu_count == 0:
        return ""
    if found.cards is None and any(word in promise.gpu_type.casefold() for word in _NO_NVIDIA):
        return ""
    there = found.cards or ()
    if len(there) >= promise.gpu_count:
        return ""
    seen = cards_in_words(there) if there else "no GPU (nvidia-smi shows none)"
    return f"has {seen}, offered as {promise.gpu_count}x {promise.gpu_type}"


def _other_cards(found: Examination, promise: Promise) -> str:
    """Another model than the promised one among the cards that a job would be given: any of them."""
    if promise.gpu_type is None or not found.cards:
        return ""
    if all(same_gpu(card.name, promise.gpu_type) for card in found.cards):
        return ""
    return f"has {cards_in_words(found.cards)}, offered as {promise.gpu_count}x {promise.gpu_type}"


def _small_memory(found: Examination, promise: Promise) -> str:
    known = [card.memory_mb for card in found.cards or () if card.memory_mb is not None]
    if promise.gpu_type is None or promise.memory_gb is None or not known:
        return ""
    least = min(known) / 1024
    if least >= promise.memory_gb * MEMORY_SHARE:
        return ""
    return f"a GPU has {least:.1f} GB of memory, offered with {promise.memory_gb:g}"


def _old_driver(found: Examination, promise: Promise) -> str:
    if promise.gpu_type is None or found.cuda is None or promise.image_cuda is None:
        return ""
    if found.cuda >= promise.image_cuda:
        return ""
    return f"its driver serves CUDA {cuda_text(found.cuda)}, the image needs {cuda_text(promise.image_cuda)}"


def _newer_offered(found: Examination, promise: Promise) -> str:
    if promise.gpu_type is None or found.cuda is None or promise.cuda is None or found.cuda >= promise.cuda:
        return ""
    return f"its driver serves CUDA {cuda_text(found.cuda)}, offered with {cuda_text(promise.cuda)}"


def _full_disk(found: Examination, limits: TestLimits) -> str:
    if found.free_disk_gb is None or found.free_disk_gb >= limits.min_free_disk_gb:
        return ""
    return f"{found.free_disk_gb:.1f} GB of disk free, min_free_disk_gb is {limits.min_free_disk_gb:g}"


def _slow(found: Examination, limits: TestLimits) -> str:
    if found.down_mbps is None or found.down_mbps >= limits.min_download_mbps:
        return ""
    return f"{found.down_mbps:.1f} Mbit/s from it to here, min_download_mbps is {limits.min_download_mbps:g}"


def _wrong_clock(found: Examination, limits: TestLimits) -> str:
    """Only told: what a job writes is dated wrongly, and certificates may seem out of date; it trains all the same."""
    if found.skew_ms is None or abs(found.skew_ms) <= limits.max_clock_skew_sec * 1000:
        return ""
    way = "ahead of" if found.skew_ms > 0 else "behind"
    return f"its clock is {abs(found.skew_ms) // 1000} s {way} ours"
