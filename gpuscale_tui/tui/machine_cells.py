"""The columns of the list of machines: what each cell says. Pure functions of a row, the look and the time."""

from __future__ import annotations

from datetime import UTC, datetime

from gpuscale_tui.model.jobs import job_label, worker_label
from gpuscale_tui.policy.liveness import Liveness, liveness
from gpuscale_tui.store.progress import Usage
from gpuscale_tui.store.worker_list import MachineRow
from gpuscale_tui.tui.cells import address, text
from gpuscale_tui.tui.format import clean, gpus, plural, share, span, usd
from gpuscale_tui.tui.look import Look, Span
from gpuscale_tui.tui.widgets.columns import Column

HOT_C = 85
"""From here on a GPU slows itself down."""
IDLE_PERCENT = 10
"""A GPU that a job uses less is told apart."""
OLD_MS = 300_000
"""A reading of so long ago says nothing of now."""


def clock(milliseconds: int) -> str:
    """A length of time to compare with another: `2:10`, `1:02:10`."""
    seconds = max(0, milliseconds) // 1000
    hours, minutes, rest = seconds // 3600, seconds % 3600 // 60, seconds % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def phase(machine: MachineRow, look: Look, now: int) -> Span:
    """What a machine is about, and for how long already of how long it usually takes."""
    row = machine.row
    if liveness(row.state, ready_at=row.ready_at, silent_since=row.silent_since) is Liveness.UNREACHABLE:
        assert row.silent_since is not None
        job = f", {job_label(row.job_id)}" if row.job_id is not None else ""
        return f"unreachable {span(now - row.silent_since)}{job}", "warn"
    if row.state == "ordering":
        return f"ordered {clock(now - row.created_at)} ago", "state-ordering"
    if row.state == "booting":
        return _booting(machine, now)
    if row.state == "releasing":
        return f"goes back, asked {plural(row.release_asked, 'time')}", "state-releasing"
    if row.job_id is not None:
        return _works(machine, look)
    if row.state == "idle" and row.idle_since is not None:
        return f"idle for {span(now - row.idle_since)}", "state-idle"
    if row.ended_at is not None:
        return f"gone since {look.when(row.ended_at, now)}", "muted"
    return "-", "muted"


def _booting(machine: MachineRow, now: int) -> Span:
    row, usual = machine.row, machine.usual_boot
    lasted = now - (row.held_from if row.held_from is not None else row.created_at)
    if usual is None:
        return f"boots {clock(lasted)}", "state-booting"
    late = lasted > usual
    return f"boots {clock(lasted)} of about {clock(usual)}", "warn" if late else "state-booting"


def _works(machine: MachineRow, look: Look) -> Span:
    row, known = machine.row, machine.progress
    assert row.job_id is not None
    part = f" {share(round(known.fraction * 1000), 1000)}" if known is not None and known.fraction is not None else ""
    return f"{job_label(row.job_id)}{part} {clean(row.job_name or '', ascii_only=look.glyphs.ascii)}", "text"


def _said(machine: MachineRow, now: int) -> Usage | None:
    """What it uses now, as far as that is known."""
    used = machine.used
    return None if used is None or machine.row.ended_at is not None or now - used.at > OLD_MS else used


def _use(machine: MachineRow, _look: Look, now: int) -> Span:
    used = _said(machine, now)
    if used is None or used.gpu_percent is None:
        return "-", "muted"
    part = used.gpu_percent
    return f"{part} %", "warn" if part < IDLE_PERCENT and machine.row.state == "busy" else "text"


def _temperature(machine: MachineRow, _look: Look, now: int) -> Span:
    used = _said(machine, now)
    hot = used.gpu_temp_c if used is not None else None
    if hot is None:
        return "-", "muted"
    return f"{hot} C", "warn" if hot >= HOT_C else "text"


