"""What is chosen of a checkpoint directory never holds a file that its writer has not finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.policy.completeness import SMALL_BYTES, Listing, complete, is_stream, is_temporary
from gpuscale_tui.policy.picking import pick, pick_at_end, without_torn, worth_waiting
from gpuscale_tui.policy.saving import Evictions, median_ms, named_step, suggested_interval_ms

SETTLE = 2_000
HOUR = 3_600_000


@dataclass(frozen=True)
class Seen:
    """An entry as a listing has it."""

    path: str
    size: int = 100_000
    mtime: int = 0
    kind: str = "file"
    changed_at: int = 0
    inode: int = 0
    target: str = ""

    @property
    def stamp(self) -> str:
        return f"{self.size} {self.mtime} {self.changed_at} {self.inode}" if self.kind == "file" else ""


def listing(clock: int, *files: Seen) -> Listing[Seen]:
    return Listing(clock, files)


def old(path: str, at: int = 1_000, **more: object) -> Seen:
    return Seen(path, **{"mtime": at, "changed_at": at, **more})  # type: ignore[arg-type]


def chosen(clock: int, *files: Seen, before: Listing[Seen] | None = None) -> set[str]:
    found = complete(listing(clock, *files), before, settle_ms=SETTLE, ended=False)
    return {each.path for each in found.files}


# One file at a time.


def test_a_file_is_complete_once_it_stood_still() -> None:
    assert chosen(3_000, old("a")) == {"a"}
    assert chosen(2_999, old("a")) == set()
    assert chosen(2_999, old("a", size=SMALL_BYTES)) == {"a"}, "written by one call"
    assert chosen(2_999, old("a", size=0)) == set(), "opened, and nothing written yet"


def test_a_clock_that_is_behind_the_files_says_nothing_two_looks_do() -> None:
    """A network file system stamps by its server's clock."""
    file, first = old("a", at=90_000), listing(10_000, old("a", at=90_000))
    assert chosen(11_000, file, before=first) == set()
    assert chosen(12_000, file, before=first) == {"a"}
    assert chosen(12_000, old("a", at=90_001), before=first) == set()


def test_renamed_into_its_place() -> None:
    before = listing(10_000, old("ckpt.tmp", at=9_900, inode=7))
    assert chosen(10_500, old("ckpt", at=9_900, inode=7), before=before) == {"ckpt"}
    assert chosen(10_500, old("ckpt", at=10_400, inode=8), before=before) == set()
    moved = replace(old("ckpt", at=10_000, inode=9), changed_at=10_300)
    assert chosen(10_500, moved) == {"ckpt"}
    touched = listing(10_200, old("ckpt", at=10_000, inode=9))
    assert chosen(10_500, moved, before=touched) == set(), "its rights were changed, it was not moved"


@pytest.mark.parametrize(
    "name",
    [
        "model.pt.tmp", "a.part", "a.partial", "a.incomplete", "tmp-checkpoint-500/model.safetensors", ".tmp_model",
        "x.lock", "model.pt~", "tmpab12cd_9", "checkpoint.tmp0a1b2c3d4e5f", "a.tempstate1234", ".metadata.tmp",
        "step_5.orbax-checkpoint-tmp-17/data", "_temp/part-0", "ckpt.pt.tmp.4711", ".nfs0001", "last_tmp",
    ],
)  # fmt: skip
def test_temporary_names_are_never_taken(name: str) -> None:
    assert is_temporary(name)
    assert chosen(10**9, old(name), old("model.pt")) == {"model.pt"}


@pytest.mark.parametrize(
    "name",
    ["model.tmpl", "attempt.pt", "template.json", "x.template", "tmpfs.md", "partial_fc.pt", "temp.pt", "departed",
     "lock.json", "checkpoint-5/model.safetensors", "epoch=3-step=1200.ckpt", "config.template.json"],
)  # fmt: skip
def test_names_that_only_look_temporary(name: str) -> None:
    assert not is_temporary(name)


