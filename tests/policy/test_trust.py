"""Whether a machine is what it was offered as, by what a test found on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuscale_tui.model.cuda import image_cuda, parse_cuda
from gpuscale_tui.model.hosts import Card, Examination, HostHistory, Promise, examination_in_words, in_words
from gpuscale_tui.policy.trust import TestLimits, judge

CARD = Card("NVIDIA GeForce RTX 4090", 24_564)
FOUND = Examination((CARD,), "550.54.14", (12, 4), 80.0, 95.0, 40.0, 1500)
PROMISE = Promise("RTX 4090", 1, 23.0, (12, 4), (12, 1))
LIMITS = TestLimits(min_free_disk_gb=10, min_download_mbps=2, max_clock_skew_sec=60)


def test_a_machine_as_it_was_offered_passes() -> None:
    opinion = judge(FOUND, PROMISE, LIMITS)
    assert (opinion.faults, opinion.warnings, opinion.impossible) == ((), (), False)


@pytest.mark.parametrize(
    ("found", "promise", "words"),
    [
        ({"cards": (Card("NVIDIA GeForce GTX 1060 6GB", 6_144),)}, {}, "has 1x GTX 1060 6GB, offered as 1x RTX 4090"),
        ({"cards": (CARD, Card("NVIDIA GeForce RTX 4090 Laptop GPU"))}, {}, "offered as 1x RTX 4090"),
        ({"cards": (Card(CARD.name, 16_000),)}, {}, "a GPU has 15.6 GB of memory, offered with 23"),
        ({"cuda": (11, 8)}, {"cuda": None}, "its driver serves CUDA 11.8, the image needs 12.1"),
        ({"free_disk_gb": 9.9}, {}, "9.9 GB of disk free, min_free_disk_gb is 10"),
        ({"down_mbps": 1.5}, {}, "1.5 Mbit/s from it to here, min_download_mbps is 2"),
    ],
)  # fmt: skip
def test_each_fault_is_told_with_both_figures(found: dict[str, object], promise: dict[str, object], words: str) -> None:
    opinion = judge(replace(FOUND, **found), replace(PROMISE, **promise), LIMITS)  # type: ignore[arg-type]
    assert len(opinion.faults) == 1
    assert words in opinion.faults[0]
    assert not opinion.impossible


@pytest.mark.parametrize("cards", [(), None, (CARD,)])
def test_missing_gpus_are_impossible_to_work_with(cards: tuple[Card, ...] | None) -> None:
    opinion = judge(replace(FOUND, cards=cards), replace(PROMISE, gpu_count=2), LIMITS)
    assert opinion.impossible
    assert "offered as 2x RTX 4090" in opinion.faults[0]


@pytest.mark.parametrize(
    ("found", "promise"),
    [
        (Examination(), Promise(None, 0)), (Examination(), replace(PROMISE, gpu_type="Radeon RX 7900 XTX")),
        (Examination(cards=(CARD,)), PROMISE), (replace(FOUND, cards=(CARD,) * 3), PROMISE),
        (replace(FOUND, cards=(Card(CARD.name),)), PROMISE), (FOUND, Promise("4090", 1)),
        (replace(FOUND, cards=(Card("NVIDIA A100-SXM4-80GB"),)), Promise("A100", 1)),
    ],
)  # fmt: skip
def test_what_is_not_known_speaks_neither_way(found: Examination, promise: Promise) -> None:
    assert judge(found, promise, LIMITS).faults == ()


@pytest.mark.parametrize(("skew_ms", "words"), [(61_000, "61 s ahead of"), (-3_600_000, "3600 s behind")])
def test_a_wrong_clock_is_only_told(skew_ms: int, words: str) -> None:
    opinion = judge(replace(FOUND, skew_ms=skew_ms), PROMISE, LIMITS)
    assert opinion.faults == ()
    assert words in opinion.warnings[0]


def test_an_older_driver_than_offered_is_told_where_the_image_does_not_mind() -> None:
    opinion = judge(FOUND, replace(PROMISE, cuda=(12, 8)), LIMITS)
    assert (opinion.faults, opinion.warnings) == ((), ("its driver serves CUDA 12.4, offered with 12.8",))


@pytest.mark.parametrize(
    ("image", "cuda"),
    [
        ("nvidia/cuda:12.4.1-devel-ubuntu22.04", (12, 4)), ("cloreai/ubuntu22.04-cuda12", (12, 0)),
        ("pytorch/pytorch:2.4.0-cuda11.8-cudnn9-runtime", (11, 8)), ("x/y:cu128", (12, 8)),
        ("cloreai/jupyter:ubuntu24.04-v2", None), ("x/barracuda:12", None), ("x/y:cuda99.1", None), ("focus121", None),
    ],
)  # fmt: skip
def test_the_cuda_in_an_images_name(image: str, cuda: tuple[int, int] | None) -> None:
    assert image_cuda(image) == cuda


@pytest.mark.parametrize(
    ("text", "cuda"),
    [("12.4", (12, 4)), ("12", (12, 0)), ("13.0.2", (13, 0)), ("", None), ("n/a", None), ("1e9", None)],
)
def test_a_version_as_hosts_state_it(text: str, cuda: tuple[int, int] | None) -> None:
    assert parse_cuda(text) == cuda


def test_words_for_people() -> None:
    assert examination_in_words(FOUND) == (
        "1x RTX 4090, driver 550.54.14, CUDA 12.4, 80 GB of disk free, 95 Mbit/s down, 40 Mbit/s up"
    )
    known = HostHistory(
        "clore", "1", rentals=3, setups=2, setup_ms=240_000, no_starts=1, evictions=1, held_ms=7_200_000,
        lost_ms=90_000, last_fault="did not come up", down_mbps=95.2, billed=110, quoted=100,
    )  # fmt: skip
    assert in_words(known) == [
        "rented 3 times; held 2.0 h in all; ready after 2 min on average",
        "of these 1 never came up, 1 taken away; 90 s of work lost; the last: did not come up",
        "95 Mbit/s from there over SSH; billed 1.10 of what was quoted",
    ]
