"""The form for jobs, worked by keyboard alone: checked as it is typed, priced before it is sent, never lost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.suggester import Suggester, SuggestFromList
from textual.widget import Widget
from textual.widgets import Input

from gpuscale_tui.engine import commands, intake
from gpuscale_tui.model.errors import FieldError
from gpuscale_tui.model.jobs import JobSpec, job_label
from gpuscale_tui.store.known import Known, known
from gpuscale_tui.tui import draft
from gpuscale_tui.tui.draft import FIELDS, NAMES, Checked, FormField
from gpuscale_tui.tui.form.helpers import OPENED, FormHelpers
from gpuscale_tui.tui.form.keeping import KeptDraft
from gpuscale_tui.tui.form.origin import Origin
from gpuscale_tui.tui.form.safe_input import SafeInput
from gpuscale_tui.tui.format import clean, plural
from gpuscale_tui.tui.look import Line
from gpuscale_tui.tui.preview import Surroundings, look_around, preview
from gpuscale_tui.tui.reader import Moment, Wish
from gpuscale_tui.tui.screens.base import BaseScreen, bindings_for
from gpuscale_tui.tui.widgets.confirm import Lines
from gpuscale_tui.tui.widgets.title import Title

LABEL = 14
AROUND = 9
"""Lines of the screen that are no fields."""
FEW = 3
"""Jobs of a sweep that are made while it is typed; all of them are, off the loop, when it is sent."""


@dataclass(frozen=True, slots=True)
class Read:
    """What the form reads: the world, and values used before."""

    around: Surroundings
    known: Known


class Field(SafeInput):
    """One line of the form."""

    def __init__(self, about: FormField, text: str) -> None:
        super().__init__(text, password=about.secret, id=f"field-{about.name}")
        self.about = about


class FormScreen(BaseScreen[Read], FormHelpers):
    """Fields on the left, what is right or wrong about them on the right, what it all means below."""

    NAME = "form"
    TAB = "queue"
    BINDINGS = bindings_for("form")

    def __init__(self, origin: Origin, left: KeptDraft | None = None, changes: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.origin = origin
        self.left = left
        self.texts = {**origin.base, **(left.texts if left else {}), **(changes or {})}
        self.texts |= {name: origin.base[name] for name in origin.fixed}
        self.known = Known()
        self._around = Surroundings((), (), 0)
        self._checked = Checked()
        self._refused: dict[str, str] = {}
        self._touched: set[str] = {name for name in NAMES if self.texts[name]}
        self._sent = False
        self._unfolded = False
        self._asked_for: set[str] = set()
        self.heading = Title()
        self.hint = Lines([[]], "ground")
        self.fields = [Field(about, self.texts[about.name]) for about in FIELDS]
        self.labels = Lines([[]] * len(FIELDS), "ground")
        self.notes = Lines([[]] * len(FIELDS), "ground")
        self.meaning = Lines([[]] * 4, "raised")

    def body(self) -> Iterable[Widget]:
        """Title, fields with their notes, meaning."""
        self.labels.styles.width = LABEL
        row = Horizontal(self.labels, Vertical(*self.fields, id="fields"), self.notes, id="form-row")
        return (self.heading, self.hint, VerticalScroll(row, id="form"), self.meaning)

    def on_mount(self) -> None:
        """The command comes first; what was left here before says so."""
        self.query_one("#form").can_focus = False
        for each in self.fields:
            each.disabled = each.about.name in self.origin.fixed
        self.set_focus(self.fields[0])
        self._judge()
        self._tell_left()

    def on_resize(self) -> None:
        """More room, or less."""
        self._show()

    def _tell_left(self) -> None:
        left, app = self.left, self.gpuscale
        if left is None:
            return
        words = f"The draft of {app.look.when(left.at, app.now())} is back. Ctrl+R begins anew."
        if left.lost:
            words += f" Its secrets were not kept: {clean(', '.join(left.lost))}."
        app.notify(words, timeout=6, markup=False)

    @property
    def focused_name(self) -> str:
        """Name of the field that has the cursor."""
        return self.focused.about.name if isinstance(self.focused, Field) else ""

    def fixed_reason(self, name: str) -> str:
        """Why a field may not change, or nothing."""
        return self.origin.fixed.get(name, "")

    def wish(self) -> Wish:
        """Offers, machines, limits, what such jobs took, doubts about what is written."""
        spec, settings, user = next(iter(self._checked.specs), None), self.gpuscale.settings, self.gpuscale.user

        def query(connection: sqlite3.Connection, moment: Moment) -> Read:
            return Read(look_around(connection, spec, settings, moment.now), known(connection, user))

        key = spec and (spec.need, spec.name, spec.project, spec.max_runtime_sec, spec.user)
        return Wish(self, key, query)

    def feed(self, content: Read, output: object, now: int) -> None:  # noqa: ARG002 - reads no output
        """The world has changed, or what is written."""
        if content.known != self.known:
            self.known = content.known
            for each in self.fields:
                each.suggester = self._suggester(each.about.name)
        self._around = content.around
        self._show()

    def _suggester(self, name: str) -> Suggester | None:
        if name == "workdir":
            from gpuscale_tui.tui.form.directories import DirectorySuggester

            return DirectorySuggester(self.known.workdirs)
        values = [value for value in self.values(name) if clean(value) == value]
        return SuggestFromList(values, case_sensitive=False) if values else None

    def write(self, changes: Mapping[str, str], refused: Mapping[str, str] | None = None) -> None:
        """Put texts into fields; `refused` says what is wrong with which."""
        for each in self.fields:
            if each.about.name in changes:
                each.text = changes[each.about.name]
        self._read_fields()
        self._refused.update(refused or {})
        self._show()

    def on_input_changed(self, _event: Input.Changed) -> None:
        """Each letter is judged."""
        self._read_fields()

    def _read_fields(self) -> None:
        """Take what stands in the fields now: news of a change takes its way up through the boxes around them."""
        changed = {each.about.name: each.text for each in self.fields if self.texts[each.about.name] != each.text}
        if changed:
            self.texts.update(changed)
            self._touched |= changed.keys()
            for name in changed:
                self._refused.pop(name, None)
            self._judge()
            self._remember()

    def on_descendant_focus(self) -> None:
        """The hint follows the cursor."""
        self._show()

    def on_descendant_blur(self) -> None:
        """A field that was left: secrets go where they are not shown, and an empty one may be wrong now."""
        self._read_fields()
        moved = draft.move_secrets(self.texts)
        if moved != self.texts:
            self.write(moved)

    def _judge(self) -> None:
        checked = draft.check(self.texts, self.gpuscale.user, FEW)
        missing = self._missing_secrets()
        if missing and "secret" not in checked.errors:
            checked = replace(checked, errors={**checked.errors, "secret": f"{clean(missing[0])} has no value"})
        self._checked = checked
        self.gpuscale.poke()
        self._show()

    def _missing_secrets(self) -> list[str]:
        """Secrets without a value that no job has one for."""
        job = self.origin.job
        kept = job.spec.secret_env if job else {}
        return [name for name, value in draft.variables(self.texts["secret"]) if not value and name not in kept]

    # the draft

    def _remember(self) -> None:
        """Keep what is written, now and for the next start."""
        app = self.gpuscale
        if self._sent:
            return
        if self.texts == dict(self.origin.base):
            app.drafts.drop(self.origin.key)
        else:
            app.drafts.put(self.origin.key, self.texts, app.now())
        app.spawn(self._save())

    async def _save(self) -> None:
        app = self.gpuscale
        if app.readonly:
            return
        try:
            await asyncio.to_thread(app.drafts.save_latest)
        except OSError as error:
            app.notify(f"The draft is not kept: {error}", severity="warning", timeout=5, markup=False)

    # what is shown

    def _show(self) -> None:
        app = self.gpuscale
        errors = {**self._checked.errors, **self._refused}
        name = self.focused_name
        shown = self._fold(errors)
        self.labels.change([[(f" {each.label:<12} ", "title" if each.name == name else "muted")] for each in shown])
        self.notes.change([self._note(each, errors) for each in shown])
        status = app.snapshot.status
        if status is not None:
            lines = preview(self._checked, self._around, status.spend, app.settings)
            self.meaning.change([[(" ", "text"), *line] for line in lines])
        wrong = errors.get(name, "") if name in self._touched else ""
        sign = app.look.glyphs.states["failed"]
        about: Line = [(f" {sign} {wrong}", "bad")] if wrong else self._hint(name)
        self.hint.change([about])
        changes = plural(len(self.origin.changed(self.texts)), "change")
        right = [plural(self._checked.jobs, "job")] if self.origin.kind != "edit" else []
        right += [changes] if self.origin.kind in {"branch", "edit"} else []
        self.heading.tell([(self.origin.title, "title")], [(", ".join(right), "strong")])

    def _fold(self, errors: Mapping[str, str]) -> list[FormField]:
        """The fields that are shown: on a small screen seldom ones once they have something to say, until it is
        emptied."""
        everything = self._unfolded or self.app.size.height >= len(FIELDS) + AROUND
        self._asked_for |= {name for name in NAMES if self.texts[name] or (name in errors and name in self._touched)}
        shown = [each for each in FIELDS if everything or not each.seldom or each.name in self._asked_for]
        names = {each.name for each in shown}
        for each in self.fields:
            each.display = each.about.name in names
        return shown

    def _hint(self, name: str) -> Line:
        hint = next((each.hint for each in FIELDS if each.name == name), "")
        return [(f" {hint}", "muted"), *([("  ^o", "key"), (" shows more", "muted")] if name in OPENED else [])]

    def _note(self, each: FormField, errors: Mapping[str, str]) -> Line:
        glyphs = self.gpuscale.look.glyphs
        if self.fixed_reason(each.name):
            return [(f" {glyphs.branch} stays: {self.fixed_reason(each.name)}", "muted")]
        if each.name in errors and (each.name in self._touched or self._refused):
            return [(f" {glyphs.states['failed']} ", "bad"), (errors[each.name], "bad")]
        if each.name in self._checked.notes:
            return [(f" {glyphs.warn} ", "warn"), (self._checked.notes[each.name], "warn")]
        was = self.origin.changed(self.texts).get(each.name)
        if was is not None:
            before = "hidden" if each.secret else clean(was[0], ascii_only=glyphs.ascii) or "empty"
            return [(f" {glyphs.arrow} ", "accent"), ("was ", "muted"), (before, "accent")]
        good = each.name not in errors and bool(self.texts[each.name])
        return [(f" {glyphs.states['done']}" if good else "", "good")]

    # keys

    def do_form_next(self) -> None:
        """The next field."""
        self.focus_next(Field)

    def do_form_previous(self) -> None:
        """The field before."""
        self.focus_previous(Field)

    def do_form_complete(self) -> None:
        """Only shown in the help: the field itself takes its completion."""

    def do_form_more(self) -> None:
        """Show the fields that are seldom needed, or fold away those of them that are empty."""
        hidden = [each for each in self.fields if not each.display]
        self._unfolded = bool(hidden)
        self._asked_for = set()
        self._show()
        if hidden:
            self.set_focus(hidden[0])
        elif isinstance(self.focused, Field) and not self.focused.display:
            self.set_focus(self.fields[0])

    def do_form_clear(self) -> None:
        """As it was first opened, without anything typed."""
        self._touched, self._asked_for = set(), set()
        self.write(self.origin.base)
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

    # sending

    async def _send(self) -> None:
        self._touched = set(NAMES)
        self._read_fields()
        checked = Checked()
        if not self._checked.errors:
            checked = await asyncio.to_thread(draft.check, dict(self.texts), self.gpuscale.user)
            self._refused.update(checked.errors)
            await self._check_paths()
        errors = {**self._checked.errors, **self._refused}
        if errors:
            self._show()
            self.set_focus(next((each for each in self.fields if each.about.name in errors), self.fields[0]))
            return
        specs = [self._as_given(spec) for spec in checked.specs]
        done = await (self._change(specs[0]) if self.origin.kind == "edit" else self._submit(specs))
        if done:
            self._sent = True
            self.gpuscale.drafts.drop(self.origin.key)
            self.gpuscale.spawn(self._save())
            self.app.pop_screen()

    def _as_given(self, spec: JobSpec) -> JobSpec:
        """A command that was given as words stays so where it was not changed."""
        job = self.origin.job
        if job is None or not job.spec.argv or self.texts["command"] != self.origin.base["command"] or spec.params:
            return spec
        return replace(spec, command=None, argv=job.spec.argv)

    async def _submit(self, specs: list[JobSpec]) -> bool:
        app, job = self.gpuscale, self.origin.job
        done = await app.command(commands.submit, app.home, specs, now=app.now(), secrets_of=job.id if job else None)
        if done is None:
            return False
        ids = done[0]
        word = job_label(ids[0]) if len(ids) == 1 else f"{job_label(ids[0])} to {job_label(ids[-1])}"
        app.notify(f"{word} in the queue", timeout=3, markup=False)
        for doubt in self._around.doubts:
            app.notify(doubt, severity="warning", timeout=10, markup=False)
        return True

    async def _change(self, spec: JobSpec) -> bool:
        app, job = self.gpuscale, self.origin.job
        if job is None:
            return False
        done = await app.command(
            commands.edit, app.home, job.id, job.attempt, spec, user=app.user, now=app.now()
        )  # fmt: skip
        if done is None:
            return False

        async def undo() -> None:
            await app.command(commands.edit, app.home, job.id, job.attempt, done[0], user=app.user, now=app.now())

        secrets = "; its secrets stay as they are now" if "secret" in self.origin.changed(self.texts) else ""
        app.offer_undo(f"{job_label(job.id)} is changed{secrets}", undo)
        return True

    async def _check_paths(self) -> None:
        """What is to be copied from this computer must be there."""
        spec = next(iter(self._checked.specs), None)
        if spec is not None:
            self._refused |= await asyncio.to_thread(_missing, spec, self.gpuscale.settings.scaler.workdir_max_mb)


def _missing(spec: JobSpec, max_mb: float) -> dict[str, str]:
    """What is wrong with the paths of a job, by field. Blocking."""
    found: dict[str, str] = {}
    if spec.workdir is not None:
        try:
            intake.check_workdir(spec.workdir, max_mb)
        except FieldError as error:
            found["workdir"] = error.allowed
    absent = [path for path in spec.data.values() if not os.path.exists(path)]  # noqa: PTH110 - text from a user
    if absent:
        found["data"] = f"{clean(absent[0])} is not there"
    return found