def memory(used: Usage | None) -> str:
    """`18.2/24 GB`."""
    if used is None or used.gpu_mem_mb is None:
        return "-"
    total = f"/{used.gpu_mem_total_mb / 1000:.0f}" if used.gpu_mem_total_mb else ""
    return f"{used.gpu_mem_mb / 1000:.1f}{total} GB"


def _memory(machine: MachineRow, _look: Look, now: int) -> Span:
    words = memory(_said(machine, now))
    return words, "muted" if words == "-" else "text"


def _up(machine: MachineRow, _look: Look, now: int) -> Span:
    row = machine.row
    if row.held_from is None:
        return "-", "muted"
    return span((row.ended_at or now) - row.held_from), "text"


def _rate(machine: MachineRow, _look: Look, _now: int) -> Span:
    return usd(machine.row.rate), "muted" if machine.row.ended_at else "text"


def _cost(machine: MachineRow, _look: Look, _now: int) -> Span:
    return (usd(machine.row.cost), "text") if machine.row.cost else ("-", "muted")


def _why(machine: MachineRow, look: Look, _now: int) -> Span:
    return text(machine.row.why or machine.row.reason, look, "muted")


def _gpu(machine: MachineRow, look: Look, _now: int) -> Span:
    return text(gpus(machine.row.gpu_type, machine.row.gpu_count), look)


def _cpu(machine: MachineRow, _look: Look, now: int) -> Span:
    used = _said(machine, now)
    return ("-", "muted") if used is None or used.cpu_percent is None else (f"{used.cpu_percent} %", "text")


def _disk(machine: MachineRow, _look: Look, now: int) -> Span:
    used = _said(machine, now)
    return (
        ("-", "muted") if used is None or used.disk_free_mb is None else (f"{used.disk_free_mb / 1000:.0f} GB", "text")
    )


def _dollars(micros: int) -> str:
    return f"{micros / 1e6:.6f}"


def _utc(at: int | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at / 1000, UTC).isoformat()


MACHINE_COLUMNS: tuple[Column[MachineRow], ...] = (
    Column("id", "ID", 4, lambda m, _look, _now: (worker_label(m.id), "strong")),
    Column("state", "STATE", 11, lambda m, look, _now: look.state(m.row.state)),
    Column("job", "DOES", 24, phase, grow=2, most=44),
    Column("gpu", "GPU", 8, _gpu, grow=1, most=12),
    Column("use", "USE", 5, _use, right=True, value=lambda m, _now: m.used.gpu_percent if m.used else None),
    Column("temp", "TEMP", 4, _temperature, right=True, drop=6,
           value=lambda m, _now: m.used.gpu_temp_c if m.used else None),
    Column("memory", "GPU MEM", 10, _memory, right=True, drop=7,
           value=lambda m, _now: m.used.gpu_mem_mb if m.used else None),
    Column("rate", "$/H", 6, _rate, right=True, value=lambda m, _now: _dollars(m.row.rate)),
    Column("up", "UP", 6, _up, right=True, drop=5),
    Column("cost", "COST", 7, _cost, right=True, value=lambda m, _now: _dollars(m.row.cost)),
    Column("", "WHY", 20, _why, grow=3, drop=9),
    Column("", "PROVIDER", 8, lambda m, look, _now: text(m.row.provider, look, "muted"), optional=True),
    Column("", "MARKET", 9, lambda m, look, _now: text(m.row.market, look, "muted"), optional=True),
    Column("", "SERVER", 8, lambda m, look, _now: text(m.row.server_id, look, "muted"), optional=True),
    Column("", "ORDER", 8, lambda m, look, _now: text(m.row.order_id, look, "muted"), optional=True),
    Column("", "ADDRESS", 22, lambda m, look, now: address(m.row, look, now), optional=True),
    Column("", "CPU", 5, _cpu, right=True, optional=True),
    Column("", "DISK FREE", 9, _disk, right=True, optional=True),
    Column("", "ENDED", 8, lambda m, look, now: (look.when(m.row.ended_at, now), "muted"), optional=True,
           value=lambda m, _now: _utc(m.row.ended_at)),
)  # fmt: skip
