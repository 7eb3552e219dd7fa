"""GPU names: one canonical spelling, exact matching (Clore API reference, section 10 item 7)."""

from __future__ import annotations

import re

KNOWN_GPUS = (
    "RTX 5090", "RTX 5080", "RTX 5070 Ti", "RTX 5070", "RTX 5060 Ti", "RTX 5060",
    "RTX 4090", "RTX 4080 SUPER", "RTX 4080", "RTX 4070 Ti SUPER", "RTX 4070 Ti", "RTX 4070 SUPER", "RTX 4070",
    "RTX 4060 Ti", "RTX 4060", "RTX 3090 Ti", "RTX 3090", "RTX 3080 Ti", "RTX 3080", "RTX 3070 Ti", "RTX 3070",
    "RTX 3060 Ti", "RTX 3060", "RTX 2080 Ti", "RTX A6000", "RTX A5000", "RTX A4000", "RTX 6000 Ada Generation",
    "GTX 1080 Ti", "GTX 1660 SUPER", "A100", "A40", "A10", "L40S", "L40", "L4", "H100", "H200", "B200", "T4", "V100",
)  # fmt: skip
"""Names worth suggesting; any other name is allowed too, markets know more than we do."""

_COUNT = re.compile(r"^\s*([0-9]{1,3})\s*x\s+", re.IGNORECASE)
_VENDOR = re.compile(r"\b(nvidia|geforce|tesla|amd|radeon)\b", re.IGNORECASE)
_SERIES = re.compile(r"\b(RTX|GTX)[\s_-]*(?=[A0-9])", re.IGNORECASE)
_BARE_NUMBER = re.compile(r"^\s*(?=(?:(10|16)|20|30|40|50)[5-9]0(?![0-9]))")
_SUFFIX = re.compile(r"(?<=\d)(ti)?(super)?(?=\s|$)", re.IGNORECASE)
_ADA = re.compile(r"\bada$", re.IGNORECASE)
_DATACENTER = re.compile(r"^(A100|A40|A10|H100|H200|B200|L40S|L40|L4|V100|T4)\b", re.IGNORECASE)
_PART_OF_A_CARD = re.compile(r"\b(laptop|mig|vgpu|grid)\b|-\d+[ABCQ]\b", re.IGNORECASE)
_SPELLINGS = {
    "ti": "Ti", "super": "SUPER", "laptop": "Laptop", "gpu": "GPU", "ada": "Ada", "generation": "Generation",
}  # fmt: skip


def canonical_gpu(name: str) -> str:
    """`"1x NVIDIA GeForce RTX 4090"`, `" RTX 4090"`, `"rtx4090"` and `"4090"` are all `"RTX 4090"`.

    A laptop part, a Ti or a SUPER stays what it is. Memory and bus of a data-centre part are dropped:
    `"NVIDIA H100 80GB HBM3"` is `"H100"`; a slice of one (`"H100 80GB HBM3 MIG 1g.10gb"`) is not.
    """
    text = _VENDOR.sub(" ", _COUNT.sub("", name))
    text = _BARE_NUMBER.sub(lambda match: "GTX " if match[1] else "RTX ", text)
    text = _SERIES.sub(lambda match: match[1].upper() + " ", text)
    text = _SUFFIX.sub(lambda match: "".join(f" {part}" for part in match.groups() if part), text)
    joined = " ".join(_SPELLINGS.get(word.casefold(), word) for word in text.split())
    datacenter = _DATACENTER.match(joined)
    if datacenter and not _PART_OF_A_CARD.search(joined):
        return datacenter[1].upper()
    return _ADA.sub("Ada Generation", joined)


def same_gpu(left: str, right: str) -> bool:
    """Whether two spellings mean exactly the same model."""
    return canonical_gpu(left).casefold() == canonical_gpu(right).casefold()


def leading_count(name: str) -> int | None:
    """2 for `"2x NVIDIA ..."`, None when the name does not begin with a count."""
    match = _COUNT.match(name)
    return int(match[1]) if match else None
