"""What helps to fill the form: templates, editors of rows, directories, values used before, the user's own editor."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textual.app import SuspendNotSupported

from gpuscale_tui.tui import draft
from gpuscale_tui.tui.draft import MARKETS
from gpuscale_tui.tui.format import clean, plural

if TYPE_CHECKING:
    from textual.screen import Screen

    from gpuscale_tui.store.known import Known
    from gpuscale_tui.tui.app import GpuscaleApp
    from gpuscale_tui.tui.form.rows_editor import Row
    from gpuscale_tui.tui.form.templates import Template

    Base = Screen[None]
else:
    Base = object

ENV = ("env", "secret")
OPENED = (
    *ENV, "data", "sweep", "workdir", "git", "image", "gpu", "project", "provider", "market", "from", "stop_signal",
    "rehearse",
)  # fmt: skip
"""Fields that have more to show than a line."""


class FormHelpers(Base):
    """Mixed into the form: it has `texts`, `known`, `write` and `focused_name`."""

    texts: dict[str, str]
    known: Known

    @property
    def gpuscale(self) -> GpuscaleApp:
        """The application."""
        raise NotImplementedError

    @property
    def focused_name(self) -> str:
        """Name of the field that has the cursor."""
        raise NotImplementedError

    def write(self, changes: Mapping[str, str], refused: Mapping[str, str] | None = None) -> None:
        """Put texts into fields; `refused` says what is wrong with which."""
        raise NotImplementedError

    def fixed_reason(self, name: str) -> str:
        """Why a field may not change, or nothing."""
        raise NotImplementedError

    async def do_form_open(self) -> None:
        """What the field under the cursor has to show."""
        name = self.focused_name
        if self.fixed_reason(name):
            return
        if name in ENV:
            self._open_env()
        elif name == "data":
            self._open_data()
        elif name == "sweep":
            self._open_sweep()
        elif name == "workdir":
            self._open_workdir()
        elif name in OPENED:
            await self._open_values(name)
        else:
            self.gpuscale.notify("This field is just a line: type in it.", timeout=3)

    def do_form_sweep(self) -> None:
        """The sweep as rows, from any field."""
        if not self.fixed_reason("sweep"):
            self._open_sweep()

    def _open_sweep(self) -> None:
        from gpuscale_tui.tui.form import meanings
        from gpuscale_tui.tui.form.rows_editor import RowsEditor

        def take(rows: tuple[Row, ...] | None) -> None:
            if rows is not None:
                self.write({"sweep": meanings.sweep_line(rows)})

        editor = RowsEditor(
            "Sweep: one job for each combination", meanings.sweep_rows(self.texts["sweep"]),
            ("parameter, such as lr", "values: 1e-3,5e-4 or 1..5"),
            lambda rows: meanings.sweep_meaning(rows, self.texts),
        )  # fmt: skip
        self.app.push_screen(editor, take)

    def _open_env(self) -> None:
        from gpuscale_tui.model.jobs import is_secret_name
        from gpuscale_tui.tui.form import meanings
        from gpuscale_tui.tui.form.rows_editor import RowsEditor

        def take(rows: tuple[Row, ...] | None) -> None:
            if rows is not None:
                shown, hidden = meanings.env_lines(rows)
                self.write({"env": shown, "secret": hidden})

        editor = RowsEditor(
            "Environment; a name with TOKEN, KEY, SECRET or PASSWORD hides its value", meanings.env_rows(self.texts),
            ("NAME", "value"), meanings.env_meaning, is_secret_name,
        )  # fmt: skip
        self.app.push_screen(editor, take)

    def _open_data(self) -> None:
        from gpuscale_tui.tui.form import meanings
        from gpuscale_tui.tui.form.rows_editor import RowsEditor

        def take(rows: tuple[Row, ...] | None) -> None:
            if rows is not None:
                self.write({"data": draft.joined((row.name, row.value) for row in rows)})

        editor = RowsEditor(
            "Data sets: brought once to a machine and shared there", meanings.data_rows(self.texts["data"]),
            ("name, such as words", "file or directory on this computer"), meanings.data_meaning,
        )  # fmt: skip
        self.app.push_screen(editor, take)

    def _open_workdir(self) -> None:
        from gpuscale_tui.tui.form.directories import DirectoryPicker

        start = self.texts["workdir"] or next(iter(self.known.workdirs), "") or f"{os.getcwd()}/"  # noqa: PTH109 - text
        picker = DirectoryPicker("Working directory: its files are copied to the machine", start, upload=True)
        self.app.push_screen(picker, lambda path: self.write({"workdir": path}) if path else None)

    async def _open_values(self, name: str) -> None:
        from gpuscale_tui.tui.form.chooser import Chooser, Entry

        entries = [Entry(value, value) for value in self.values(name)] if name != "from" else await self._snapshots()
        chooser = Chooser(f"{name}: type to find", entries, "Nothing known yet.")
        self.app.push_screen(chooser, lambda value: self.write({name: value}) if value else None)

    async def _snapshots(self) -> Sequence[Any]:
        from gpuscale_tui.tui.form.chooser import Entry
        from gpuscale_tui.tui.form.opening import kept_snapshots

        found = await self.gpuscale.reader.database.read(kept_snapshots)
        return [Entry(label, f"{label} {name}", about) for label, name, about in found]

    def values(self, name: str) -> Sequence[str]:
        """What is known for a field, the likeliest first."""
        from gpuscale_tui.engine.intake import PROVIDERS
        from gpuscale_tui.model.gpus import KNOWN_GPUS
        from gpuscale_tui.model.jobs import STOP_SIGNALS

        known = self.known
        return {
            "image": known.images, "project": known.projects, "workdir": known.workdirs, "provider": PROVIDERS,
            "gpu": tuple(dict.fromkeys([*known.gpu_types, *KNOWN_GPUS, "none"])), "market": MARKETS,
            "git": known.gits, "stop_signal": STOP_SIGNALS, "rehearse": (draft.YES,),
        }.get(name, ())  # fmt: skip

    async def do_form_templates(self) -> None:
        """Past jobs to begin from."""
        from gpuscale_tui.store import known
        from gpuscale_tui.tui.form.chooser import Chooser, Entry
        from gpuscale_tui.tui.form.templates import templates

        app = self.gpuscale
        jobs = await app.reader.database.read(known.recent_jobs)
        found = await asyncio.to_thread(templates, jobs, app.settings)
        entries = [
            Entry(str(each.id), each.texts["name"] or each.texts["command"], _about(each), _details(each))
            for each in found
        ]
        by_id = {str(each.id): each for each in found}

        def take(chosen: str | None) -> None:
            if chosen is not None:
                fixed = {name: text for name, text in self.texts.items() if self.fixed_reason(name)}
                self.write({**by_id[chosen].texts, **fixed})

        words = "templates from past jobs: a name, a command, a GPU"
        await self.app.push_screen(Chooser(words, entries, "No job was submitted yet."), take)

    def do_form_editor(self) -> None:
        """The whole form in the user's editor; back in the fields afterwards, errors at theirs."""
        from gpuscale_tui.tui.form import editor, jobtoml

        app = self.gpuscale
        before = dict(self.texts)
        try:
            with self.app.suspend():
                document = editor.edit(jobtoml.written(before), app.home.path, os.environ)
        except SuspendNotSupported:
            app.notify("This terminal cannot be left for an editor.", severity="warning", timeout=5)
            return
        except editor.EditorError as error:
            app.notify(clean(str(error)), severity="error", timeout=8, markup=False)
            return
        found = jobtoml.read(document, before)
        fixed = {name: text for name, text in before.items() if self.fixed_reason(name)}
        self.write({**found.texts, **fixed}, {name: words for name, words in found.errors.items() if name})
        if "" in found.errors:
            app.notify(clean(found.errors[""]), severity="error", timeout=8, markup=False)


def _about(template: Template) -> str:
    texts = template.texts
    return f"{texts['gpus']}x {texts['gpu']}  {plural(template.jobs, 'job')}"


def _details(template: Template) -> tuple[str, ...]:
    """What is worth seeing before it is taken."""
    names = ("command", "sweep", "image", "workdir", "git", "env", "project")
    labels = {each.name: each.label for each in draft.FIELDS}
    return tuple(f"{labels[name]:<12} {template.texts[name]}" for name in names if template.texts[name])
