"""The one table of actions: bindings, footer, `?`, the palette and the README's list of keys are all made from it.

Each action is carried out by the method `do_<id>` (dots as underscores) of the screen, else of the application.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from gpuscale_tui.tui.subjects import (
    Subject,
    always,
    any_snapshot,
    can_ban,
    can_cancel,
    can_drill,
    can_edit,
    can_get,
    can_prune,
    can_release,
    can_rent,
    can_reorder,
    can_retry,
    can_save,
    can_undo,
    can_verify,
    has_snapshot,
    is_copying,
    is_running,
    is_up,
    needs_job,
    needs_worker,
    no_engine,
)

SCREENS = ("queue", "workers", "costs", "logs", "checkpoints", "market", "events", "settings")
"""The screens on number keys, in order."""

ANYWHERE = (*SCREENS, "job", "worker", "fleet", "offer", "spending")
LISTS = ("queue", "workers", "costs", "checkpoints", "market", "events")
LISTINGS = ("queue", "workers", "market", "checkpoints")
"""Lists whose rows can be sorted and marked."""
JOBS = ("queue", "job", "logs")
WORKERS = ("workers", "worker", "fleet")
OFFERS = ("market", "offer")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a user can do.

    `keys` are Textual's key names, set apart by commas. `footer` is the place in the footer, 0 for none, lower first.
    `when` says why the action does not apply to a subject, or nothing. `at_once` actions are done before the next key
    is looked at: keys that come in a burst, as over a slow line, are taken in their order and go where they are meant.
    `changes` says that it changes more than what is shown: with --readonly it is refused.
    """

    id: str
    keys: str
    label: str
    help: str
    where: tuple[str, ...] = ANYWHERE
    group: str = "Everywhere"
    footer: int = 0
    when: Callable[[Subject], str] = always
    palette: bool = True
    at_once: bool = True
    changes: bool = False

    @property
    def method(self) -> str:
        """Name of the method that does it."""
        return "do_" + self.id.replace(".", "_")


