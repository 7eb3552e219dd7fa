"""Which machines the market offers: about forty, the same ones for the same seed, with traps among them.

A trap is a row that a careless client rents by mistake or stumbles over: a laptop chip, a near namesake, a machine
that does not take dollars, a row with fields missing. `Server.note` says what each one is, for the reader of the
control surface; the market itself never tells.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from gpuscale_tui.sandbox.billing import micro

COINS = ("bitcoin", "CLORE-Blockchain", "USD-Blockchain")
RATES = {"bitcoin": 64_100.0, "CLORE-Blockchain": 0.00125, "USD-Blockchain": 1.0}
CENT = 10_000


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU model: its full name in `specs.gpu`, GB per card as the market shows them, dollars per hour and card."""

    name: str
    memory: int
    low: float
    high: float

    @property
    def label(self) -> str:
        """The form in `gpu_array`: without the maker, with a leading space (reference section 3.3)."""
        return " " + self.name.removeprefix("NVIDIA ").removeprefix("GeForce ")


GPUS = {
    "4090": Gpu("NVIDIA GeForce RTX 4090", 23, 0.25, 0.46),
    "4090 D": Gpu("NVIDIA GeForce RTX 4090 D", 23, 0.22, 0.30),
    "4090 Laptop": Gpu("NVIDIA GeForce RTX 4090 Laptop GPU", 15, 0.11, 0.16),
    "3090": Gpu("NVIDIA GeForce RTX 3090", 24, 0.13, 0.24),
    "5090": Gpu("NVIDIA GeForce RTX 5090", 31, 0.45, 0.75),
    "5090 Laptop": Gpu("NVIDIA GeForce RTX 5090 Laptop GPU", 23, 0.20, 0.28),
    "3080": Gpu("NVIDIA GeForce RTX 3080", 9, 0.08, 0.12),
    "4070": Gpu("NVIDIA GeForce RTX 4070", 11, 0.09, 0.12),
    "4070 SUPER": Gpu("NVIDIA GeForce RTX 4070 SUPER", 11, 0.10, 0.13),
    "4070 Ti": Gpu("NVIDIA GeForce RTX 4070 Ti", 11, 0.11, 0.14),
    "4070 Ti SUPER": Gpu("NVIDIA GeForce RTX 4070 Ti SUPER", 15, 0.13, 0.17),
    "4080 SUPER": Gpu("NVIDIA GeForce RTX 4080 SUPER", 15, 0.18, 0.24),
    "5070 Ti": Gpu("NVIDIA GeForce RTX 5070 Ti", 15, 0.16, 0.21),
    "A6000": Gpu("NVIDIA RTX A6000", 47, 0.40, 0.52),
    "L40S": Gpu("NVIDIA L40S", 44, 0.70, 0.90),
    "A100": Gpu("NVIDIA A100-SXM4-80GB", 79, 0.85, 1.25),
    "H100": Gpu("NVIDIA H100 80GB HBM3", 79, 1.70, 2.40),
}

ORDINARY = (  # GPU, cards in the machine, how many such machines
    ("4090", 1, 8), ("4090", 2, 1), ("4090", 4, 1), ("4090", 8, 1), ("3090", 1, 3), ("3090", 4, 1), ("5090", 1, 2),
    ("A100", 1, 2), ("A100", 4, 1), ("H100", 1, 1), ("H100", 8, 1), ("3080", 1, 1), ("A6000", 1, 1), ("L40S", 1, 1),
    ("4070", 1, 1), ("4070 SUPER", 1, 1), ("4070 Ti", 1, 1), ("4070 Ti SUPER", 1, 1), ("4080 SUPER", 1, 1),
    ("5070 Ti", 2, 1),
)  # fmt: skip

HARDWARE = (  # board, processor, cores/threads, disk, country
    ("X570 TAICHI", "AMD Ryzen 9 5950X 16-Core Processor", "16/32", "SAMSUNG 980 241.1GB", "CZ"),
    ("ROMED8-2T", "AMD EPYC 7402P 24-Core Processor", "24/48", "2320 102.4688GB", "DE"),
    ("X99 F8D PLUS", "Intel(R) Xeon(R) CPU E5-2696 v4", "44/88", " 62.9768GB", "US"),
    ("PRO WS WRX80E-SAGE", "AMD Ryzen Threadripper PRO 3955WX", "16/32", "KINGSTON SNV2S1000G 412.7GB", "PL"),
    ("B550M AORUS", "AMD Ryzen 5 5600X 6-Core Processor", "6/12", "WD BLUE SN570 89.25GB", "RO"),
)


