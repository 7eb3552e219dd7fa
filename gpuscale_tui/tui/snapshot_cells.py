"""The columns of snapshots, and what running jobs would lose now, in lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuscale_tui.model.jobs import StartFrom, job_label
from gpuscale_tui.store.snapshot_list import ListedSnapshot
from gpuscale_tui.store.unsaved import Unsaved
from gpuscale_tui.tui.cells import text
from gpuscale_tui.tui.format import clean, plural, size, span, usd, wait
from gpuscale_tui.tui.look import Line, Look, Span
from gpuscale_tui.tui.widgets.columns import Column

GONE = "not on disk"


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """One snapshot, and what is wrong with it on disk: None while nobody has looked, nothing where it is all right."""

    listed: ListedSnapshot
    wrong: str | None = None

    @property
    def id(self) -> tuple[int, int]:
        """Job and number."""
        return self.listed.id

    @property
    def start(self) -> StartFrom:
        """As what a job can begin with."""
        return StartFrom(*self.listed.id)

    @property
    def label(self) -> str:
        """`j17/3`."""
        return self.start.label

    @property
    def kept(self) -> bool:
        """Whether it was not removed."""
        return self.listed.snapshot.pruned_at is None


def state(row: SnapshotLine, look: Look, _now: int) -> Span:
    """Kept, removed, missing, broken, or in use."""
    states = look.glyphs.states
    if not row.kept:
        return f"{states['cancelled']} removed", "muted"
    if row.wrong == GONE:
        return f"{states['failed']} missing", "bad"
    if row.wrong:
        return f"{states['failed']} broken", "bad"
    if row.listed.needed_by is not None:
        return f"{states['running']} for {job_label(row.listed.needed_by)}", "accent"
    return (f"{states['done']} kept", "good") if row.wrong is not None else (f"{states['pending']} kept", "text")


def _step(row: SnapshotLine, _look: Look, _now: int) -> Span:
    step = row.listed.snapshot.step
    return ("-", "muted") if step is None else (f"{step:,}", "text")


COLUMNS: tuple[Column[SnapshotLine], ...] = (
    Column("job", "JOB", 6, lambda row, _look, _now: (job_label(row.listed.snapshot.job_id), "strong")),
    Column("name", "NAME", 14, lambda row, look, _now: text(row.listed.name, look), grow=1, most=60),
    Column("", "NO", 4, lambda row, _look, _now: (str(row.listed.snapshot.number), "strong"), right=True),
    Column("step", "STEP", 8, _step, right=True),
    Column("", "TRY", 3, lambda row, _look, _now: (str(row.listed.snapshot.attempt), "muted"), right=True, drop=4),
    Column("taken", "TAKEN", 11, lambda row, look, now: (look.when(row.listed.snapshot.at, now), "text"), drop=3),
    Column("", "AGE", 6, lambda row, _look, now: (wait(now - row.listed.snapshot.at), "muted"), right=True),
    Column("files", "FILES", 5, lambda row, _look, _now: (f"{row.listed.snapshot.files:,}", "text"), right=True,
           drop=2),
    Column("size", "SIZE", 8, lambda row, _look, _now: (size(row.listed.snapshot.bytes), "text"), right=True,
           value=lambda row, _now: row.listed.snapshot.bytes),
    Column("", "STATE", 10, state),
)  # fmt: skip


def unsaved_lines(found: Sequence[tuple[str, Unsaved]], look: Look, most: int) -> list[Line]:
    """What running jobs would lose if their machines were lost now: the sum, and the dearest of them by name."""
    if not found:
        return [[(" nothing runs that could lose work", "muted")]]
    lost = [each for _, each in found]
    cost, lasted = sum(each.cost for each in lost), sum(each.ms for each in lost)
    lines: list[Line] = [
        [(" unsaved now ", "title"), (f"{span(lasted)} of work, {usd(cost)}", "strong"),
         (f" in {plural(len(lost), 'running job')}", "text")]
    ]  # fmt: skip
    for name, each in sorted(found, key=lambda pair: -pair[1].cost)[:most]:
        saved = "nothing saved yet" if each.saved_at is None else "since its last snapshot"
        named = clean(name, ascii_only=look.glyphs.ascii)
        lines.append(
            [(f"   {job_label(each.job_id):<6} ", "strong"), (look.fit(named, 28), "text"),
             (f" {span(each.ms):>6}  {usd(each.cost):>7}", "warn"), (f"  {saved}", "muted")]
        )  # fmt: skip
    return lines