def test_everything_counts_once_the_command_has_ended() -> None:
    files = (old("a", at=999), old("b.tmp"), Seen("pipe", kind="other"), Seen("d", kind="directory"))
    found = complete(listing(1_000, *files), None, settle_ms=SETTLE, ended=True)
    assert [each.path for each in found.files] == ["a", "b.tmp", "d"]
    assert [path for path, _ in found.ignored] == ["pipe"]


# Checkpoints of several files.


def trainer(number: int, at: int, *, state: bool = True) -> tuple[Seen, ...]:
    names = ("model.safetensors", "optimizer.pt", *(("trainer_state.json",) if state else ()))
    return tuple(old(f"checkpoint-{number}/{name}", at=at) for name in names)


def test_a_trainers_directory_waits_for_its_state() -> None:
    done = trainer(500, 1_000)
    assert chosen(9_000, *done) == {each.path for each in done}
    assert chosen(900_000, *done, *trainer(1000, 5_000, state=False)) == {each.path for each in done}
    model_only = old("checkpoint-1000/model.safetensors", at=5_000)
    assert chosen(900_000, *done, model_only) == {each.path for each in done}, "those beside it have one"
    assert chosen(900_000, model_only) == {model_only.path}, "another program's directory"


def shards(*parts: int, count: int = 3, at: int = 10_000) -> tuple[Seen, ...]:
    return tuple(old(f"model-{part:05d}-of-{count:05d}.safetensors", at=at) for part in parts)


def test_shards_wait_for_each_other_and_for_their_index() -> None:
    index = old("model.safetensors.index.json", at=10_500, size=90_000)
    assert chosen(900_000, *shards(1, 2)) == set()
    assert chosen(15_000, *shards(1, 2, 3)) == set()
    assert len(chosen(15_000, *shards(1, 2, 3), index)) == 4
    assert len(chosen(900_000, *shards(1, 2, 3))) == 3, "a program that writes none"
    newer = shards(1, at=13_000)
    assert chosen(16_000, *newer, *shards(2, 3), index) == {index.path}, "the next save has begun"


@pytest.mark.parametrize(
    ("part", "marker"),
    [
        ("dcp/__0_0.distcp", "dcp/.metadata"),
        ("global_step10/mp_rank_00_model_states.pt", "latest"),
        ("iter_0000010/mp_rank_00/model_optim_rng.pt", "latest_checkpointed_iteration.txt"),
    ],
)
def test_sharded_states_wait_for_what_tells_of_them(part: str, marker: str) -> None:
    assert part not in chosen(15_000, old(part, at=10_000))
    assert part not in chosen(15_000, old(part, at=10_000), old(marker, at=9_000))
    assert part in chosen(15_000, old(part, at=10_000), old(marker, at=10_000))


def test_marks_of_the_end_announce_at_once_and_are_missed() -> None:
    first = (old("step_1/model.bin", at=9_990), old("step_1/_SUCCESS", at=9_995, size=0))
    assert chosen(10_000, *first) >= {"step_1/model.bin"}
    late = old("step_1/more.bin", at=9_999)
    assert late.path not in chosen(10_000, *first, late)
    assert "step_2/model.bin" not in chosen(900_000, *first, old("step_2/model.bin", at=20_000))
    assert chosen(10_000, old("x.pt", at=9_999), old("x.pt.done", at=9_999, size=0)) >= {"x.pt"}


def test_links_and_directories_go_with_what_they_hold() -> None:
    link = Seen("last.ckpt", kind="link", target="run/epoch=2.ckpt")
    folder = Seen("run", kind="directory", mtime=9_000, changed_at=9_000)
    assert chosen(10_000, old("run/epoch=2.ckpt", at=9_500), folder, link) == set()
    assert chosen(12_000, old("run/epoch=2.ckpt", at=9_500), folder, link) == {"run", "run/epoch=2.ckpt", "last.ckpt"}


# What is done without.


def test_new_things_may_be_missing_what_is_overwritten_may_not() -> None:
    files = (old("a.pt"), old("new/x.pt", at=9_900), old("new/y.pt"))
    choice = complete(listing(10_000, *files), None, settle_ms=SETTLE, ended=False)
    found = pick(choice, {"a.pt"})
    assert [each.path for each in found.files] == ["a.pt"], "a new directory goes as a whole"
    assert {path for path, _ in found.left_out} == {"new/x.pt", "new/y.pt"}
    assert pick(choice, {"a.pt", "new/x.pt"}).blocked
    assert not pick(choice, {"a.pt", "new/x.pt"}).files


