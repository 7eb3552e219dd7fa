"""GPU names: exact models whatever the spelling (Clore API reference, section 10 item 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuscale_tui.model.gpus import KNOWN_GPUS, canonical_gpu, leading_count, same_gpu

SPELLINGS = {
    "RTX 4090": ["1x NVIDIA GeForce RTX 4090", " RTX 4090", "rtx4090", "RTX-4090", "rtx_4090", "4090"],
    "RTX 4070 Ti SUPER": ["2x NVIDIA GeForce RTX 4070 Ti SUPER", "rtx 4070 ti super", "RTX4070Ti Super", "4070TiSuper"],
    "RTX 4070 SUPER": ["NVIDIA GeForce RTX 4070 SUPER", "rtx4070super"],
    "RTX 4070 Ti": ["rtx 4070ti", " RTX 4070 Ti", "4070 ti"],
    "RTX 5090 Laptop GPU": ["1x NVIDIA GeForce RTX 5090 Laptop GPU", "rtx 5090 laptop gpu"],
    "RTX 4090 D": ["NVIDIA GeForce RTX 4090 D", "rtx 4090 d"],
    "GTX 1080 Ti": ["1x NVIDIA GeForce GTX 1080 Ti", "gtx1080ti", "1080 Ti"],
    "RTX A6000": ["NVIDIA RTX A6000", "rtx a6000", "RTXA6000"],
    "RTX 6000 Ada Generation": ["NVIDIA RTX 6000 Ada Generation", "rtx 6000 ada", "RTX 6000 Ada generation"],
    "H100": ["8x NVIDIA H100 80GB HBM3", "h100", " H100 PCIe", "NVIDIA H100 NVL"],
    "A100": ["NVIDIA A100-SXM4-80GB", "A100 PCIE 40GB", "Tesla A100"],
    "A10": ["NVIDIA A10"],
    "L40S": ["NVIDIA L40S", "l40s"],
    "V100": ["Tesla V100-SXM2-16GB"],
    "Mixed GPUs": ["6x Mixed GPUs"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "canonical"), [(name, canonical) for canonical, names in SPELLINGS.items() for name in names]
)
def test_each_spelling_has_its_model(name: str, canonical: str) -> None:
    assert canonical_gpu(name).casefold() == canonical.casefold()
    assert same_gpu(name, canonical)


def test_known_names_are_canonical_and_all_different() -> None:
    assert [canonical_gpu(name) for name in KNOWN_GPUS] == list(KNOWN_GPUS)
    assert len({canonical_gpu(name).casefold() for name in KNOWN_GPUS}) == len(KNOWN_GPUS)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("RTX 4070", "RTX 4070 Ti"),
        ("RTX 4070 Ti", "RTX 4070 Ti SUPER"),
        ("RTX 4070", "RTX 4070 SUPER"),
        ("RTX 4090", "RTX 4090 D"),
        ("RTX 4090", "RTX 4090 Laptop GPU"),
        ("H100", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
        ("A100", "NVIDIA A100-SXM4-40GB MIG 3g.20gb"),
        ("A10", "NVIDIA A10-8Q"),
        ("A10", "A10G"),
        ("A10", "A100"),
        ("L4", "L40"),
        ("L40", "L40S"),
        ("H100", "H200"),
        ("T4", "T400"),
        ("RTX 3090", "Mixed GPUs"),
        ("RTX A4000", "RTX 4000"),
    ],
)
def test_near_names_are_different_models(left: str, right: str) -> None:
    assert not same_gpu(left, right)


@given(
    st.sampled_from(KNOWN_GPUS),
    st.sampled_from(["", "NVIDIA ", "nvidia geforce ", " "]),
    st.integers(0, 16),
    st.sampled_from([str.upper, str.lower, str.title, str]),
)
def test_decoration_and_case_change_nothing(model: str, maker: str, count: int, case: type[str]) -> None:
    name = f"{count}x {maker}{case(model)}" if count else f"{maker}{case(model)}"
    assert same_gpu(name, model)
    assert leading_count(name) == (count or None)


@given(st.text(max_size=60))
def test_any_text_is_the_same_gpu_as_itself_and_has_no_outer_spaces(text: str) -> None:
    assert same_gpu(text, f" {text} ")
    assert canonical_gpu(text) == canonical_gpu(text).strip()


@pytest.mark.parametrize(
    ("name", "count"),
    [("2x RTX 4090", 2), (" 16 X H100", 16), ("RTX 4090", None), ("x 2", None), ("9" * 5000 + "x A", None)],
)
def test_the_leading_count(name: str, count: int | None) -> None:
    assert leading_count(name) == count