ACTIONS: tuple[Action, ...] = (
    Action("open", "enter", "open", "Open the page of what the cursor is on: the whole story of one thing.",
           (*LISTS, "fleet"), "Lists", footer=1, palette=False),
    Action("job.new", "n", "new job", "Write a new job, or a whole sweep, in a form.",
           tuple(name for name in ANYWHERE if name not in {"logs", "spending"}), "Jobs", footer=2, changes=True),
    Action("job.cancel", "x", "cancel", "Cancel the job, after asking. A running one saves its checkpoint first.",
           JOBS, "Jobs", footer=3, when=can_cancel, changes=True),
    Action("job.retry", "r", "retry",
           "Put a finished job back in the queue, or let one that is held after faults go on at once.",
           JOBS, "Jobs", footer=4, when=can_retry, changes=True),
    Action("job.why", "w", "why", "Why the job is where it is, and what would change that.",
           ("queue", "job", "logs"), "Jobs", footer=6, when=needs_job),
    Action("job.metric", "m", "metric", "Plot the next metric that the job's output tells of.", ("job",), "Jobs",
           footer=6, when=needs_job),
    Action("job.view", "v", "view", "Show the next part of the page: all, story, curves, output.", ("job",), "Jobs",
           footer=1),
    Action("job.logs", "l", "logs", "The job's output.", ("queue", "job"), "Jobs", footer=5, when=needs_job),
    Action("job.sooner", "plus,equals_sign", "sooner", "One step up in priority (1 is first).",
           ("queue", "job"), "Jobs", when=can_reorder, changes=True),
    Action("job.later", "minus", "later", "One step down in priority (10 is last).",
           ("queue", "job"), "Jobs", when=can_reorder, changes=True),
    Action("job.priority", "p", "priority", "Set the priority to a number.",
           ("queue", "job"), "Jobs", footer=9, when=can_reorder, changes=True),
    Action("job.clone", "c", "clone", "Open the form with this job's values.", JOBS, "Jobs", footer=10,
           when=needs_job, changes=True),
    Action("job.edit", "e", "edit", "Change what a waiting job asks for, in the form.", ("queue", "job"), "Jobs",
           footer=10, when=can_edit, changes=True),
    Action("job.branch", "B", "branch", "A new job that begins with this job's newest checkpoint, in the form.",
           JOBS, "Jobs", when=needs_job, changes=True),
    Action("job.save", "ctrl+s", "save now", "Take a snapshot of the running job now, or of all that are marked.",
           ("queue", "job"), "Jobs", footer=13, when=can_save, changes=True),
    Action("job.drill", "K", "rehearse", "Move the job once on purpose, after asking, to see that it resumes.",
           ("queue", "job"), "Jobs", footer=13, when=can_drill, changes=True),
    Action("job.shell", "S", "shell", "A shell on the machine that runs the job, where it works; `exit` comes back.",
           ("queue", "job"), "Jobs", footer=13, when=is_running, changes=True),
    Action("job.get", "d", "outputs", "Copy what the job left in $OUTPUT_DIR into a directory.",
           ("queue", "job"), "Jobs", footer=13, when=needs_job),
    Action("checkpoint.get", "d", "download", "Copy the snapshot into a directory; every byte is checked.",
           ("checkpoints",), "Checkpoints", footer=2, when=can_get),
    Action("checkpoint.resume", "r", "resume", "Put the job back so that it goes on from this snapshot, after asking.",
           ("checkpoints",), "Checkpoints", footer=3, when=has_snapshot, changes=True),
    Action("checkpoint.branch", "B", "branch", "A new job that begins with this snapshot, in the form.",
           ("checkpoints",), "Checkpoints", footer=4, when=has_snapshot, changes=True),
    Action("checkpoint.prune", "D", "prune", "Remove the snapshot, or all that are marked, after asking. The last"
           " whole one of a job stays.", ("checkpoints",), "Checkpoints", footer=5, when=can_prune, changes=True),
    Action("checkpoint.verify", "v", "verify",
           "Compare every byte of the snapshot, or of all that are marked, with what was stored.",
           ("checkpoints",), "Checkpoints", footer=6, when=can_verify, changes=True),
    Action("checkpoint.pin", "P", "pin", "Keep the snapshot, or all that are marked, whatever else is pruned; again:"
           " let it go.", ("checkpoints",), "Checkpoints", footer=6, when=can_prune, changes=True),
    Action("checkpoint.why", "w", "about", "All that is known of the snapshot: its files, what is wrong with it.",
           ("checkpoints",), "Checkpoints", footer=6, when=any_snapshot),
    Action("checkpoint.stop", "x", "stop",
           "Stop the copy or the verification that is under way; finished files stay, and a copy goes on from there.",
           ("checkpoints",), "Checkpoints", footer=12, when=is_copying),
    Action("worker.why", "w", "why", "Why the machine was rented and why it is still up.",
           WORKERS, "Machines", footer=6, when=needs_worker),
    Action("worker.release", "R", "release", "Give the machine back, after asking. Its job is saved and put back.",
           WORKERS, "Machines", footer=3, when=can_release, changes=True),
    Action("worker.shell", "S", "shell", "A shell on the machine; `exit` comes back.", WORKERS, "Machines", footer=9,
           when=is_up, changes=True),
    Action("worker.ended", "a", "ended", "Show machines that are gone too, or only those that are up.",
           ("workers",), "Machines", footer=7),
    Action("worker.timeline", "t", "timeline", "What all machines did when: jobs, set-up, idle, lost, with sums.",
           ("workers", "worker"), "Machines", footer=7),
    Action("worker.view", "v", "view", "Show the next part of the page: all, story, curves.", ("worker",), "Machines",
           footer=1),
    Action("fleet.shorter", "plus,equals_sign", "shorter", "A shorter time: 3 days, 24 hours, 4 hours, 1 hour.",
           ("fleet",), "Timeline", footer=2),
    Action("fleet.longer", "minus", "longer", "A longer time: 1 hour, 4 hours, 24 hours, 3 days.", ("fleet",),
           "Timeline", footer=2),
    Action("fleet.earlier", "left", "earlier", "What was before.", ("fleet",), "Timeline", footer=2),
    Action("fleet.later", "right", "later", "What was after, up to now.", ("fleet",), "Timeline", footer=2),
    Action("fleet.now", "f", "now", "Up to now again.", ("fleet",), "Timeline", footer=4),
    Action("scale", "s", "scale", "Ask for more machines, or for fewer.",
           ("queue", "workers", "market"), "Machines", footer=8, changes=True),
    Action("host.ban", "b", "ban",
           "Rent this host no more, or lift its ban, after asking; `gpuscale hosts` lists who is banned.",
           OFFERS, "Machines", footer=4, when=can_ban, changes=True),
    Action("offer.rent", "R", "rent", "Rent just this machine, after asking, within all limits.", OFFERS, "Machines",
           footer=3, when=can_rent, changes=True),
    Action("list.filter", "slash", "filter",
           "Only rows with a text, a state, or a value: failed, name:lr, cost>1, !done; several at once.",
           (*LISTINGS, "events", "settings"), "Lists", footer=7),
    Action("list.sort", "o", "sort", "Sort by the next column; a click on a title sorts by that one.",
           (*LISTINGS, "settings"), "Lists", footer=8),
    Action("list.turn", "O", "reverse", "Turn the order round.", (*LISTINGS, "settings"), "Lists"),
    Action("list.columns", "C", "columns", "The columns that are shown, and their order.",
           (*LISTINGS, "events", "settings"), "Lists"),
    Action("list.mark", "space", "mark",
           "Mark the row, or take its mark away; what is done next is done to all marked.", LISTINGS, "Lists"),
    Action("list.range", "V", "mark to here", "Mark all rows from the last mark to this one.", LISTINGS, "Lists"),
    Action("list.all", "A", "mark all", "Mark all rows that the filter shows, or none of them.", LISTINGS, "Lists"),
    Action("list.export", "X", "export", "Write the rows shown, or those marked, to a CSV file in the home.",
           (*LISTINGS, "events", "settings"), "Lists"),
    Action("costs.by", "b", "by", "Costs by project, user, GPU, provider, day, job or machine.",
           ("costs",), "Costs", footer=3),
    Action("costs.since", "t", "since", "Costs of today, seven days, this month or all time.",
           ("costs",), "Costs", footer=4),
    Action("costs.view", "v", "view", "The books, the rate over time against the cap, or the forecast in full.",
           ("costs",), "Costs", footer=5),
    Action("costs.export", "X", "export", "Write all rows to a CSV file, after asking where.", ("costs",), "Costs",
           footer=6),
    Action("log.follow", "f", "follow", "Go to the end and stay there as lines arrive.", ("logs",), "Logs", footer=1),
    Action("log.search", "slash", "search", "Find a regular expression in the output.", ("logs", "job"), "Logs",
           footer=1),
    Action("log.next", "n", "next", "The next match; after `e` or `M` the next error or metric.", ("logs",), "Logs",
           footer=1),
    Action("log.previous", "N", "previous", "The match (or error, or metric) before.", ("logs",), "Logs"),
    Action("log.filter", "ampersand", "only matches", "Only the lines that match, with their numbers, or all again.",
           ("logs",), "Logs", footer=2),
    Action("log.error", "e", "error", "The last error; from there the next one.", ("logs",), "Logs", footer=2),
    Action("log.metric", "M", "metric", "The last line with metrics; from there the next one.", ("logs",), "Logs"),
    Action("log.fold", "Z", "fold", "One row for each epoch, with its last metrics, or all lines again.", ("logs",),
           "Logs", footer=4),
    Action("log.open", "enter", "unfold", "Unfold the epoch under the cursor, or fold it again.", ("logs",), "Logs"),
    Action("log.times", "t", "times", "When lines came: not, the time of day, the time since the attempt began.",
           ("logs",), "Logs", footer=4),
    Action("log.wrap", "z", "wrap", "Long lines whole in several rows, or cut at the edge.", ("logs",), "Logs",
           footer=5),
    Action("log.raw", "v", "raw", "Every control character, such as the states of a progress bar, or clean lines.",
           ("logs",), "Logs"),
    Action("log.attempt", "a", "attempt", "The attempt before; after the first one all as one, then the newest.",
           ("logs",), "Logs", footer=3),
    Action("log.job_before", "left_square_bracket", "job before", "The output of the job before in the queue.",
           ("logs",), "Logs", footer=3),
    Action("log.job_after", "right_square_bracket", "job after", "The output of the next job in the queue.",
           ("logs",), "Logs", footer=3),
    Action("log.right", "right", "right", "Show what long lines have to the right.", ("logs",), "Logs"),
    Action("log.left", "left", "left", "Back to the left.", ("logs",), "Logs"),
    Action("log.mark", "V", "mark", "Mark lines from here on, to copy them; again: none.", ("logs",), "Logs"),
    Action("log.copy", "y", "copy", "Copy the line under the cursor, or the marked ones (by OSC 52).", ("logs",),
           "Logs", footer=11),
    Action("log.save", "S", "save", "Save the output to a file: its exact bytes, or cleaned text.", ("logs",), "Logs",
           footer=5),
    Action("form.send", "ctrl+s", "submit", "Submit what the form says.", ("form",), "Form", footer=1, palette=False,
           changes=True),
    Action("form.next", "tab,down,enter", "next field", "To the next field; Enter too.", ("form",), "Form", footer=2,
           palette=False),
    Action("form.previous", "shift+tab,up", "field before", "To the field before.", ("form",), "Form", palette=False),
    Action("form.complete", "right", "complete", "Take the completion that is shown dimly (at the end of the text).",
           ("form",), "Form", footer=3, palette=False, at_once=False),
    Action("form.open", "ctrl+o", "open", "What the field has to show: rows of a sweep or an environment, directories,"
           " values used before.", ("form",), "Form", footer=3, palette=False),
    Action("form.sweep", "ctrl+w", "sweep", "The sweep as rows: how many jobs it makes, and their commands.",
           ("form",), "Form", palette=False),
    Action("form.more", "ctrl+n", "more", "Show the fields that are seldom needed, or fold away those that are empty.",
           ("form",), "Form", footer=2, palette=False),
    Action("form.templates", "ctrl+t", "templates", "Fill the form from a job that was submitted before.", ("form",),
           "Form", footer=3, palette=False),
    Action("form.editor", "ctrl+e", "$EDITOR", "The whole form as a job file in your editor ($VISUAL, $EDITOR).",
           ("form",), "Form", footer=4, palette=False),
    Action("form.clear", "ctrl+r", "clear", "Empty the form.", ("form",), "Form", footer=4, palette=False),
    Action("form.leave", "escape", "leave", "Leave the form; what you wrote is kept.", ("form",), "Form", footer=5,
           palette=False),
    Action("copy", "y", "copy", "Copy the id (by OSC 52, so it works over SSH).",
           ("queue", "workers", "job", "worker", "checkpoints", "market", "offer", "events", "settings"),
           "Lists", footer=11),
    Action("move.down", "j,down", "down", "One row down.", ANYWHERE, "Moving", palette=False),
    Action("move.up", "k,up", "up", "One row up.", ANYWHERE, "Moving", palette=False),
    Action("move.page_down", "ctrl+d,pagedown,ctrl+f", "page down", "One page down.", ANYWHERE, "Moving",
           palette=False),
    Action("move.page_up", "ctrl+u,pageup", "page up", "One page up.", ANYWHERE, "Moving", palette=False),
    Action("move.first", "g,home", "first", "To the first row.", ANYWHERE, "Moving", palette=False),
    Action("move.last", "G,end", "last", "To the last row.", ANYWHERE, "Moving", palette=False),
    Action("screen.queue", "1", "Queue", "All jobs."),
    Action("screen.workers", "2", "Workers", "All machines: state, price, why they are up."),
    Action("screen.costs", "3", "Costs", "Where the money went."),
    Action("screen.logs", "4", "Logs", "The jobs' output."),
    Action("screen.checkpoints", "5", "Checkpoints", "Snapshots of the jobs' checkpoints."),
    Action("screen.market", "6", "Market", "What could be rented now, as last read."),
    Action("screen.events", "7", "Events", "Everything that happened, newest first."),
    Action("screen.settings", "8", "Settings", "Every setting: what it means, where it comes from; changed in place."),
    Action("back", "escape", "back", "Back to the list; there leave the marks, then the filter, then the order.",
           ANYWHERE, footer=20, palette=False),
    Action("setup", "f2", "set-up",
           "A few questions that set up a marketplace or your own machines, or show a demonstration.",
           ANYWHERE, "Settings", changes=True),
    Action("setting.change", "enter", "change", "Change the setting: typed, or chosen from a list.", ("settings",),
           "Settings", footer=1, changes=True),
    Action("setting.default", "d", "back to file",
           "Take the setting out of settings.toml; your file or the default counts.",
           ("settings",), "Settings", footer=2, changes=True),
    Action("settings.reload", "R", "read anew", "Read the files of the settings anew, here and in the engine.",
           ("settings",), "Settings", footer=3),
    Action("spend.stop", "exclamation_mark", "stop spending",
           "Stop all spending: save, give every machine back, and stay until $0.00/h is confirmed.", footer=18,
           changes=True),
    Action("undo", "u", "undo", "Undo what you did last, for as long as the screen offers it.", footer=1,
           when=can_undo),
    Action("engine.start", "E", "start engine", "Start the engine in this window.", when=no_engine, changes=True),
    Action("messages", "i", "messages", "What the screen has told so far, the newest first."),
    Action("suspend", "ctrl+z", "put aside",
           "Put the screen aside (`fg` brings it back); with machines rented the background engine takes over first."),
    Action("theme.next", "T", "theme", "The next colour theme."),
    Action("palette", "ctrl+p,colon", "palette", "Everything by name: actions, jobs, machines.", footer=19,
           palette=False),
    Action("help", "question_mark,f1", "help", "All keys, and what they do here.", footer=30),
    Action("quit", "q,ctrl+q,ctrl+c", "quit", "Leave. With machines rented you are asked what becomes of them.",
           footer=29),
)  # fmt: skip


READONLY = "read-only: started with --readonly"


def why_not(action: Action, subject: Subject, *, readonly: bool) -> str:
    """Why an action does not apply now, or nothing."""
    return READONLY if readonly and action.changes else action.when(subject)


@cache
def by_id() -> Mapping[str, Action]:
    """The actions by id."""
    return {action.id: action for action in ACTIONS}


def on_screen(screen: str, actions: Iterable[Action] = ACTIONS) -> list[Action]:
    """The actions of one screen."""
    return [action for action in actions if screen in action.where]