def test_what_is_appended_to_for_ever_does_not_keep_the_rest() -> None:
    log = old("run/events.out.tfevents.123", at=9_900)
    choice = complete(listing(10_000, old("run/a.pt"), log), None, settle_ms=SETTLE, ended=False)
    assert is_stream(log.path)
    assert not worth_waiting(choice, {})
    assert [each.path for each in pick(choice, {"run/a.pt", log.path}).files] == ["run/a.pt"]


def test_waited_for_in_vain_is_not_waited_for_again() -> None:
    choice = complete(listing(10_000, old("a.pt", at=9_900)), None, settle_ms=SETTLE, ended=False)
    assert worth_waiting(choice, {})
    assert not worth_waiting(choice, dict(choice.waiting))


def test_after_a_kill_what_was_written_last_is_suspect() -> None:
    """However long ago the kill was: the clock makes nothing whole."""
    files = (old("old.pt"), old("model.pt", at=50_000), old("part.pt.tmp", at=50_000), old("step", at=50_000, size=5))
    found = pick_at_end(listing(10**9, *files), {}, settle_ms=SETTLE, killed=True)
    assert {each.path for each in found.files} == {"old.pt", "model.pt", "step"}
    assert found.suspects == {"model.pt", "step"}
    known = {"model.pt": files[1].stamp}
    assert pick_at_end(listing(10**9, *files), known, settle_ms=SETTLE, killed=True).suspects == {"step"}
    orderly = pick_at_end(listing(10**9, *files), {}, settle_ms=SETTLE, killed=False)
    assert len(orderly.files) == 4
    assert not orderly.suspects


def test_what_turns_out_to_be_torn_is_left_out_or_spoils_all() -> None:
    files = (old("old.pt"), old("model.pt", at=50_000))
    found = pick_at_end(listing(60_000, *files), {}, settle_ms=SETTLE, killed=True)
    assert [each.path for each in without_torn(found, (("model.pt", "cut"),), {}).files] == ["old.pt"]
    spoilt = without_torn(found, (("model.pt", "cut"),), {"model.pt": "before"})
    assert spoilt.blocked
    assert not spoilt.files


# Any number of writers, looked at at any time.


@dataclass
class Disk:
    """A directory with a clock; each file knows whether its writer has finished it."""

    now: int = 1_000_000
    files: dict[str, Seen] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    inodes: int = 0

    def write(self, path: str, size: int, *, done: bool, new: bool = False) -> None:
        known = self.files.get(path)
        if known is None or new:
            self.inodes += 1
        inode = self.inodes if known is None or new else known.inode
        self.files[path] = Seen(path, size, self.now, changed_at=self.now, inode=inode)
        (self.unfinished.discard if done else self.unfinished.add)(path)

    def rename(self, source: str, target: str) -> None:
        moved = self.files.pop(source)
        self.files[target] = replace(moved, path=target, changed_at=self.now)
        self.unfinished -= {source, target}

    def listing(self) -> Listing[Seen]:
        return Listing(self.now, tuple(self.files[path] for path in sorted(self.files)))


Writer = Callable[[Disk, int], Iterator[None]]
BIG = 50_000


def in_place(disk: Disk, number: int) -> Iterator[None]:
    for _ in range(3):
        disk.write(f"model{number}.pt", 0, done=False)
        for size in (BIG, 2 * BIG):
            yield
            disk.write(f"model{number}.pt", size, done=False)
        yield
        disk.write(f"model{number}.pt", 3 * BIG, done=True)
        yield


def by_rename(disk: Disk, number: int) -> Iterator[None]:
    for _ in range(3):
        for size in (0, BIG, 2 * BIG):
            disk.write(f"best{number}.pt.tmp", size, done=False, new=size == 0)
            yield
        disk.rename(f"best{number}.pt.tmp", f"best{number}.pt")
        yield


