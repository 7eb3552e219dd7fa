"""What is written in a form comes back as it was: from jobs, an editor, after the program's end; never a secret."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuscale_tui.model.budget import Scope
from gpuscale_tui.model.jobs import Job, JobSpec, StartFrom, is_secret_name
from gpuscale_tui.model.offers import Market
from gpuscale_tui.model.settings import BudgetConfig, Settings
from gpuscale_tui.model.states import JobState
from gpuscale_tui.model.sweep import fill
from gpuscale_tui.policy.forecast import Duration, Range
from gpuscale_tui.policy.world import Allowance
from gpuscale_tui.store.market import OfferRow
from gpuscale_tui.store.views import Spend
from gpuscale_tui.tui import draft
from gpuscale_tui.tui.draft import NAMES, check
from gpuscale_tui.tui.form import jobtoml, origin
from gpuscale_tui.tui.form.directories import subdirectories
from gpuscale_tui.tui.form.editor import EditorError, command_of, edit
from gpuscale_tui.tui.form.keeping import MOST, Drafts
from gpuscale_tui.tui.form.meanings import env_lines, env_meaning, env_rows, sweep_line, sweep_meaning, sweep_rows
from gpuscale_tui.tui.form.rows_editor import Row
from gpuscale_tui.tui.form.templates import templates, unfilled
from gpuscale_tui.tui.preview import Surroundings, preview

BARE = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=12).filter(
    lambda text: text[0].isalnum()
)
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40)
VARIABLE = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)


def is_plain(name: str) -> bool:
    """Whether a variable may be given and is shown."""
    return not name.startswith("GPUSCALE_") and not is_secret_name(name)


VARIABLES = st.dictionaries(VARIABLE.filter(is_plain), PLAIN | st.just(""), max_size=3)


@st.composite
def specs(pick: st.DrawFn) -> JobSpec:
    """Any job that the form can ask for."""
    return JobSpec(
        image=pick(BARE), command=pick(PLAIN.map(lambda text: f"x{text}x")), name=pick(st.just("") | BARE),
        gpu_type=pick(st.sampled_from(["RTX 4090", "A100", None])), gpu_count=pick(st.integers(1, 64)),
        max_price=pick(st.none() | st.integers(1, 10**9)), priority=pick(st.integers(1, 10)),
        max_runtime_sec=pick(st.none() | st.integers(1, 10**6)), env=pick(VARIABLES),
        secret_env={"HF_TOKEN": pick(PLAIN)}, workdir=pick(st.none() | BARE.map(lambda text: f"/{text}")),
        checkpoint_dir=pick(st.none() | BARE), project=pick(st.none() | BARE),
        provider=pick(st.sampled_from([None, "clore", "ssh"])), market=pick(st.sampled_from([None, *Market])),
        retries=pick(st.none() | st.integers(0, 10_000)), user="ada",
        start_from=pick(st.none() | st.builds(StartFrom, st.integers(1, 10**6), st.integers(1, 10**6))),
    )  # fmt: skip


def job(spec: JobSpec, job_id: int = 1, **changes: object) -> Job:
    """A job that waits."""
    made = Job(job_id, spec, JobState.PENDING, 0, 0, 0, None, None, None, None, None, None, None, None, 0)
    return replace(made, **changes)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(spec=specs())
def test_a_job_becomes_texts_and_the_same_job_again(spec: JobSpec) -> None:
    """Whatever stands in its values: quotes, line ends, other scripts, exact prices."""
    texts = draft.of_job(job(spec), Settings())
    checked = check(texts, "ada")
    assert not checked.errors
    assert checked.specs == (spec,)
    assert draft.of_job(job(checked.specs[0]), Settings()) == texts


@settings(max_examples=150, deadline=None)
@given(spec=specs())
def test_the_editor_gives_back_what_it_was_given(spec: JobSpec) -> None:
    """The job file of a form, read back unchanged, is the form; no secret is in it."""
    spec = replace(spec, secret_env={"HF_TOKEN": "hunter2-and-more"})
    texts = draft.of_job(job(spec), Settings())
    document = jobtoml.written(texts)
    assert "hunter2" not in document
    found = jobtoml.read(document, texts)
    assert found.errors == {}
    assert check(found.texts, "ada").specs == (spec,)


@settings(max_examples=150, deadline=None)
@given(values=st.dictionaries(st.sampled_from(NAMES), st.text(max_size=30), max_size=8))
def test_half_written_fields_survive_the_editor(values: dict[str, str]) -> None:
    """Also those that are wrong: they come back to be put right."""
    texts = {**draft.empty(Settings()), **values}
    found = jobtoml.read(jobtoml.written(texts), texts)
    assert found.errors == {}
    same = {name: text.strip() for name, text in texts.items() if name not in {"env", "sweep", "secret"}}
    assert {name: found.texts[name] for name in same} == same
    assert found.texts["sweep"].split() == texts["sweep"].split()
    if draft.is_readable(texts["env"].strip()):
        assert draft.variables(found.texts["env"]) == draft.variables(draft.without_secrets(texts["env"]))
    elif not is_secret_name(texts["env"]):
        assert found.texts["env"].strip() == texts["env"].strip()


@pytest.mark.parametrize(
    ("document", "field", "words"),
    [
        ("[[jobs]\n", "", "no valid TOML"),
        ("[[jobs]]\n[[jobs]]\n", "", "one [[jobs]] table"),
        ("x = 1", "", "is no table"),
        ("[[jobs]]\nimagee = 'x'", "", "did you mean 'image'"),
        ("[[jobs]]\nsecret = 'x'", "", "stay in the form"),
        ("[[jobs]]\ncommand = true", "command", "a text or a number"),
        ("[[jobs]]\nenv = { HF_TOKEN = 'x' }", "env", "no secrets"),
        ("[[jobs]]\nenv = 3", "env", "a table"),
        ("[[jobs]]\nsweep = 3", "sweep", "a list"),
        ("[[jobs]]\nsweep = ['a b=1']", "sweep", "without blanks"),
    ],
)
def test_what_is_wrong_in_the_file_stands_at_its_field(document: str, field: str, words: str) -> None:
    """And what was there before stays."""
    before = {**draft.empty(Settings()), "command": "x", "env": "A=1", "sweep": "lr=1"}
    found = jobtoml.read(document, before)
    assert list(found.errors) == [field]
    assert words in found.errors[field]
    assert not field or found.texts[field] == before[field]


def test_a_table_of_lists_is_a_sweep_too() -> None:
    """As in job files."""
    found = jobtoml.read(
        "[[jobs]]\ncommand = 'x {lr}'\nsweep = { lr = [0.1, 0.2], seed = '1..3' }", draft.empty(Settings())
    )
    assert found.texts["sweep"] == "lr=0.1,0.2 seed=1..3"


def test_the_editor_works_on_a_private_file_that_goes_away(tmp_path: Path) -> None:
    """0600 while it is open; gone afterwards, also after a failure."""
    script = tmp_path / "editor.sh"
    script.write_text('#!/bin/sh\nstat -c %a "$1" > "$0.mode"\nprintf changed > "$1"\n')
    script.chmod(0o755)
    place = tmp_path / "home"
    place.mkdir()
    assert edit("before", place, {"EDITOR": str(script)}) == "changed"
    assert Path(f"{script}.mode").read_text().strip() == "600"
    assert list(place.iterdir()) == []
    with pytest.raises(EditorError, match="ended with 1"):
        edit("before", place, {"VISUAL": "false", "EDITOR": str(script)})
    with pytest.raises(EditorError, match="no-such-editor"):
        edit("before", place, {"EDITOR": "no-such-editor --wait"})
    script.write_text("#!/bin/sh\nprintf '\\377' > \"$1\"\n")
    with pytest.raises(EditorError, match="UTF-8"):
        edit("before", place, {"EDITOR": str(script)})
    assert list(place.iterdir()) == []
    assert command_of({"VISUAL": "code --wait", "EDITOR": "vi"}) == ["code", "--wait"]
    with pytest.raises(EditorError, match="cannot be read"):
        command_of({"EDITOR": "vi 'open"})


def test_drafts_are_private_whole_and_without_secrets(tmp_path: Path) -> None:
    """Also those that were just typed in the wrong line; the names are kept, to say which are missing."""
    drafts = Drafts(tmp_path / "drafts.json")
    texts = {**draft.empty(Settings()), "command": "x", "env": "A=1 X_TOKEN=hunter2", "secret": "HF_TOKEN=hunter2"}
    drafts.put("new", texts, 5)
    drafts.save_latest()
    assert stat.S_IMODE(drafts.path.stat().st_mode) == 0o600
    assert "hunter2" not in drafts.path.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["drafts.json"]
    again = Drafts(drafts.path)
    again.load()
    left = again.get("new")
    assert left is not None
    assert (left.texts["command"], left.texts["env"], left.at) == ("x", "A=1", 5)
    assert left.lost == ("HF_TOKEN", "X_TOKEN")
    assert left.texts["secret"] == "HF_TOKEN= X_TOKEN="
    for number in range(MOST + 5):
        again.put(f"clone:j{number}", texts, number)
    assert again.get("new") is None
    assert again.drop("clone:j24")
    assert not again.drop("clone:j24")


@pytest.mark.parametrize("content", ["", "[]", '{"drafts": {"new": 3}}', '{"drafts": {"new": {"texts": []}}}', "\x00"])
def test_a_file_of_drafts_that_makes_no_sense_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    """The form opens empty."""
    (tmp_path / "drafts.json").write_text(content)
    drafts = Drafts(tmp_path / "drafts.json")
    drafts.load()
    assert drafts.get("new") is None


@given(line=st.text(max_size=40))
def test_no_secret_passes_unseen(line: str) -> None:
    """Whatever the line: what is taken for harmless names no secret."""
    assert not any(is_secret_name(name) for name, _ in draft.variables(draft.without_secrets(line)))


def test_a_sweep_is_put_together_again_from_its_jobs() -> None:
    """Each kind of job once, the newest first; values in the order in which they were submitted."""
    swept = check(
        {**draft.empty(Settings()), "command": "t.py --lr {lr} --n {n}", "name": "run", "sweep": "lr=1e-3,5e-4 n=1..2"},
        "ada",
    ).specs
    jobs = [job(spec, number) for number, spec in enumerate(swept, 1)]
    jobs.append(job(JobSpec(image="x", command="other", name="o", secret_env={"HF_TOKEN": "v"}), 9))
    newest, sweep = templates(reversed(jobs), Settings())
    assert (newest.texts["command"], newest.jobs, newest.id) == ("other", 1, 9)
    assert (sweep.texts["command"], sweep.texts["name"]) == ("t.py --lr {lr} --n {n}", "run")
    assert (sweep.texts["sweep"], sweep.jobs, sweep.id) == ("lr=1e-3,5e-4 n=1,2", 4, 4)
    assert check(sweep.texts, "ada").specs == swept


@given(command=st.text(max_size=60), params=st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=5)))
def test_places_for_values_give_the_same_command(command: str, params: dict[str, str]) -> None:
    """Where they would not, it stays as it was."""
    given_back = unfilled(command, params)
    assert given_back == command or fill(given_back, params) == command


def test_a_copy_of_a_swept_job_has_its_values_as_a_sweep_of_one() -> None:
    """Its command may read them from the environment."""
    spec = check({**draft.empty(Settings()), "command": "t.py", "name": "run", "sweep": "lr=1,2"}, "ada").specs[1]
    copy = origin.clone(job(spec), Settings())
    assert (copy.base["sweep"], copy.base["name"]) == ("lr=2", "run")
    assert check(copy.base, "ada").specs == (spec,)
    branch = origin.branch(job(spec, 4), StartFrom(4, 2), 1200, Settings())
    assert branch.title == "branch of j4 run lr=2 from snapshot 2 at step 1,200"
    assert branch.changed({**branch.base, "priority": "1"}) == {"priority": ("5", "1")}
    assert (branch.key, origin.edit(job(spec, 4), Settings()).key, origin.new(Settings()).key) == (
        "branch:j4/2", "edit:j4", "new",
    )  # fmt: skip


def test_what_the_rows_of_a_sweep_mean() -> None:
    """The number of jobs, the first commands, what is wrong."""
    texts = {**draft.empty(Settings()), "command": "t.py {lr}"}
    rows = sweep_rows("lr=1,2 seed=1..3")
    assert sweep_line([*rows[:1], Row("seed", "1, 2 , 3")]) == "lr=1,2 seed=1,2,3"
    lines, wrong = sweep_meaning(rows, texts)
    shown = ["".join(text for text, _ in line) for line in lines]
    assert wrong == ""
    assert shown[0] == " 6 jobs = 2 x 3"
    assert shown[1] == "   t.py 1"
    assert shown[-2:] == ["   and 2 more", " {seed} is not in the command: the job sees it as GPUSCALE_PARAM_LR"]
    assert sweep_meaning([Row("a", "1..200"), Row("b", "1..200")], texts)[1] == "at most 10,000 jobs at once"
    assert "NAME=VALUE" in sweep_meaning([Row("", "1")], texts)[1]


def test_rows_of_an_environment_keep_secrets_apart() -> None:
    """A name that says so moves its row to the hidden ones; values keep their quotes."""
    texts = {**draft.empty(Settings()), "env": "A='1 2'", "secret": "HF_TOKEN=x"}
    rows = env_rows(texts)
    assert rows == [Row("A", "1 2"), Row("HF_TOKEN", "x", secret=True)]
    assert env_lines([*rows, Row("MY_KEY", "y")]) == ("A='1 2'", "HF_TOKEN=x MY_KEY=y")
    assert "3 variables, 2 secret" in env_meaning([*rows, Row("MY_KEY", "y")])[0][0][0][0]
    assert env_meaning([Row("A", "1"), Row("A", "2")])[1] == "each name once"
    assert "digit" in env_meaning([Row("1A", "1")])[1]


def test_directories_are_completed(tmp_path: Path) -> None:
    """Hidden ones only once they are begun; files and what cannot be read are none."""
    for name in ("alpha", "alps", ".hidden", "be\x1bta"):
        (tmp_path / name).mkdir()
    (tmp_path / "alfile").write_text("")
    assert subdirectories(f"{tmp_path}/al") == [f"{tmp_path}/alpha", f"{tmp_path}/alps"]
    assert subdirectories(f"{tmp_path}/") == [f"{tmp_path}/alpha", f"{tmp_path}/alps"]
    assert subdirectories(f"{tmp_path}/.h") == [f"{tmp_path}/.hidden"]
    assert subdirectories(f"{tmp_path}/nowhere/x") == []


OFFER = OfferRow("clore", "1", "on-demand", "RTX 4090", 1, 400_000, 0.99, "DE", "", 0)
SPEND = Spend(0, 0, 4_000_000, 0, 0)


def meaning(limits: tuple[Allowance, ...] = (), budget: BudgetConfig = BudgetConfig(), **changes: object) -> list[str]:  # noqa: B008
    """The preview of two jobs on one kind of machine that take an hour."""
    around = Surroundings((OFFER,), (), 3, duration=Duration(Range(1_800_000, 3_600_000, 7_200_000), "3 finished jobs"))
    around = replace(around, limits=limits, **changes)  # type: ignore[arg-type]
    texts = {**draft.empty(Settings()), "command": "x {a}", "sweep": "a=1,2", "project": "llm"}
    lines = preview(check(texts, "ada"), around, SPEND, replace(Settings(), budget=budget))
    return ["".join(text for text, _ in line) for line in lines]


def limit(scope: Scope, amount: int, used: int = 0, name: str = "") -> Allowance:
    """A limit of money and how far it is used."""
    return Allowance(scope, name, amount, used, 0, 0)


def test_the_preview_says_what_it_costs_and_what_allows_it() -> None:
    """Wait, offers, cost with its range, the cap."""
    shown = meaning((limit(Scope.DAY, 20_000_000, 1_000_000), limit(Scope.PROJECT, 1, 0, "other")))
    assert shown == [
        "2 jobs on RTX 4090: 3 wait already; a new machine is up in about 4m00s (1m00s to 10m)",
        "1 offer within $0.50/h and GPU, $0.40/h a machine",
        "about $0.40 each ($0.20 to $0.80), $0.80 ($0.40 to $1.60) in all, 1h00m by 3 finished jobs",
        "the cap leaves $4.00/h: 10 more such machines fit now; $19.00 left today",
    ]


@pytest.mark.parametrize(
    ("refusing", "words"),
    [
        (
            limit(Scope.DAY, 1_000_000, 500_000),
            "the daily budget of $1.00 leaves $0.50 and these may cost $0.80: $1.30",
        ),
        (limit(Scope.MONTH, 1_000_000, 1_000_000), "the monthly budget of $1.00 is used up"),
        (limit(Scope.PROJECT, 700_000, 0, "llm"), "the budget of project llm of $0.70 a month leaves $0.70"),
        (limit(Scope.USER, 700_000, 0, "ada"), "the budget of user ada of $0.70 a month leaves $0.70"),
    ],
)
def test_the_preview_names_the_limit_that_does_not_allow_it(refusing: Allowance, words: str) -> None:
    """And the figure that would."""
    assert meaning((refusing,))[3].startswith(words)


def test_the_preview_knows_the_limit_of_a_job_and_of_machines() -> None:
    """One job's budget; nothing known of how long it takes; a cap that is used up."""
    assert "one may cost $0.80, a job $0.50" in meaning(budget=BudgetConfig(per_job=0.5))[3]
    assert "is not known" in meaning(duration=None)[2]
    at_most = Duration(Range(0, 3_600_000, 3_600_000), "its max_runtime only, so at most")
    assert meaning(duration=at_most)[2] == "at most $0.80 for 1h00m each: its max runtime is all that is known"