@dataclass(slots=True)
class Server:
    """One machine of the market. Prices are micro-dollars a day for the whole machine.

    What changes while the sandbox runs: `price`, `spot_floor`, `taken` (somebody else rents it), `foreign_bid`.
    """

    id: int
    owner: int
    gpu: Gpu
    cards: int
    price: int
    spot_floor: int
    hardware: tuple[str, str, str, str, str]
    ram: float
    net: tuple[float, float]
    mrl_hours: int = 168
    reliability: float = 0.99
    rating: tuple[float, int] = (4.7, 31)
    cuda: str = "12.8"
    coins: tuple[str, ...] = COINS
    gpu_text: str = ""
    labels: list[str] = field(default_factory=list)
    missing: tuple[str, ...] = ()
    coin_factor: float = 1.0
    taken: bool = False
    foreign_bid: int = 0
    offline: bool = False
    refuses_dollars: bool = False
    note: str = ""

    def set_price(self, dollars_a_day: float) -> None:
        """A price of its own, with the spot floor in the usual distance."""
        self.price = micro(dollars_a_day)
        self.spot_floor = to_cent(self.price * 0.6)

    def move_price(self, factor: float) -> None:
        """Multiply both prices, to the cent; a machine that is not offered stays so."""
        self.price = to_cent(self.price * factor)
        self.spot_floor = to_cent(self.spot_floor * factor)


def to_cent(amount: float) -> int:
    """An amount in micro-dollars, rounded to the cent."""
    return round(amount / CENT) * CENT


def _server(rng: random.Random, number: int, gpu: Gpu, cards: int) -> Server:
    per_hour = rng.uniform(gpu.low, gpu.high) * cards * (0.97 if cards > 1 else 1.0)
    price = to_cent(micro(per_hour * 24))
    return Server(
        id=number,
        owner=rng.randrange(1000, 6000),
        gpu=gpu,
        cards=cards,
        price=price,
        spot_floor=to_cent(price * rng.uniform(0.5, 0.7)),
        hardware=HARDWARE[rng.randrange(len(HARDWARE))],
        ram=round(rng.choice((31.3, 62.7, 125.8, 251.6)) * max(1, cards // 2), 4),
        net=(round(rng.uniform(90, 900), 1), round(rng.uniform(200, 950), 1)),
        mrl_hours=rng.choice((72, 168, 336, 720, 1440)),
        reliability=round(rng.uniform(0.965, 0.9995), 4),
        rating=(round(rng.uniform(4.2, 5.0), 2), rng.randrange(3, 120)),
        cuda=rng.choice(("12.4", "12.8", "13.0")),
        gpu_text=f"{cards}x {gpu.name}",
        labels=[gpu.label] * cards,
    )


def _traps(rng: random.Random, numbers: list[int]) -> list[Server]:
    def trap(model: str, note: str, cards: int = 1) -> Server:
        made = _server(rng, numbers.pop(), GPUS[model], cards)
        made.note = note
        return made

    laptop, laptop5090 = trap("4090 Laptop", "laptop chip"), trap("5090 Laptop", "laptop chip")
    near = trap("4090 D", "near namesake of the 4090")
    mixed = trap("3090", "mixed cards: no model at all", cards=6)
    mixed.gpu_text, mixed.labels = "6x Mixed GPUs", [" RTX 3090"] * 3 + [" RTX 3080"] * 2 + [" P104-100"]
    bare = trap("4090", "price.usd, rating and reliability missing")
    bare.missing = ("price.usd", "rating", "reliability")
    unlabelled = trap("4090", "gpu_array and specs.net missing")
    unlabelled.missing = ("gpu_array", "specs.net", "price.spot.USD-Blockchain")
    coins = trap("4090", "has a dollar price, does not take dollars")
    coins.coins = ("bitcoin", "CLORE-Blockchain")
    coins.set_price(3.6)
    free = trap("4090", "zero price: not offered")
    free.set_price(0)
    rented = trap("4090", "already rented, and the cheapest")
    rented.taken = True
    rented.set_price(2.88)
    short = trap("4090", "may be kept for one hour only")
    short.mrl_hours = 1
    short.set_price(3.84)
    flaky = trap("4090", "reliability 0.31")
    flaky.reliability = 0.31
    flaky.set_price(3.36)
    refusing = trap("4090", "dollar price far below its coin prices; answers currency-not-allowed")
    refusing.refuses_dollars, refusing.coin_factor = True, 2.5
    refusing.set_price(3.0)
    gone = trap("4090", "listed but offline")
    gone.offline = True
    held = trap("4090", "held by somebody's spot bid although rented is false")
    held.foreign_bid = to_cent(held.spot_floor * 1.25)
    return [
        laptop, laptop5090, near, mixed, bare, unlabelled, coins, free, rented, short, flaky, refusing, gone, held,
    ]  # fmt: skip


MALFORMED = {"id": "10x", "price": None, "specs": "unavailable", "rented": "no"}
"""One row that fits no schema at all."""


def build_fleet(seed: int) -> list[Server]:
    """All machines of the market, in order of id."""
    rng = random.Random(seed)  # noqa: S311 - a believable market, not a secret
    numbers = rng.sample(range(88_000, 105_000), 80)
    servers = [_server(rng, numbers.pop(), GPUS[gpu], cards) for gpu, cards, many in ORDINARY for _ in range(many)]
    servers += _traps(rng, numbers)
    return sorted(servers, key=lambda server: server.id)