def sharded(disk: Disk, number: int) -> Iterator[None]:
    for part in (1, 2):
        path = f"s{number}-{part:05d}-of-00002.safetensors"
        disk.write(path, BIG, done=False)
        yield
        disk.write(path, 2 * BIG, done=True)
        yield
    disk.write(f"s{number}.safetensors.index.json", 3_000, done=True)
    yield


def directories(disk: Disk, number: int) -> Iterator[None]:
    for step in (1, 2):
        folder = f"out{number}/checkpoint-{step}00"
        names = ("model.safetensors", "optimizer.pt", "trainer_state.json")
        disk.unfinished |= {f"{folder}/{name}" for name in names}
        for name in names:
            disk.write(f"{folder}/{name}", BIG, done=False)
            yield
        disk.unfinished -= {f"{folder}/{name}" for name in names}
        yield


WRITERS: tuple[Writer, ...] = (in_place, by_rename, sharded, directories)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_choice_ever_holds_a_file_that_is_half_written(data: st.DataObject) -> None:
    """Writers go on in any order, each with pauses shorter than the settling time; looks come at any moment."""
    disk = Disk()
    count = data.draw(st.integers(1, 4))
    active = [data.draw(st.sampled_from(WRITERS))(disk, number) for number in range(count)]
    before: Listing[Seen] | None = None
    turns = 0
    while active and turns < 120:
        turns += 1
        disk.now += data.draw(st.integers(1, SETTLE // (2 * count) - 1))
        writer = active[turns % len(active)]
        if next(writer, writer) is writer:
            active.remove(writer)
        if data.draw(st.booleans()):
            look = disk.listing()
            found = complete(look, before, settle_ms=SETTLE, ended=False)
            assert not {each.path for each in found.files} & disk.unfinished
            taken = {
                each.path for each in pick(found, set(data.draw(st.sets(st.sampled_from(sorted(disk.files)))))).files
            }
            assert not taken & disk.unfinished
            before = look
    disk.now += 100 * SETTLE
    finished = complete(disk.listing(), before, settle_ms=SETTLE, ended=False)
    assert {each.path for each in finished.files} | {path for path, _ in finished.waiting} >= set(disk.files) - {
        path for path in disk.files if is_temporary(path)
    }
    if not active:
        assert not finished.waiting


# How often.


def test_young_and_dalys_rule() -> None:
    """The example of the reference: a save of 30 s, a loss every 1.7 h: ten minutes."""
    assert suggested_interval_ms(30_000, round(1.7 * HOUR)) == pytest.approx(10 * 60_000, rel=0.02)
    assert suggested_interval_ms(0, HOUR) == 1_000
    assert suggested_interval_ms(3 * HOUR, HOUR) == HOUR


@given(save=st.integers(1, 10**8), between=st.integers(1, 10**10))
def test_an_interval_lies_between_a_save_and_a_loss(save: int, between: int) -> None:
    found = suggested_interval_ms(save, between)
    assert found >= min(save, between, 1_000)
    assert found <= max(between, 1_000)


def test_what_is_believed_fades_with_what_is_seen() -> None:
    assert Evictions(0, 0).between_ms == 24 * HOUR
    assert "assumed" in Evictions(0, 0).words
    assert Evictions(100 * HOUR, 49).between_ms == round(124 * HOUR / 50)
    assert "49 losses in 100.0 h" in Evictions(100 * HOUR, 49).words
    assert Evictions(1_000 * HOUR, 0).between_ms > 1_000 * HOUR


def test_steps_that_names_tell() -> None:
    assert named_step(["checkpoint-500/model.safetensors", "checkpoint-500/optimizer.pt"]) == 500
    assert named_step(["epoch=3-step=1200.ckpt"]) == 1200
    assert named_step(["global_step10/mp_rank_00_model_states.pt", "iter_0000020/x"]) == 20
    assert named_step(["model.pt", "ckpt_3.pt", "stepwise.bin", "checkpoint-7"]) is None
    assert median_ms([]) is None
    assert median_ms([5, 1, 9]) == 5
