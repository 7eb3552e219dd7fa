"""A home in the middle of an afternoon's work: a sweep half done, machines in every state, one of them lost on the way.

Made through the store's own commands at given times, so that the screen shows what the real engine would have written.
"""

from __future__ import annotations

import math
import random
import sqlite3
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from gpuscale_tui.model.jobs import Attempt, JobSpec, StartFrom
from gpuscale_tui.model.machines import Endpoint
from gpuscale_tui.model.money import Terms
from gpuscale_tui.model.offers import Offer
from gpuscale_tui.model.states import AttemptState, Cause, JobState
from gpuscale_tui.model.sweep import expand, parse_sweep
from gpuscale_tui.policy.output.parser import OutputParser
from gpuscale_tui.store import engines, jobs, logs, market, prices, progress, series, snapshots, spans, usage, workers
from gpuscale_tui.store.checkpoints import SnapshotMeta, SnapshotStore
from gpuscale_tui.store.database import Database
from gpuscale_tui.store.engines import Limits
from gpuscale_tui.store.home import Home
from gpuscale_tui.store.progress import JobProgress, Usage
from gpuscale_tui.store.series import Parsed, Point
from gpuscale_tui.store.workers import Adoption, Intent

NOW = int(datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
CAP = 4_000_000
IMAGE = "pytorch/pytorch:2.4.0-cuda12.1-cudnn9-runtime"
SECOND = 1_000


def ago(minutes: float) -> int:
    """UTC ms of so many minutes before NOW."""
    return NOW - round(minutes * MINUTE)


@dataclass
class Writer:
    """Writes the afternoon, one command after the other, at the times given."""

    home: Home
    db: Database
    epoch: int = 0
    running: dict[int, Attempt] = field(default_factory=dict)

    def offer(self, server: str, gpu: str, price: float, count: int = 1) -> Offer:
        """A machine of the market; `price` is dollars an hour."""
        return Offer(
            provider="clore", server_id=server, gpu_type=gpu, gpu_count=count, terms=Terms(round(price * 1e6)),
            reliability=0.97, country="DE",
        )  # fmt: skip

    def rent(self, spec: JobSpec, offer: Offer, minutes: float, why: str) -> int:
        """Write an intent; the worker is `ordering`."""
        intent = Intent(f"t{minutes}-{offer.server_id}", offer, spec.need, why, frozenset(), 20_000_000, 20)
        worker = self.db.write(workers.write_intent, intent, now=ago(minutes), epoch=self.epoch)
        assert not isinstance(worker, workers.CapReached), worker
        return worker.id

    def boot(self, worker: int, order: str, minutes: float) -> None:
        """The order exists."""
        place = Adoption(order, ago(minutes), Endpoint(f"n{order[-2:]}.clore.example", 4000 + worker))
        self.db.write(workers.adopt, worker, place, now=ago(minutes), epoch=self.epoch)

    def ready(self, worker: int, minutes: float) -> None:
        """SSH answers."""
        self.db.write(workers.became_ready, worker, "ssh-ed25519 AAAA", now=ago(minutes), epoch=self.epoch)

    def start(self, job: int, worker: int, minutes: float) -> None:
        """A job begins to run."""
        attempt = self.db.write(jobs.place, job, worker, now=ago(minutes), epoch=self.epoch)
        assert attempt is not None
        for state, later in ((AttemptState.STAGING, 0.05), (AttemptState.RUNNING, 0.2)):
            attempt = self.db.write(jobs.advance_attempt, attempt, state, now=ago(minutes - later), epoch=self.epoch)
        self.running[job] = attempt

    def save(self, job: int, number: int, minutes: float, size: int = 48_234_112) -> None:
        """A snapshot was fetched."""
        attempt = self.running[job].number
        self.db.write(
            snapshots.record_snapshot, job, number, attempt, 3, size, now=ago(minutes), epoch=self.epoch
        )  # fmt: skip

    def end(
        self, job: int, minutes: float, *, cause: Cause, state: JobState, code: int | None = 0, error: str = ""
    ) -> None:
        """A job's attempt ends."""
        ending = jobs.Ending(cause, state, code, error or None)
        self.db.write(jobs.end_attempt, self.running.pop(job), ending, now=ago(minutes), epoch=self.epoch)

    def book(self, worker: int, held_minutes: float, price: float, minutes: float = 0) -> None:
        """What a machine has cost."""
        total = round(price * 1e6 * held_minutes / 60)
        self.db.write(spans.book, worker, total, ago(minutes), billed=False)


def specs() -> list[JobSpec]:
    """What was submitted: a sweep, some single jobs, seeds that wait."""
    sweep = JobSpec(
        image=IMAGE, command="python train.py --lr {lr} --batch {batch} --out $CHECKPOINT_DIR", name="charlm",
        gpu_type="RTX 4090", max_price=480_000, priority=4, project="charlm", max_runtime_sec=7200,
        workdir="/home/ada/charlm", env={"WANDB_MODE": "offline"}, user="ada",
    )  # fmt: skip
    ablation = JobSpec(
        image=IMAGE, command="python ablate.py --seed {seed}", name="ablation", gpu_type="RTX 4090",
        max_price=480_000, priority=6, project="charlm", user="ada",
    )  # fmt: skip
    single = [
        ("resnet50 mixed precision", "RTX 3090", 1, 5, "vision"),
        ("whisper-small finetune de", "RTX 4090", 1, 3, "speech"),
        ("tokenizer", None, 1, 5, "charlm"),
        ("gpt2-medium from scratch", "A100", 2, 7, "charlm"),
        ("eval on held-out set", "RTX 3090", 1, 2, "charlm"),
    ]
    alone = [
        JobSpec(image=IMAGE, command=f"python {name.split()[0]}.py", name=name, gpu_type=gpu, gpu_count=count,
                priority=priority, project=project, user="ada", max_price=900_000 if gpu == "A100" else None)
        for name, gpu, count, priority, project in single
    ]  # fmt: skip
    return [
        *expand(sweep, parse_sweep("lr=1e-3,5e-4,2e-4 batch=16,32,64")), *alone,
        *expand(ablation, parse_sweep("seed=1..8")),
    ]  # fmt: skip


def make(path: Path, *, quiet: bool = False) -> Home:
    """Make the home; `quiet` leaves out the engine's row, as if none had ever run."""
    home = Home(path)
    home.ensure()
    with Database(home.database) as db:
        writer = Writer(home, db)
        wanted = specs()
        if not quiet:
            writer.epoch = db.write(engines.begin_epoch, 4121, "screen", Limits(CAP, 8), ago(96))
        db.write(jobs.insert, wanted, ago(94))
        _afternoon(writer, wanted)
        _market(writer)
        db.write(engines.heartbeat, NOW - 2 * SECOND, "watching 7 machines")
        add_checkpoints(home, db)
        add_saving(db)
        add_market(db)
    _logs(home)
    add_pages(home)
    return home


def _first_hour(w: Writer, lr: JobSpec, vision: JobSpec) -> tuple[int, int]:
    """Three machines, one of them lost, one job failed; the two that are left."""
    queue = "9 jobs wait for an RTX 4090 and none is on its way"
    w1 = w.rent(lr, w.offer("10442", "RTX 4090", 0.41), 93.5, queue)
    w2 = w.rent(lr, w.offer("20917", "RTX 4090", 0.38), 93, "8 jobs wait for an RTX 4090, 1 is on its way")
    w.boot(w1, "771203", 93.2)
    w.boot(w2, "771207", 92.8)
    w.ready(w1, 91)
    w.start(1, w1, 90.9)
    w.ready(w2, 90.5)
    w.start(2, w2, 90.4)
    w.save(1, 1, 75)
    w.save(2, 1, 74)
    w.end(1, 62, cause=Cause.FINISHED, state=JobState.DONE)
    w.start(3, w1, 61.9)
    w.save(2, 2, 60)
    w3 = w.rent(vision, w.offer("31377", "RTX 3090", 0.19), 60, "1 job waits for an RTX 3090")
    w.boot(w3, "771311", 59.6)
    w.ready(w3, 58)
    w.start(10, w3, 57.9)
    w.end(2, 57, cause=Cause.PREEMPTED, state=JobState.PENDING, code=None, error="the host took the machine away")
    w.db.write(workers.confirm_gone, w2, "the host took it away", cause=Cause.PREEMPTED, now=ago(56.8), epoch=w.epoch)
    w.book(w2, 36, 0.38, 56.8)
    w.end(10, 50, cause=Cause.USER_ERROR, state=JobState.FAILED, code=1, error="RuntimeError: CUDA out of memory")
    w.start(14, w3, 49.9)
    return w1, w3


def _afternoon(w: Writer, wanted: list[JobSpec]) -> None:
    lr, vision, speech = wanted[0], wanted[9], wanted[10]
    w1, w3 = _first_hour(w, lr, vision)
    w4 = w.rent(lr, w.offer("40118", "RTX 4090", 0.44), 49, "a machine was lost: 7 jobs wait for an RTX 4090")
    w.boot(w4, "771340", 48.7)
    w.ready(w4, 46)
    resumed = w.db.write(jobs.place, 2, w4, now=ago(45.9), epoch=w.epoch)
    assert resumed is not None
    w.db.write(jobs.record_resume, resumed, StartFrom(2, 2), now=ago(45.85), epoch=w.epoch)
    for state, minutes in ((AttemptState.STAGING, 45.8), (AttemptState.RUNNING, 45.6)):
        resumed = w.db.write(jobs.advance_attempt, resumed, state, now=ago(minutes), epoch=w.epoch)
    w.running[2] = resumed
    w5 = w.rent(speech, w.offer("51920", "RTX 4090", 0.46), 45, "6 jobs wait for an RTX 4090, none is on its way")
    w.boot(w5, "771352", 44.6)
    w.ready(w5, 42)
    w.start(11, w5, 41.9)
    w.end(3, 33, cause=Cause.FINISHED, state=JobState.DONE)
    w.start(4, w1, 32.9)
    w.end(14, 31, cause=Cause.FINISHED, state=JobState.DONE)
    w.save(2, 3, 30)
    w.save(11, 1, 28, 483_120_331)
    w.db.write(workers.begin_release, w3, "idle for 120 s and no job needs an RTX 3090", now=ago(28.9), epoch=w.epoch)
    w.db.write(workers.confirm_gone, w3, "absent from two listings", cause=None, now=ago(28), epoch=w.epoch)
    w.book(w3, 31.6, 0.19, 28)
    w.end(2, 17, cause=Cause.FINISHED, state=JobState.DONE)
    w.start(5, w4, 16.9)
    w.save(4, 1, 14)
    w.db.write(jobs.request_cancel, [22], ago(12), "ada")
    w6 = w.rent(lr, w.offer("60233", "RTX 4090", 0.39), 11, "12 jobs wait, 3 or more rent one more")
    w.boot(w6, "771398", 10.7)
    w.ready(w6, 8)
    w.start(6, w6, 7.9)
    w.save(5, 1, 4)
    w.save(11, 2, 3, 483_120_331)
    w7 = w.rent(lr, w.offer("70551", "RTX 4090", 0.42), 2.2, "11 jobs wait, 3 or more rent one more")
    w.boot(w7, "771420", 1.8)
    w.rent(lr, w.offer("82004", "RTX 4090", 0.45), 0.3, "10 jobs wait, 3 or more rent one more")
    _settle(w, {w1: (93.2, 0.41), w4: (48.7, 0.44), w5: (44.6, 0.46), w6: (10.7, 0.39), w7: (1.8, 0.42)})


def _settle(w: Writer, held: dict[int, tuple[float, float]]) -> None:
    for worker, (minutes, price) in held.items():
        w.book(worker, minutes, price)
        w.db.write(workers.contacted, worker, NOW - 3 * SECOND)
    w.db.write(workers.explain, [(7, "boots since 108 s; such machines took 2 to 4 minutes so far")])
    waiting = {job.spec.need.key: job.spec.need for job in w.db.read(jobs.pending)}
    reasons = {}
    for key, need in waiting.items():
        if need.gpu_type == "A100":
            words = "no offer: the cheapest machine with 2 A100 costs $2.94/h, $1.14/h over its limit of $0.90 each"
        elif need.gpu_type is None:
            words = "next in line: w7 takes it as soon as it has booted"
        else:
            words = "$2.57/h of the cap of $4.00/h are committed; 2 machines for this group are on their way"
        reasons[key] = ("wait", words)
    w.db.write(engines.explain_groups, reasons, NOW - 4 * SECOND)


def _market(w: Writer) -> None:
    dice = random.Random(7)  # noqa: S311 - a picture, not a secret
    kinds = (("RTX 4090", 0.38), ("RTX 4090", 0.44), ("RTX 3090", 0.18), ("A100", 1.47), ("RTX 4080", 0.29))
    judged = []
    for number in range(28):
        gpu, base = kinds[number % len(kinds)]
        count = 2 if gpu == "A100" else dice.choice((1, 1, 1, 2))
        price = base * count * dice.uniform(0.92, 1.35)
        found = Offer(
            provider="clore", server_id=str(dice.randint(10_000, 99_999)), gpu_type=gpu, gpu_count=count,
            terms=Terms(round(price * 1e6)), reliability=round(dice.uniform(0.74, 0.999), 3),
            country=dice.choice(("DE", "FI", "US", "NL", "PL", "CA")),
        )  # fmt: skip
        judged.append((found, _verdict(found)))
    for gpu in dict.fromkeys(kind for kind, _ in kinds):
        w.db.write(market.replace, "clore", gpu, [pair for pair in judged if pair[0].gpu_type == gpu], ago(0.4))


def _verdict(offer: Offer) -> str:
    if (offer.reliability or 0) < 0.8:
        return "reliability below 0.8"
    limit = 900_000 if offer.gpu_type == "A100" else 480_000
    return f"over the price limit of ${limit / 1e6:.2f}/h per GPU" if offer.rate_per_gpu > limit else ""


def _logs(home: Home) -> None:
    connection = logs.connect_logs(home.logs)
    try:
        for job, attempt, steps in (
            (1, 1, 400),
            (2, 1, 220),
            (2, 2, 310),
            (4, 1, 420),
            (5, 1, 190),
            (6, 1, 64),
            (11, 1, 240),
        ):
            logs.append(connection, job, attempt, 0, training(job, attempt, steps).encode())
            out_of_memory = (
                'Traceback (most recent call last):\n  File "resnet50.py", line 88, in <module>\n    main()\n'
                "RuntimeError: CUDA out of memory. Tried to allocate 2.50 GiB\n"
            )
        logs.append(connection, 10, 1, 0, (training(10, 1, 40) + out_of_memory).encode())
    finally:
        connection.close()


def training(job: int, attempt: int, steps: int) -> str:
    """What a training script prints."""
    dice = random.Random(job)  # noqa: S311 - a picture, not a secret
    first = 0 if attempt == 1 else 220
    lines = [f"charlm: 4.8M parameters, device cuda:0, {'fresh start' if not first else 'resumed at step 2200'}"]
    for step in range(first + 1, first + steps + 1):
        loss = 1.35 + 2.9 / (1 + step / 22) + dice.uniform(-0.03, 0.03)
        speed = dice.uniform(41.2, 43.9)
        lines.append(f"epoch {step // 100 + 1:>2}  step {step * 10:>6}  loss {loss:.4f}  {speed:.1f} it/s  lr 5.00e-04")
        if step % 100 == 0:
            lines.append(f"saved checkpoint step_{step * 10}.pt (48.2 MB), validation loss {loss + 0.07:.4f}")
    return "\n".join(lines) + "\n"


def add_checkpoints(home: Home, db: Database) -> None:
    """Small files for the snapshots that are kept, one of them gone and one broken; the step that each was taken at."""
    store = SnapshotStore(home.checkpoints)
    names = ("model.pt", "optimizer.pt", "state/rng.bin")
    for row in reversed(db.read(snapshots.kept)):
        if (row.job_id, row.number) == (1, 1):
            continue
        draft = store.begin(row.job_id, after=row.number - 1)
        for name in names:
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_text(f"{name} of j{row.job_id}/{row.number}\n")
        meta = SnapshotMeta(row.job_id, row.attempt, 1, row.at)
        made = store.commit(draft, dict.fromkeys(names, 0o644), meta)
        if (row.job_id, row.number) == (2, 1):
            (made.files_path / "optimizer.pt").unlink()
    db.connection.execute("UPDATE snapshots SET step = number * 1200 WHERE job_id <> 11")


def add_saving(db: Database) -> None:
    """What is known of snapshots beside their files: why they were taken, how long that took, what they added; one is
    pinned, one was verified an hour later. What the first end of j2 cost, and that its move was rehearsed."""
    write = db.connection.execute
    write("UPDATE snapshots SET loss = 1.35 + 2.9 / (1 + step / 220.0), epoch = step / 1000.0 WHERE step IS NOT NULL")
    write("UPDATE snapshots SET took_ms = 1400 + bytes / 90000, stored = bytes / min(number, 3)")
    write("UPDATE snapshots SET kind = 'last' WHERE (job_id, number) IN ((1, 1), (2, 3))")
    write("UPDATE snapshots SET kind = 'asked', pinned_at = ? WHERE job_id = 2 AND number = 2", (ago(58),))
    write("UPDATE snapshots SET checked_at = at + 600000 WHERE (job_id, number) IN ((2, 3), (11, 1))")
    write("UPDATE attempts SET lost_ms = 252000, lost_cost = 31000, lost_steps = 170 WHERE job_id = 2 AND number = 1")
    write("UPDATE attempts SET resumed_step = 2400, first_step = 2410 WHERE job_id = 2 AND number = 2")
    detail = "resume verified: step 2,410 came after snapshot 2 at step 2,400"
    write("UPDATE jobs SET rehearsal = 'verified', rehearsal_detail = ? WHERE id = 2", (detail,))


def add_market(db: Database) -> None:
    """The offers as the planner ranks them for what waits, with their hardware, and a week of prices."""
    waiting = {job.spec.need.key: job.spec.need for job in db.read(jobs.pending)}
    rows = db.read(market.offers)
    for gpu in dict.fromkeys(row.gpu_type for row in rows):
        mine = [row for row in rows if row.gpu_type == gpu]
        good = sorted((row for row in mine if not row.verdict), key=lambda row: row.rate / (row.reliability or 1))
        serves = tuple(key for key, need in waiting.items() if need.gpu_type == gpu)
        judged = [_as_ranked(db, row, good, serves) for row in mine]
        db.write(market.replace, "clore", gpu, judged, ago(0.4))
    dice = random.Random(11)  # noqa: S311 - a picture, not a secret
    for hour in range(24 * 7, 0, -1):
        level = 1.06 + 0.12 * math.sin(hour / 9) + dice.uniform(-0.04, 0.04)
        offers = [found for row in rows if (found := _offer_of(db, row)) is not None]
        dearer = [replace(each, terms=Terms(round(each.terms.rate * level))) for each in offers]
        db.write(prices.note, dearer, NOW - hour * 60 * MINUTE)


def _offer_of(db: Database, row: market.OfferRow) -> Offer | None:
    return db.read(market.offer, row.provider, row.server_id, row.market)


def _as_ranked(
    db: Database, row: market.OfferRow, good: list[market.OfferRow], serves: tuple[str, ...]
) -> tuple[Offer, market.Judgement]:
    found = _offer_of(db, row)
    assert found is not None
    found = replace(
        found, owner=str(int(row.server_id) % 9 + 100), ram_gb=64.0, cpu_threads=16, disk_gb=250.0, gpu_memory_gb=24.0,
        net_down_mbps=820.0, cuda_version="12.4", pcie_gen=4, pcie_width=16, max_hours=240.0, rating=4.6,
    )  # fmt: skip
    if row.verdict:
        return found, market.Judgement(row.verdict)
    reliability = row.reliability or 1
    expected = round(row.rate / reliability)
    reason = f"an hour of work: ${expected / 1e6:.3f} (price ${row.rate / 1e6:.3f}/h, reliability {reliability:.1%})"
    if row.rate > 1_410_000:
        reason += f"; not now: the cap lacks ${(row.rate - 1_410_000) / 1e6:.3f}/h"
    return found, market.Judgement("", good.index(row) + 1, expected, reason.replace("%", " %"), serves)


RUNS = (
    (2, 1, 90.2, 57.0),
    (2, 2, 45.6, 17.0),
    (4, 1, 32.7, 0.1),
    (5, 1, 16.7, 0.1),
    (6, 1, 7.7, 0.1),
    (11, 1, 41.7, 0.1),
)
"""Jobs and attempts whose output tells metrics, with when (minutes ago) their commands began and ended or are now."""
MACHINES = ((1, 91.0, 93, 71, 18_200), (4, 46.0, 88, 66, 17_400), (5, 42.0, 97, 84, 22_900), (6, 8.0, 7, 48, 3_100))
"""Machines with since when (minutes ago) they say what they use: GPU percent, degrees, MB of GPU memory."""


def add_pages(home: Home) -> None:
    """What the jobs' output told, how far they are, and what the machines use."""
    connection = logs.connect_logs(home.logs)
    try:
        known = [_told(connection, *run) for run in RUNS]
        with connection:
            usage.add_usage(connection, [each for machine in MACHINES for each in _used(*machine)])
    finally:
        connection.close()
    with Database(home.database) as db:
        db.write(progress.record, known[2:], [_used(*machine)[-1] for machine in MACHINES])


def _told(connection: sqlite3.Connection, job: int, attempt: int, since: float, until: float) -> JobProgress:
    """Keep the metrics of an attempt's output, and say how far it is."""
    size = logs.size(connection, job, attempt)
    parser = OutputParser()
    points: dict[str, list[Point]] = {}
    lines = logs.read(connection, job, attempt, 0, size).decode().splitlines()
    for number, line in enumerate(lines, 1):
        reading = parser.feed(line)
        for name, value in reading.values.items() if reading is not None else ():
            at = ago(since + (until - since) * number / len(lines))
            points.setdefault(name, []).append(Point(at, reading.step if reading is not None else None, value))
    with connection:
        series.keep(connection, [Parsed(job, attempt, 0, size, points)])
    last = points["loss"][-1]
    step, speed = last.step or 0, (last.step or 0) / (since - until) / 60
    part = step / 6000
    left = round((6000 - step) / speed * SECOND)
    return JobProgress(job, attempt, last.at, step, 6000, step // 1000 + 1, 6, part, last.value, speed, left)


def _used(worker: int, since: float, percent: int, heat: int, memory: int) -> list[Usage]:
    """A reading every ten seconds: it begins with loading, and validates now and then."""
    dice = random.Random(worker)  # noqa: S311 - a picture, not a secret
    found = []
    for number in range(round(since * 6)):
        rests = number < 4 or number % 60 < 3
        found.append(
            Usage(
                worker, ago(since) + number * 10 * SECOND, 4 if rests else min(100, percent + dice.randint(-4, 3)),
                memory // (9 if number < 4 else 1), 24_000, heat - (9 if rests else dice.randint(0, 2)),
                dice.randint(18, 41), 11_000 + number, 64_000, 182_000 - 3 * number,
            )
        )  # fmt: skip
    return found
