"""Templates: what was submitted lately, each kind once; a sweep is put together again from its jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuscale_tui.model.jobs import Job, job_label
from gpuscale_tui.model.settings import Settings
from gpuscale_tui.model.sweep import fill
from gpuscale_tui.tui import draft

MOST = 200


@dataclass(frozen=True, slots=True)
class Template:
    """Texts for the form, from the job `newest` of `jobs` alike."""

    id: int
    texts: Mapping[str, str]
    jobs: int

    @property
    def label(self) -> str:
        """What it is found by."""
        return " ".join((self.texts["name"], self.texts["command"], self.texts["gpu"], job_label(self.id)))


def templates(jobs: Iterable[Job], settings: Settings) -> list[Template]:
    """Distinct jobs, newest first, as `jobs` come. Secrets have their names only."""
    groups: dict[tuple[str, ...], list[tuple[Job, dict[str, str]]]] = {}
    for job in jobs:
        texts = _unswept(job, draft.of_job(job, settings))
        key = tuple(value for name, value in texts.items() if name not in {"sweep", "priority"})
        if key in groups or len(groups) < MOST:
            groups.setdefault(key, []).append((job, texts))
    return [_template(group) for group in groups.values()]


def _template(group: list[tuple[Job, dict[str, str]]]) -> Template:
    newest, texts = group[0]
    values: dict[str, dict[str, None]] = {name: {} for name in newest.spec.params}
    for job, _ in reversed(group):  # in the order in which they were submitted
        for name, value in job.spec.params.items():
            values.setdefault(name, {})[value] = None
    sweep = " ".join(f"{name}={','.join(chosen)}" for name, chosen in values.items())
    return Template(newest.id, {**texts, "sweep": sweep}, len(group))


def _unswept(job: Job, texts: dict[str, str]) -> dict[str, str]:
    """With places for the values that a sweep chose, where that gives the same command again."""
    params = dict(job.spec.params)
    if not params or any("," in value or len(value.split()) != 1 for value in params.values()):
        return texts
    command = unfilled(texts["command"], params)
    label = " ".join(f"{name}={value}" for name, value in params.items())
    name = texts["name"].removesuffix(label).rstrip()
    return {**texts, "command": command, "name": "" if name == texts["name"] and name == label else name}


def unfilled(command: str, params: Mapping[str, str]) -> str:
    """A command with `{lr}` where the value of lr stands, once each; as it was where that would not give it back."""
    found = command
    for name, value in params.items():
        at = re.search(rf"(?<![\w.{{-]){re.escape(value)}(?![\w.}}])", found)
        if at is not None:
            found = f"{found[: at.start()]}{{{name}}}{found[at.end() :]}"
    return found if fill(found, dict(params)) == command else command
