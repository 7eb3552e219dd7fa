"""An offer's page: the verdict and what would lift it, the price and how it compares, the machine and its host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.widget import Widget

from gpuscale_tui.model.hosts import HostHistory, in_words
from gpuscale_tui.model.offers import Offer
from gpuscale_tui.policy.lifting import lift
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.prices import Hour
from gpuscale_tui.store.views import Spend
from gpuscale_tui.tui.format import clean, gpus, plural, rate, span, usd
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.market_read import OfferStory, Waiting, read_offer
from gpuscale_tui.tui.offer_handlers import OfferHandlers, price_words, waiting_words
from gpuscale_tui.tui.page import Page
from gpuscale_tui.tui.reader import Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.screens.market import STALE_MS
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.page_view import PageView
from gpuscale_tui.tui.widgets.plot import Series, plot_lines
from gpuscale_tui.tui.widgets.title import Title

PLOT_ROWS = 9


class OfferScreen(BaseScreen["OfferStory | None"], OfferHandlers):
    """Everything that is known of one offer."""

    NAME = "offer"
    TAB = "market"
    BINDINGS = bindings_for("offer")

    def __init__(self, key: tuple[str, str, str]) -> None:
        super().__init__()
        self._key = key
        self._story: OfferStory | None = None
        self._gone = False
        self.heading = Title()
        self.page = PageView(id="story")

    def body(self) -> Iterable[Widget]:
        """Title and page."""
        return (self.heading, self.page)

    def on_mount(self) -> None:
        """The page has the keys."""
        self.set_focus(self.page)

    def wish(self) -> Wish:
        """The offer."""
        key = self._key
        return Wish(self, key, lambda connection, moment: read_offer(connection, moment, key))

    def feed(self, content: OfferStory | None, output: object, now: int) -> None:  # noqa: ARG002 - reads no output
        """Show what was read; an offer that is gone stays as it was, and says so."""
        self._gone = content is None
        self._story = content or self._story
        self._tell(now)
        story, status = self._story, self.gpuscale.snapshot.status
        look, spend = self.gpuscale.look, None if status is None else status.spend
        if story is None:
            self.page.write(lambda _width: GONE, now)
            return
        self.page.write(lambda width: write_offer(story, Page(look, self.gpuscale.now(), width), spend), now)

    def _tell(self, now: int) -> None:
        story, look = self._story, self.gpuscale.look
        if story is None:
            self.heading.tell([("offer", "title")], [("no longer on offer", "warn")])
            return
        row = story.row
        age = f"read {span(now - row.read_at)} ago"
        stale = self._gone or now - row.read_at > STALE_MS
        right = f"{look.glyphs.warn} no longer on offer" if self._gone else f"{look.glyphs.warn} stale: {age}"
        machine = clean(f"{gpus(row.gpu_type, row.gpu_count)} at {row.provider}", ascii_only=look.glyphs.ascii)
        self.heading.tell(
            [(clean(f"server {row.server_id}"), "title"), (f"  {machine}", "strong"), (f"  {rate(row.rate)}", "text")],
            [(right, "warn")] if stale else [(age, "muted")],
        )

    def ticked(self, now: int) -> None:
        """The reading grows older."""
        super().ticked(now)
        self._tell(now)

    @property
    def offer(self) -> OfferRow | None:
        """This offer, as long as it is one."""
        return None if self._story is None or self._gone else self._story.row

    @property
    def wanting(self) -> tuple[Waiting, ...]:
        """The jobs that it would serve."""
        return () if self._story is None else self._story.serves

    def subject(self) -> Subject:
        """This offer."""
        return Subject(engine=self.gpuscale.snapshot.engine.kind, offer=self.offer)


GONE: Sequence[Line] = ((), ((" It is no longer on offer: somebody else has it, or its host is away.", "text"),))


def write_offer(story: OfferStory, page: Page, spend: Spend | None) -> list[Line]:
    """The page: first what decides, then the price over time, then the machine and its host."""
    lines = [*_verdict(story, page), *_money(story, page, spend), *_prices(story, page)]
    lines += [page.rule("the machine"), *page.facts(hardware(story.row, story.offer))]
    lines += [page.rule("its host, with us"), *_host(story.host, page)]
    if story.row.owner is not None:
        lines += [page.rule(f"its owner {page.foreign(story.row.owner)}"), *_owner(story.owners, page)]
    return lines


def _verdict(story: OfferStory, page: Page) -> list[Line]:
    row = story.row
    if row.verdict:
        lines = page.fact("verdict", f"{page.look.glyphs.states['cancelled']} not rented: {row.verdict}", "warn")
        change = "" if story.offer is None else lift(story.offer, row.verdict)
        if change:
            lines += page.fact("lifted by", change, "strong")
    else:
        rank = f"number {row.rank}" if row.rank is not None else "would be rented"
        good = "; not now: " not in row.reason
        words = (
            f"{page.look.glyphs.states['done'] if good else page.look.glyphs.warn} {rank} of what fits: {row.reason}"
        )
        lines = page.fact("verdict", words, "good" if good else "warn")
    lines += page.fact("would serve", waiting_words(story.serves))
    if story.answer is not None:
        said = story.answer.result or "asked for; the engine has not answered yet"
        lines += page.fact("asked for", "on order: 2 shows the machines" if said == "done" else said, "accent")
    return lines


def _money(story: OfferStory, page: Page, spend: Spend | None) -> list[Line]:
    row = story.row
    terms = None if story.offer is None else story.offer.terms
    words = [price_words(row)]
    if row.expected is not None:
        words.append(f"an hour of useful work {usd(row.expected)}")
    if terms is not None and terms.creation_fee:
        words.append(f"{usd(terms.creation_fee)} for the order")
    if terms is not None and terms.minimum_ms > 60_000:
        words.append(f"at least {span(terms.minimum_ms)} charged")
    lines = [page.rule("its price"), *page.fact("price", "; ".join(words) + "; fees included", "strong")]
    lines += page.fact("compared", story.standing.words)
    if spend is not None:
        left = spend.cap - spend.used - spend.reserved
        after = left - row.rate
        told = f"{rate(after)} of {rate(spend.cap)} left with it" if after >= 0 else f"lacks {rate(-after)} for it"
        lines += page.fact("the cap", f"{told} ({rate(max(0, left))} left now)", "text" if after >= 0 else "warn")
    return lines


def _prices(story: OfferStory, page: Page) -> list[Line]:
    """The lowest and the median price of such machines over the last days, and this one as a line."""
    if len(story.past) < 2:
        return [[(" too little history for a plot: prices are kept by the hour", "muted")]]
    first, last, price = story.past[0].hour, story.past[-1].hour, story.row.rate / 1e6
    series = [
        _series("median", story.past, "median"),
        _series("lowest", story.past, "low"),
        Series("this one", ((float(first), price), (float(last), price))),
    ]
    return plot_lines(series, page.width, PLOT_ROWS, page.look, time=True, words=price_word)


def _series(name: str, past: Sequence[Hour], field: str) -> Series:
    return Series(name, tuple((float(hour.hour), getattr(hour, field) / 1e6) for hour in past))


def price_word(value: float) -> str:
    """`$0.38`."""
    return f"${value:.2f}"


def hardware(row: OfferRow, offer: Offer | None) -> list[tuple[str, str]]:
    """What its provider says of the machine; what it does not say is left out."""
    found = [
        ("GPU", gpus(row.gpu_type, row.gpu_count)),
        ("rented", row.market),
        ("provider", row.provider),
        ("country", row.country or ""),
        ("reliability", "" if row.reliability is None else f"{row.reliability * 100:.1f} %"),
    ]
    if offer is None:
        return found
    slot = " ".join(word for word in (
        f"{offer.pcie_gen}.0" if offer.pcie_gen else "", f"x{offer.pcie_width}" if offer.pcie_width else "",
    ) if word)  # fmt: skip
    return [
        *found,
        ("GPU memory", "" if offer.gpu_memory_gb is None else f"{offer.gpu_memory_gb:g} GB each"),
        ("CPU", "" if offer.cpu_threads is None else f"{offer.cpu_threads} threads"),
        ("memory", "" if offer.ram_gb is None else f"{offer.ram_gb:g} GB"),
        ("disk", "" if offer.disk_gb is None else f"{offer.disk_gb:g} GB"),
        ("download", "" if offer.net_down_mbps is None else f"{offer.net_down_mbps:g} Mbit/s"),
        ("CUDA", offer.cuda_version or ""),
        ("PCIe", slot),
        ("rating", "" if offer.rating is None else f"{offer.rating:.1f} of 5"),
        ("on offer for", "" if offer.max_hours is None else f"{offer.max_hours:g} h"),
    ]


def _host(known: HostHistory | None, page: Page) -> list[Line]:
    if known is None:
        return [[(" never rented by us", "muted")]]
    return [line for words in in_words(known) for line in page.fact("", words)]


def _owner(known: Sequence[HostHistory], page: Page) -> list[Line]:
    """What the owner's other hosts did for us, in one line."""
    if not known:
        return [[(" no other host of this owner was rented by us", "muted")]]
    rentals, faults = sum(each.rentals for each in known), sum(each.faults for each in known)
    words = f"{plural(len(known), 'other host')}, {plural(rentals, 'rental')}, {plural(faults, 'fault')}"
    return page.fact("", words, "warn" if faults else "text")
