"""What can be done with an offer, on every screen that shows one: rent it, ban its host, a job on its GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.tui.format import clean, gpus, plural, rate, usd
from gpuscale_tui.tui.market_read import Waiting

if TYPE_CHECKING:
    from gpuscale_tui.tui.app import GpuscaleApp


class OfferHandlers:
    """Mixed into a screen that has an `offer`, and knows what waits for it (`wanting`)."""

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application."""
        raise NotImplementedError

    @property
    def offer(self) -> OfferRow | None:
        """The offer that is meant."""
        raise NotImplementedError

    @property
    def wanting(self) -> tuple[Waiting, ...]:
        """The waiting jobs that it would serve."""
        raise NotImplementedError

    def do_offer_rent(self) -> None:
        """Rent just this one, after asking; what the limits do not allow is refused with the figure."""
        from gpuscale_tui.tui.widgets.confirm import confirm

        offer = self.offer
        if offer is None:
            return
        app, banned = self.gpuscale, is_banned(offer)
        yes = "yes, rent it although it is banned" if banned else "yes, rent it"
        question = confirm(f"Rent {named(offer)}?", self._rent_words(offer), yes, "no")
        app.push_screen(question, lambda sure: app.spawn(self._rent(offer, banned)) if sure else None)

    def _rent_words(self, offer: OfferRow) -> list[str]:
        """What it costs, what is left of the cap, for whom, and what speaks against it."""
        app = self.gpuscale
        place = f" in {clean(offer.country)}" if offer.country else ""
        machine = f"{clean(gpus(offer.gpu_type, offer.gpu_count))}, {offer.market}{place}"
        text = [f"{machine}: {rate(offer.rate)}, fees included, until it is given back."]
        status = app.snapshot.status
        if status is not None:
            left = status.spend.cap - status.spend.used - status.spend.reserved
            with_it = left - offer.rate
            after = f"{rate(with_it)} with it" if with_it >= 0 else f"{rate(-with_it)} too little"
            text.append(f"Of the cap of {rate(status.spend.cap)} {rate(max(0, left))} are left now, {after}.")
        if self.wanting:
            text.append(f"It would serve {clean(', '.join(group.words for group in self.wanting[:3]))}.")
        else:
            text.append("No job that waits may use it: it would stand idle until it is given back.")
        if offer.verdict:
            text.append(f"The engine would not rent it by itself: {clean(offer.verdict)}.")
        return text

    async def _rent(self, offer: OfferRow, despite_ban: bool) -> None:
        from gpuscale_tui.engine import commands

        app = self.gpuscale
        done = await app.command(
            commands.rent, offer, app.settings, despite_ban=despite_ban, user=app.user, now=app.now()
        )
        if done is not None:
            app.notify(f"{named(offer)} is asked for", timeout=3, markup=False)

    def do_host_ban(self) -> None:
        """Rent from this host no more, or again, after asking."""
        offer = self.offer
        if offer is None:
            return
        if is_banned(offer):
            text = ["It may be rented again as soon as the engine next looks at the market."]
            self._ask_about(offer, f"Lift the ban of {named(offer)}?", text, ("yes, lift it", "no, keep it"))
        else:
            text = [
                "Nothing is rented there any more until you lift the ban. A machine that is rented there now stays.",
                "`gpuscale hosts ban` bans for a time, gives a reason, or bans all hosts of an owner.",
            ]
            self._ask_about(offer, f"Ban {named(offer)}?", text, ("yes, ban it", "no, leave it"))

    def _ask_about(self, offer: OfferRow, title: str, text: list[str], answers: tuple[str, str]) -> None:
        from gpuscale_tui.tui.widgets.confirm import confirm

        app, banned = self.gpuscale, not is_banned(offer)
        question = confirm(title, text, *answers)
        app.push_screen(question, lambda sure: app.spawn(self._set_ban(offer, banned)) if sure else None)

    async def _set_ban(self, offer: OfferRow, banned: bool) -> None:
        from gpuscale_tui.engine import commands

        app = self.gpuscale
        change = commands.ban if banned else commands.unban
        if await app.command(change, "host", offer.server_id, provider=offer.provider, user=app.user, now=app.now()):
            app.notify(f"{named(offer)} {'is banned' if banned else 'may be rented again'}", timeout=3, markup=False)

    async def do_job_new(self) -> None:
        """A job that wants this GPU at this price; without an offer any job."""
        app = self.gpuscale
        if self.offer is None:
            await app.do_job_new()
        else:
            await app.new_job_on(self.offer)

    def do_copy(self) -> None:
        """The server's id."""
        if self.offer is not None:
            self.gpuscale.copy(self.offer.server_id)


def is_banned(offer: OfferRow) -> bool:
    """Whether its host is banned, or its owner."""
    return offer.verdict.startswith("banned")


def named(offer: OfferRow) -> str:
    """`server 20917 of clore`, harmless."""
    return clean(f"server {offer.server_id} of {offer.provider}")


def waiting_words(groups: tuple[Waiting, ...]) -> str:
    """`9 jobs such as charlm, 2 jobs such as ablation`."""
    return ", ".join(f"{plural(group.jobs, 'job')} such as {clean(group.name)}" for group in groups) or "no job now"


def price_words(offer: OfferRow) -> str:
    """`$0.38/h`, and per GPU where there are several."""
    if offer.gpu_count <= 1:
        return rate(offer.rate)
    return f"{rate(offer.rate)}, {usd(-(-offer.rate // offer.gpu_count))} a GPU"
