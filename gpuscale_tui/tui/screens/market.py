"""Screen 6: what could be rented, as the engine last read and ranked it, and why it would not rent the rest."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget

from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.tui.format import clean, plural, span, usd
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.market_read import MarketPage, OfferLine, Waiting, read_market
from gpuscale_tui.tui.messages import RowPointed
from gpuscale_tui.tui.offer_cells import OFFER_COLUMNS, OFFER_FIELDS, OFFER_SORTS, offer_value
from gpuscale_tui.tui.offer_handlers import OfferHandlers
from gpuscale_tui.tui.reader import Wish
from gpuscale_tui.tui.screens.base import bindings_for
from gpuscale_tui.tui.screens.listing import ListScreen
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.why import Why

EMPTY = (
    (),
    (("No market has been read yet.", "strong"),),
    (),
    (("The engine reads it when jobs wait for a machine.", "muted"),),
)
STALE_MS = 600_000
"""A reading that is older says little: prices move and machines are taken."""
NO_PAGE = MarketPage(())


class MarketScreen(ListScreen[MarketPage, OfferLine], OfferHandlers):
    """The newest reading of every provider's market in the order in which the engine would rent."""

    NAME = "market"
    TAB = "market"
    BINDINGS = bindings_for("market")
    COLUMNS = OFFER_COLUMNS
    FIELDS = OFFER_FIELDS
    SORTS = OFFER_SORTS
    EMPTY = EMPTY
    NOUN = ("offer", "offers")

    def __init__(self) -> None:
        super().__init__()
        self.why = Why()
        self._page = NO_PAGE
        self._told: int | None = None

    def body(self) -> Iterable[Widget]:
        """Title, table and why."""
        return (self.heading, self.table, self.why)

    def wish(self) -> Wish:
        """All offers: a reading has some hundreds."""
        return Wish(self, None, read_market)

    def feed(self, content: MarketPage, output: object, now: int) -> None:  # noqa: ARG002 - reads no output
        """Show those that the filter lets through."""
        self._page = content
        rows = self.sift(content.lines, now)
        self.put(len(rows), 0, rows, now)
        self._tell_why()
        self._tell_answer(now)

    def changed(self) -> None:
        """Another filter or order: all rows are here."""
        self.feed(self._page, None, self.gpuscale.now())

    def value(self, row: OfferLine, name: str, now: int) -> object:  # noqa: ARG002 - no field is an age
        """See `ListScreen.value`."""
        return offer_value(row, name)

    def title_line(self) -> tuple[Line, Line]:
        """How many would be rented and the cheapest; how old the reading is."""
        lines, read_at = self._page.lines, self._page.read_at
        good = [line.offer for line in lines if not line.offer.verdict]
        cheapest = f", cheapest {usd(min(offer.rate for offer in good))}/h" if good else ""
        left: Line = [
            ("market ", "title"),
            (f"{len(good)} of {plural(len(lines), 'offer')} would be rented{cheapest}", "text"),
            *([("  match ", "muted"), (clean(self.wanted.text.strip()), "accent")] if self.wanted else []),
            *self.mark_words(),
        ]
        return left, [*self.order_words(), *_age(read_at, self.gpuscale.now(), self.gpuscale.look.glyphs.warn)]

    def ticked(self, now: int) -> None:
        """The reading grows older."""
        super().ticked(now)
        self.tell_title()

    def on_row_pointed(self, event: RowPointed) -> None:
        """Another offer, another reason."""
        super().on_row_pointed(event)
        self._tell_why()

    def _tell_why(self) -> None:
        row = self.table.pointed
        if row is None:
            self.why.tell(("", "text"), "")
            return
        offer = row.offer
        words = [offer.verdict or offer.reason or "would be rented", row.standing.words]
        sentence = "; ".join(words)
        ascii_only = self.gpuscale.look.glyphs.ascii
        label = clean(offer.server_id, ascii_only=ascii_only)[:12]
        self.why.tell((label, "title"), clean(sentence, ascii_only=ascii_only))

    def _tell_answer(self, now: int) -> None:
        """What came of a machine that was asked for by hand, said once."""
        answer = self._page.answer
        if answer is None or answer.done_at is None or answer.done_at == self._told or now - answer.done_at > STALE_MS:
            return
        self._told = answer.done_at
        refused = answer.result != "done"
        text = f"Not rented: {answer.result}" if refused else "It is on order: 2 shows the machines"
        self.notify(clean(text), severity="warning" if refused else "information", timeout=8, markup=False)

    @property
    def offer(self) -> OfferRow | None:
        """The offer under the cursor."""
        row = self.table.pointed
        return None if row is None else row.offer

    @property
    def wanting(self) -> tuple[Waiting, ...]:
        """The jobs for which it would be rented."""
        row = self.table.pointed
        return () if row is None or row.wanted is None else (row.wanted,)

    def do_open(self) -> None:
        """The offer's page."""
        row = self.table.pointed
        if row is not None:
            self.gpuscale.show_offer(row.id)

    def subject(self) -> Subject:
        """The offer under the cursor."""
        return Subject(engine=self.gpuscale.snapshot.engine.kind, offer=self.offer)


def _age(read_at: int | None, now: int, sign: str) -> Line:
    """How old the reading is, and that it is too old."""
    if read_at is None:
        return [("not read yet", "muted")]
    age = now - read_at
    if age > STALE_MS:
        return [(f"  {sign} stale: read {span(age)} ago", "warn")]
    return [(f"  read {span(age)} ago", "muted")]
