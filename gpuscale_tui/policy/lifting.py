"""What would lift a verdict on an offer: the smallest change, in words that name the setting and the figure."""

from __future__ import annotations

from math import floor

from gpuscale_tui.model.offers import Offer
from gpuscale_tui.policy.matching import BANNED, pcie_gb_per_sec
from gpuscale_tui.policy.wording import usd_at_least


def lift(offer: Offer, verdict: str) -> str:
    """What would make the engine rent an offer in spite of a verdict of `matching`; empty where nothing would."""
    if "banned" in verdict or verdict.startswith(BANNED):
        return "lift the ban (`gpuscale hosts` lists who is banned)"
    if "paused" in verdict or "taken away too often" in verdict:
        return "wait: it is tried again by itself after its pause"
    if verdict == "another GPU":
        return f"a job that asks for {offer.gpu_type or 'no GPU'}"
    if verdict.endswith("(order_type)"):
        return '[providers.clore] order_type = "auto"'
    if verdict.startswith(("not from", "not ")):
        return "a job that leaves the provider and the way of renting open"
    return next((words for begins, words in _settings(offer) if verdict.startswith(begins)), "")


def _settings(offer: Offer) -> list[tuple[str, str]]:
    """The beginnings of verdicts that settings make, and the value of the setting that this offer would pass."""
    reliability = floor((offer.reliability or 0) * 1000) / 1000
    pcie = pcie_gb_per_sec(offer.pcie_gen, offer.pcie_width) or 0
    threads = (offer.cpu_threads or 0) / max(1, offer.gpu_count)
    price = usd_at_least(offer.rate_per_gpu)
    return [
        ("over the price limit", f"max_price_per_gpu, or the jobs' --max-price, of {price}"),
        ("reliability below", f"[providers.clore] min_reliability {reliability:g}"),
        ("rated below", f"[providers.clore] min_rating {floor((offer.rating or 0) * 10) / 10:g}"),
        ("in an excluded country", f"[providers.clore] countries that allow {offer.country}"),
        ("on offer for less than the job", "a shorter max_runtime of the job"),
        ("on offer for less", f"[providers.clore] min_rental_hours {floor(offer.max_hours or 0):g}"),
        ("less than", _amounts(offer)),
        ("fewer than", f"[providers.clore] min_threads_per_gpu {threads:g}"),
        ("downloads at", f"[providers.clore] min_net_down_mbps {floor(offer.net_down_mbps or 0):g}"),
        ("PCIe slower", f"[providers.clore] min_pcie_gb_per_sec {floor(pcie * 100) / 100:g}"),
        ("CUDA older than the image", f"an image for CUDA {offer.cuda_version}"),
        ("CUDA older", f'[providers.clore] min_cuda "{offer.cuda_version}"'),
    ]


def _amounts(offer: Offer) -> str:
    """Memory or disk: whichever is little."""
    return f"[providers.clore] min_ram_gb {floor(offer.ram_gb or 0):g} and min_disk_gb {floor(offer.disk_gb or 0):g}"
