"""The form for a new job or a sweep, worked by keyboard alone: checked as it is typed, priced before it is sent."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input

from gpuscale_tui.engine import commands, intake
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.gpus import KNOWN_GPUS
from gpuscale_tui.model.jobs import job_label
from gpuscale_tui.store import market, queries
from gpuscale_tui.tui import draft
from gpuscale_tui.tui.draft import FIELDS, NAMES, Checked, FormField
from gpuscale_tui.tui.format import plural
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.preview import Surroundings, preview
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.widgets.confirm import Lines
from gpuscale_tui.tui.widgets.title import Title


class Field(Input):
    """One line of the form."""

    def __init__(self, about: FormField, value: str) -> None:
        super().__init__(value, compact=True, password=about.secret, select_on_focus=False, id=f"field-{about.name}")
        self.about = about
        self.cursor_blink = False


class FormScreen(BaseScreen[Surroundings]):
    """Fields on the left, what is right or wrong about them on the right, what it all means below."""

    NAME = "form"
    TAB = "queue"
    BINDINGS = bindings_for("form")

    def __init__(self, texts: Mapping[str, str]) -> None:
        super().__init__()
        self._texts = dict(texts)
        self._start = dict(texts)
        self._around = Surroundings((), (), 0)
        self._checked = Checked()
        self._refused: dict[str, str] = {}
        self._touched: set[str] = {name for name in NAMES if self._texts[name]}
        self.heading = Title()
        self.fields = [Field(about, self._texts[about.name]) for about in FIELDS]
        self.labels = Lines([], "ground")
        self.notes = Lines([], "ground")
        self.meaning = Lines([], "raised")

    def body(self) -> Iterable[Widget]:
        """Title, fields with their notes, meaning."""
        self.labels.styles.width = 14
        row = Horizontal(self.labels, Vertical(*self.fields, id="fields"), self.notes, id="form-row")
        return (self.heading, VerticalScroll(row, id="form"), self.meaning)

    def on_mount(self) -> None:
        """The command comes first."""
        self.query_one("#form").can_focus = False
        self.set_focus(self.fields[0])
        self._judge()

    def wish(self) -> Wish:
        """Offers, machines, and doubts about what is written."""
        specs, settings = self._checked.specs[:1], self.gpuscale.settings

        def query(connection: sqlite3.Connection, moment: Moment) -> Surroundings:
            waiting = queries.status(connection, moment.now, 0).jobs.get("pending", 0)
            return Surroundings(
                tuple(market.offers(connection)), tuple(queries.worker_rows(connection)), waiting,
                tuple(intake.doubts(connection, specs, settings)),
            )  # fmt: skip

        return Wish(self, specs[0].need if specs else None, query)

    def feed(self, content: Surroundings, output: object, now: int) -> None:  # noqa: ARG002 - reads no output
        """The world has changed, or what is written."""
        if not self._around.offers and content.offers:
            known = dict.fromkeys([*(o.gpu_type for o in content.offers if o.gpu_type), *KNOWN_GPUS, "none"])
            self.fields[NAMES.index("gpu")].suggester = SuggestFromList(known, case_sensitive=False)
        self._around = content
        self._show()

    def on_input_changed(self, _event: Input.Changed) -> None:
        """Each letter is judged."""
        self._read_fields()

    def _read_fields(self) -> None:
        """Take what stands in the fields now: news of a change takes its way up through the boxes around them."""
        changed = {each.about.name: each.value for each in self.fields if self._texts[each.about.name] != each.value}
        if changed:
            self._texts.update(changed)
            self._touched |= changed.keys()
            for name in changed:
                self._refused.pop(name, None)
            self._judge()

    def on_descendant_focus(self) -> None:
        """The hint follows the cursor."""
        self._show()

    def on_descendant_blur(self) -> None:
        """A field that was left: secrets go where they are not shown, and an empty one may be wrong now."""
        self._read_fields()
        moved = draft.move_secrets(self._texts)
        if moved != self._texts:
            for each in self.fields:
                each.value = moved[each.about.name]

    def _judge(self) -> None:
        self._checked = draft.check(self._texts, self.gpuscale.user)
        self.gpuscale.draft = dict(self._texts)
        self.gpuscale.poke()
        self._show()

    def _show(self) -> None:
        app = self.gpuscale
        errors = {**self._checked.errors, **self._refused}
        focused = self.focused.about.name if isinstance(self.focused, Field) else ""
        self.labels.change([[(f" {each.label:<12} ", "title" if each.name == focused else "muted")] for each in FIELDS])
        self.notes.change([self._note(each, errors) for each in FIELDS])
        status = app.snapshot.status
        if status is not None:
            lines = preview(self._checked, self._around, status.spend, app.settings)
            self.meaning.change([[(" ", "text"), *line] for line in lines])
        hint = next((each.hint for each in FIELDS if each.name == focused), "")
        wrong = errors.get(focused, "") if focused in self._touched else ""
        about = (f"  {app.look.glyphs.states['failed']} {wrong}", "bad") if wrong else (f"  {hint}", "muted")
        self.heading.tell([("new job", "title"), about], [(plural(self._checked.jobs, "job"), "strong")])

    def _note(self, each: FormField, errors: Mapping[str, str]) -> Line:
        glyphs = self.gpuscale.look.glyphs
        if each.name in errors and (each.name in self._touched or self._refused):
            return [(f" {glyphs.states['failed']} ", "bad"), (errors[each.name], "bad")]
        if each.name in self._checked.notes:
            return [(f" {glyphs.warn} ", "warn"), (self._checked.notes[each.name], "warn")]
        good = each.name not in errors and bool(self._texts[each.name])
        return [(f" {glyphs.states['done']}" if good else "", "good")]

    def do_form_next(self) -> None:
        """The next field."""
        self.focus_next(Field)

    def do_form_previous(self) -> None:
        """The field before."""
        self.focus_previous(Field)

    def do_form_complete(self) -> None:
        """Only shown in the help: the field itself takes its completion."""

    def do_form_clear(self) -> None:
        """As it was first opened, without anything typed."""
        fresh = draft.empty(self.gpuscale.settings)
        self._touched = set()
        for each in self.fields:
            each.value = fresh[each.about.name]
        self.set_focus(self.fields[0])

    def do_form_leave(self) -> None:
        """Back; the texts are kept."""
        self._after_letters(self._leave)

    def _leave(self) -> None:
        if self.is_current:
            self._read_fields()
            self.app.pop_screen()

    def do_form_send(self) -> None:
        """Submit, or go to the first field that is wrong."""
        self._after_letters(self._send)

    def _after_letters(self, step: Callable[[], object]) -> None:
        """Do something after the letters that are still on their way to the field, and what follows from them."""
        if isinstance(self.focused, Field):
            self.focused.call_later(self.call_later, step)
        else:
            self.call_later(step)

    async def _send(self) -> None:
        self._touched = set(NAMES)
        self._read_fields()
        if not self._checked.errors:
            await self._check_workdir()
        errors = {**self._checked.errors, **self._refused}
        if errors:
            self._show()
            self.set_focus(next(each for each in self.fields if each.about.name in errors))
            return
        app, specs = self.gpuscale, self._checked.specs
        done = await app.command(commands.submit, app.home, specs, now=app.now())
        if done is None:
            return
        ids = done[0]
        app.draft = None
        self.app.pop_screen()
        word = job_label(ids[0]) if len(ids) == 1 else f"{job_label(ids[0])} to {job_label(ids[-1])}"
        app.notify(f"{word} in the queue", timeout=3, markup=False)
        for doubt in self._around.doubts:
            app.notify(doubt, severity="warning", timeout=10, markup=False)

    async def _check_workdir(self) -> None:
        workdir = self._checked.specs[0].workdir
        if workdir is None:
            return
        limit = self.gpuscale.settings.scaler.workdir_max_mb
        try:
            await asyncio.to_thread(intake.check_workdir, workdir, limit)
        except FieldError as error:
            self._refused["workdir"] = f"{error.allowed}"
