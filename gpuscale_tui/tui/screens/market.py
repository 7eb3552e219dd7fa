"""Screen 6: what could be rented, as the engine last read it, and why it would not rent the rest."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget

from gpuscale_tui.store import market
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.tui.format import clean, plural, span, usd
from gpuscale_tui.tui.reader import Wish
from gpuscale_tui.tui.record_cells import OFFER_COLUMNS, OfferLine
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.subjects import Subject
from gpuscale_tui.tui.widgets.rows_table import RowsTable
from gpuscale_tui.tui.widgets.title import Title

EMPTY = (
    (),
    (("No market has been read yet.", "strong"),),
    (),
    (("The engine reads it when jobs wait for a machine.", "muted"),),
)


class MarketScreen(BaseScreen[tuple[OfferRow, ...]]):
    """The newest reading of every provider's market, cheapest per GPU first."""

    NAME = "market"
    TAB = "market"
    LINE = "filter: a text such as 4090; Enter keeps it, Esc clears it"
    BINDINGS = bindings_for("market")

    def __init__(self) -> None:
        super().__init__()
        self.heading = Title()
        self.table: RowsTable[OfferLine] = RowsTable(OFFER_COLUMNS, id="market", empty=EMPTY)
        self._offers: tuple[OfferRow, ...] = ()

    def body(self) -> Iterable[Widget]:
        """Title and table."""
        return (self.heading, self.table)

    def on_mount(self) -> None:
        """The table has the keys."""
        self.set_focus(self.table)

    def wish(self) -> Wish:
        """All offers: a reading has some hundreds."""
        return Wish(self, None, lambda connection, _moment: tuple(market.offers(connection)))

    def feed(self, content: tuple[OfferRow, ...], output: object, now: int) -> None:  # noqa: ARG002 - reads no output
        """Show those that the filter lets through."""
        self._offers = content
        words = self.typed.casefold().split()
        rows = [OfferLine(offer) for offer in content if all(word in _text(offer) for word in words)]
        self.table.empty = ((), (("No offer matches the filter.", "muted"),)) if words else EMPTY
        self.table.put(len(rows), 0, rows, now)
        self._tell(now)

    def ticked(self, now: int) -> None:
        """The reading grows older."""
        super().ticked(now)
        self._tell(now)

    def _tell(self, now: int) -> None:
        content = self._offers
        good = [offer for offer in content if not offer.verdict]
        cheapest = f", cheapest {usd(min(offer.rate for offer in good))}/h" if good else ""
        age = f"read {span(now - max(offer.read_at for offer in content))} ago" if content else "not read yet"
        self.heading.tell(
            [
                ("market ", "title"),
                (f"{len(good)} of {plural(len(content), 'offer')} would be rented{cheapest}", "text"),
            ],
            [(age, "muted")],
        )

    async def do_list_filter(self) -> None:
        """Type a filter."""
        await self.open_line()

    def on_input_changed(self, _event: object) -> None:
        """Each letter has its effect at once."""
        self.table.restart()
        self.feed(self._offers, None, self.gpuscale.now())

    def do_back(self) -> None:
        """Leave the filter."""
        self.close_line()

    async def do_open(self) -> None:
        """A job that wants this GPU: the form."""
        row = self.table.pointed
        if row is not None:
            await self.gpuscale.new_job_on(row.offer)

    def subject(self) -> Subject:
        """The offer under the cursor."""
        row = self.table.pointed
        engine = self.gpuscale.snapshot.engine.kind
        return Subject(engine=engine, offer=None if row is None else row.offer)

    def do_host_ban(self) -> None:
        """Rent from this host no more, or again, after asking."""
        row = self.table.pointed
        if row is not None and row.offer.verdict.startswith("banned"):
            self._lift_ban(row.offer)
        elif row is not None:
            offer = row.offer
            text = [
                "Nothing is rented there any more until you lift the ban. A machine that is rented there now stays.",
                "`gpuscale hosts ban` bans for a time, gives a reason, or bans all hosts of an owner.",
            ]
            self._ask_about(offer, f"Ban {_named(offer)}?", text, "yes, ban it", "no, leave it", banned=True)

    def _lift_ban(self, offer: OfferRow) -> None:
        text = ["It may be rented again as soon as the engine next looks at the market."]
        self._ask_about(offer, f"Lift the ban of {_named(offer)}?", text, "yes, lift it", "no, keep it", banned=False)

    def _ask_about(self, offer: OfferRow, title: str, text: list[str], yes: str, no: str, *, banned: bool) -> None:
        from gpuscale_tui.tui.widgets.confirm import confirm

        question = confirm(title, text, yes, no)
        app = self.gpuscale
        app.push_screen(question, lambda sure: app.spawn(self._set_ban(offer, banned)) if sure else None)

    async def _set_ban(self, offer: OfferRow, banned: bool) -> None:
        from gpuscale_tui.engine import commands

        app = self.gpuscale
        change = commands.ban if banned else commands.unban
        if await app.command(change, "host", offer.server_id, provider=offer.provider, user=app.user, now=app.now()):
            app.notify(f"{_named(offer)} {'is banned' if banned else 'may be rented again'}", timeout=3)

    def do_copy(self) -> None:
        """The server's id."""
        row = self.table.pointed
        if row is not None:
            self.gpuscale.copy(row.offer.server_id)


def _named(offer: OfferRow) -> str:
    return clean(f"server {offer.server_id} of {offer.provider}")


def _text(offer: OfferRow) -> str:
    parts = (offer.gpu_type, offer.provider, offer.server_id, offer.country, offer.market, offer.verdict)
    return " ".join(part for part in parts if part).casefold()
