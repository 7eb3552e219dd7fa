"""What a form is about: a new job, a copy of one, a branch of one, or one that waits and is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gpuscale_tui.model.jobs import Job, StartFrom, job_label
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.tui import draft
from gpuscale_tui.tui.draft import NAMES, Texts
from gpuscale_tui.tui.form.templates import unfilled
from gpuscale_tui.tui.format import clean


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the texts of a form come from. `base` are those that it began with; `step` of the snapshot if known."""

    kind: Literal["new", "clone", "branch", "edit"]
    base: Mapping[str, str]
    job: Job | None = None
    start: StartFrom | None = None
    step: int | None = None

    @property
    def key(self) -> str:
        """What its draft is kept under."""
        about = self.start.label if self.start else job_label(self.job.id) if self.job else ""
        return f"{self.kind}:{about}" if about else self.kind

    @property
    def title(self) -> str:
        """In a few words, cleaned."""
        if self.job is None:
            return "new job"
        named = f"{job_label(self.job.id)} {clean(self.job.spec.name)[:40]}".rstrip()
        if self.kind == "branch" and self.start is not None:
            step = f" at step {self.step:,}" if self.step is not None else ""
            return f"branch of {named} from snapshot {self.start.snapshot}{step}"
        return f"edit {named}" if self.kind == "edit" else f"copy of {named}"

    @property
    def fixed(self) -> Mapping[str, str]:
        """Fields that may not change, each with the reason."""
        if self.kind != "edit" or self.job is None:
            return {}
        found = {"sweep": "it is one job", "from": "what it begins with stays"}
        if self.job.cost:
            found["project"] = "it has cost something, booked to that"
        return found

    def changed(self, texts: Texts) -> dict[str, tuple[str, str]]:
        """Fields that differ from those that it began with: old and new text."""
        if self.job is None:
            return {}
        return {name: (self.base[name], texts[name]) for name in NAMES if texts[name] != self.base[name]}


def new(settings: Settings) -> Origin:
    """A form for a new job."""
    return Origin("new", draft.empty(settings))


def clone(job: Job, settings: Settings) -> Origin:
    """A form with a job's values."""
    return Origin("clone", _with_params(job, draft.of_job(job, settings)), job)


def edit(job: Job, settings: Settings) -> Origin:
    """A form that changes a job that waits."""
    return Origin("edit", draft.of_job(job, settings), job)


def branch(job: Job, start: StartFrom, step: int | None, settings: Settings) -> Origin:
    """A form for a job that begins with a snapshot of another."""
    return Origin("branch", {**_with_params(job, draft.of_job(job, settings)), "from": start.label}, job, start, step)


def _with_params(job: Job, texts: dict[str, str]) -> dict[str, str]:
    """What its sweep chose for a job, as a sweep of that one combination: its command may read it."""
    params = job.spec.params
    label = " ".join(f"{name}={value}" for name, value in params.items())
    if not params or any("," in value or ".." in value or len(value.split()) != 1 for value in params.values()):
        return texts
    command = unfilled(texts["command"], params)
    return {**texts, "command": command, "sweep": label, "name": texts["name"].removesuffix(label).rstrip()}
