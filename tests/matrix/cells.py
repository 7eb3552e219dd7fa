"""The fault matrix (shared/reference/reliability.md, 3.5): for each fault and invariant its tests, or why it has none.

Invariants: I1 no unknown rental, I2 cap, I3 budget, I4 no job lost, I5 once done, I6 not ours, I7 secrets, I8 ledger is
the bill, I9 logs and checkpoints only go forward, I10 it comes to rest, I11 the same with and without a screen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INVARIANTS = tuple(f"I{number}" for number in range(1, 12))

KILLS = "crash/test_campaign.py::test_the_program_is_killed_in_six_phases_of_its_work"
AWAITS = (
    "crash/test_points.py::test_the_scenarios_come_by_every_await_of_the_engine",
    "crash/test_points.py::test_the_engine_dies_at_its_calls_and_nothing_is_lost",
)
ONE_PLACE = "budgets and the cap are kept by the one transaction that writes an intent, which this fault does not touch"
SAME_ENGINE = "the engine never calls into the screen: it has no way to know whether one is there"
NO_KEY = "the account's key takes no part: it is read at the start, and tests/hostile looks for it everywhere else"
NO_CALL = "no call is made that names an order, so nothing foreign can be named"
NO_OUTPUT = "output and checkpoints travel between engine and machine, which this fault leaves alone"
NO_JOB = "jobs are changed by the end of an attempt alone, and no attempt ends here"
NO_MONEY = "no rental begins, ends or changes its price here"


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: the tests by invariant (FILE::FUNCTION below `tests/`), and why the other cells are empty."""

    what: str
    cells: Mapping[str, tuple[str, ...]]
    others: Mapping[str, str] = field(default_factory=dict)
    """Reasons by invariants ("I3 I7"); `rest` for all that are named nowhere."""


def each(invariants: str, *tests: str) -> dict[str, tuple[str, ...]]:
    """The same tests for several invariants."""
    return dict.fromkeys(invariants.split(), tests)


def here(file: str, *names: str) -> tuple[str, ...]:
    """Tests of one file of this directory."""
    return tuple(f"matrix/{file}.py::{name}" for name in names)


PROVIDER, MACHINES, USERS, DISK = "test_provider_faults", "test_machine_faults", "test_users", "test_disk_faults"
ANSWERS = here(PROVIDER, "test_f03_an_order_whose_answer_is_lost")
LATE = here(
    PROVIDER, "test_f04_an_order_that_appears_after_an_error_is_ours",
    "test_f04_an_order_that_appears_after_we_gave_it_up_is_given_back",
)  # fmt: skip
TWICE = here(PROVIDER, "test_f05_a_create_is_never_sent_twice")
BACK = here(
    PROVIDER, "test_f06_giving_back_that_fails_in_every_way", "test_f06_an_order_that_lives_on_after_its_cancel"
)
LISTS = here(PROVIDER, "test_f07_lists_that_lie_once", "test_f07_a_list_that_stays_empty_loses_no_machine")
REFUSED = (
    *here(PROVIDER, "test_f08_a_provider_that_refuses_everything_for_a_while"),
    *here(
        "test_transport", "test_f08_a_name_that_does_not_resolve", "test_f08_tls_that_is_none",
        "test_f08_an_answer_that_never_comes",
    ),
)  # fmt: skip
GARBAGE = (
    *here(PROVIDER, "test_f09_garbage_instead_of_answers"),
    *here("test_transport", "test_f09_a_body_that_explodes"),
    "providers/test_clore_properties.py::test_no_order_body_crashes_and_no_order_is_lost",
    "providers/test_clore_properties.py::test_no_create_reply_crashes_and_only_a_plain_yes_is_one",
    "providers/test_clore_quirks.py::test_quirk_22_an_endless_reply_is_cut_off",
)
CHANGED = here(PROVIDER, "test_f10_what_changes_between_offer_and_order")
LOST = here(MACHINES, "test_f11_a_machine_lost_at_every_stage_of_a_job", "test_f11_a_job_goes_on_from_its_snapshot")
BULK = here(MACHINES, "test_f12_all_machines_are_lost_at_once_and_again", "test_f12_a_host_that_comes_and_goes")
LINKS = (
    *here(
        MACHINES, "test_f13_a_machine_whose_ssh_refuses", "test_f13_connections_that_are_cut_at_any_moment"
    ),
    *here("test_transport", "test_f13_a_link_of_one_byte_at_a_time", "test_f13_a_channel_that_never_opens"),
    "remote/test_recovery.py::test_cut_after_any_byte_that_we_send",
    "remote/test_recovery.py::test_cut_after_any_byte_that_we_receive",
    "remote/test_recovery.py::test_a_frozen_link_is_noticed",
    "remote/test_connection.py::test_a_banner_that_never_comes",
    "remote/test_connection.py::test_another_host_key_is_refused",
    "remote/test_connection.py::test_a_strange_key_is_refused",
)  # fmt: skip
OUTPUT = (
    *here(MACHINES, "test_f14_output_of_every_kind_is_stored_byte_for_byte"),
    "hostile/test_terminal.py::test_raw_bytes_on_the_screen",
    "tui/test_hostile.py::test_hostile_text_is_harmless_on_every_screen",
)
ENDS = (
    *here(MACHINES, "test_f15_ends_that_mislead", "test_f15_a_command_that_ended_while_ssh_was_dead"),
    "remote/test_attempts.py::test_vanished_when_everything_was_killed",
    "remote/test_attempts.py::test_a_command_without_its_runner_still_runs",
)
FULL = (
    *here(DISK, "test_f16_the_disk_is_full_at_the_nth_page", "test_f16_a_write_that_fails_at_any_step"),
    "engine/test_disk.py::test_a_full_disk_is_survived",
    "store/test_crash.py::test_a_full_disk_is_said_and_loses_nothing",
    "store/test_opening.py::test_a_directory_that_may_not_be_written_is_reported",
)
ROT = (
    *here(
        DISK, "test_f17_a_bit_that_flips_anywhere", "test_f17_another_program_holds_the_database",
        "test_f17_the_database_is_held_for_a_while_in_mid_run",
    ),
    "store/test_opening.py::test_a_damaged_file_is_refused_and_left_byte_for_byte",
    "store/test_opening.py::test_a_journal_without_its_database_is_not_begun_anew",
    "engine/test_audit.py::test_what_is_ours_is_found_watched_and_given_back_by_hand",
)  # fmt: skip
POWER = (
    *here(DISK, "test_f18_power_is_lost_between_any_two_commits"),
    "store/test_opening.py::test_what_must_survive_power_loss_is_flushed_at_each_commit",
    "store/test_aio.py::test_notes_do_not_wait_for_the_disk_and_writes_do",
    "store/test_checkpoints.py::test_everything_is_flushed_in_the_order_that_makes_it_count",
)
CLOCK = here(
    "test_clock", "test_f19_a_clock_that_is_wrong_from_the_start", "test_f19_a_clock_that_jumps_in_mid_run",
    "test_f19_a_clock_that_was_set_back_between_two_engines", "test_f19_the_engines_clock_never_goes_back",
    "test_f19_a_rental_ends_by_the_time_that_passes_not_by_a_clock_that_is_ahead",
)  # fmt: skip
TWO = (
    *here(USERS, "test_f20_two_homes_on_one_account", "test_f20_two_engines_on_one_home"),
    "store/test_concurrency.py::test_a_stale_engine_changes_nothing",
)
MOMENTS = here(
    USERS, "test_f21_a_job_is_cancelled_while_its_machine_boots", "test_f21_leaving_in_the_middle_of_a_create",
    "test_f21_a_machine_is_given_back_while_it_is_ordered", "test_f21_ctrl_c_twice",
)  # fmt: skip
SNAPSHOTS = (
    *here(MACHINES, "test_f22_a_changed_snapshot_is_never_resumed_from"),
    "store/test_checkpoints.py::test_a_broken_snapshot_is_skipped_and_the_reason_said",
    "store/test_checkpoints.py::test_hostile_names_are_refused",
    "remote/test_transfer.py::test_a_torn_upload_is_never_taken_for_a_whole_one",
    "remote/test_untar.py::test_hostile_archives_are_refused",
)
WALLET = (
    *here("test_wallet", "test_f23_a_wallet_that_is_empty", "test_f23_prices_that_double_in_mid_run"),
    "engine/test_spot.py::test_a_wallet_that_runs_low_is_told_once_and_one_that_cannot_pay_an_hour_orders_nothing",
)
UPGRADE = here(USERS, "test_f24_the_program_is_upgraded_while_jobs_run", "test_f24_a_downgrade_is_refused")

FAULTS: Mapping[str, Fault] = {
    "F1": Fault(
        "the engine dies at an await of its work, before or after the effect, and starts again",
        each("I1 I2 I4 I5 I8 I10", *AWAITS),
        {"I3": ONE_PLACE, "I6": NO_CALL, "I7": NO_KEY, "I9": "see F2: whole logs after real kills", "I11": SAME_ENGINE},
    ),
    "F2": Fault(
        "SIGKILL of the real program at random moments",
        each("I1 I4 I5 I8 I2 I6 I9 I10", KILLS),
        {"I3": ONE_PLACE, "I7": NO_KEY, "I11": SAME_ENGINE},
    ),
    "F3": Fault(
        "the order is made, its answer is lost",
        {
            **each("I1 I2 I8 I4 I5 I6 I7 I9 I10", *ANSWERS),
            "I1": (
                *ANSWERS,
                "providers/test_clore_quirks.py::test_quirk_03_a_lost_reply_is_unknown_and_never_repeated",
            ),
        },
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F4": Fault(
        "an error is answered, the machine appears later",
        each("I1 I2 I4 I5 I6 I7 I8 I9 I10", *LATE),
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F5": Fault(
        "a create that would be sent twice",
        {
            **each("I1 I2 I8 I4 I5 I6 I7 I9 I10", *TWICE),
            "I1": (*TWICE, "providers/test_ssh.py::test_the_same_token_again_is_the_same_rental"),
        },
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F6": Fault(
        "giving back fails, or seems to, or seems not to",
        each("I1 I2 I8 I4 I5 I6 I7 I9 I10", *BACK),
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F7": Fault(
        "the list of rentals is empty, old, partial, disordered, doubled, full of others' orders",
        {
            **each("I1 I2 I6 I4 I5 I7 I8 I9 I10", *LISTS),
            "I6": (*LISTS, "engine/test_marketplace.py::test_what_others_rented_on_the_account_is_never_touched"),
        },
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F8": Fault(
        "refusals, storms, silence, no name, no TLS",
        {
            **each("I2 I10 I1 I4 I5 I6 I7 I8 I9", *REFUSED),
            "I10": (*REFUSED, "providers/test_clore_limiter.py::test_no_call_starts_before_retry_after_is_over"),
        },
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F9": Fault(
        "bodies that are no answer",
        each("I1 I2 I10 I4 I5 I6 I7 I8 I9", *GARBAGE),
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F10": Fault(
        "price, offer or server change between offer and order",
        {
            **each("I2 I3 I6 I8 I1 I4 I5 I7 I9 I10", *CHANGED),
            "I6": (
                *CHANGED,
                "providers/test_clore_quirks.py::test_only_an_order_that_is_certainly_ours_is_recognised",
            ),
        },
        {"I11": SAME_ENGINE},
    ),
    "F11": Fault(
        "a machine is lost at any stage of a job",
        each("I4 I5 I8 I9 I1 I2 I6 I7 I10", *LOST),
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F12": Fault(
        "all machines are lost at once; a host that comes and goes",
        each("I2 I4 I5 I10 I1 I6 I7 I8 I9", *BULK),
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F13": Fault(
        "SSH refuses, stalls, crawls, is cut, is somebody else",
        {
            **each("I4 I5 I9 I10 I1 I2 I6 I7 I8", *LINKS),
            "I10": (*LINKS, "engine/test_partition.py::test_a_partition_changes_nothing_but_a_notice"),
        },
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F14": Fault(
        "output of every kind",
        {**each("I7 I9 I11", *OUTPUT), **each("I1 I2 I4 I5 I6 I8 I10", OUTPUT[0])},
        {"I3": ONE_PLACE},
    ),
    "F15": Fault(
        "ends that mislead: exit codes, zombies, memory, a dead link",
        each("I5 I1 I2 I4 I6 I7 I8 I9 I10", *ENDS),
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
    "F16": Fault(
        "disks that are full, read-only, failing",
        {**each("I1 I4 I8", *FULL), **each("I5 I9 I10", "engine/test_disk.py::test_a_full_disk_is_survived")},
        {
            "I2 I3": "what does not fit is not written, and what is not written is not ordered (I1)",
            "I6": NO_CALL,
            "I7": NO_KEY,
            "I11": SAME_ENGINE,
        },
    ),
    "F17": Fault(
        "databases that are damaged, missing in part, older, newer, or held",
        {**each("I1 I4", *ROT), **each("I2 I5 I6 I7 I8 I9 I10", ROT[2])},
        {"I3": "a damaged file is refused: no engine runs on it", "I11": SAME_ENGINE},
    ),
    "F18": Fault(
        "power is lost: what was not flushed is gone",
        each("I1 I4 I5 I8", *POWER),
        {
            "I2 I3": "the intent is durable before the call (I1), so that it counts after the loss as before",
            "I6": NO_CALL,
            "I7": NO_KEY,
            "I9 I10": "as after a kill: see F2",
            "I11": SAME_ENGINE,
        },
    ),
    "F19": Fault(
        "the clock is wrong, jumps, stands still",
        {
            **each("I2 I8 I10 I1 I4 I5 I6 I7 I9", *CLOCK),
            "I3": ("engine/test_treasurer.py::test_each_step_is_told_once_in_its_time_and_again_in_the_next",),
            "I8": (*CLOCK, "store/test_books.py::test_a_clock_that_goes_back_makes_no_span_of_negative_length"),
        },
        {"I11": SAME_ENGINE},
    ),
    "F20": Fault(
        "two controllers on one home, two homes on one account",
        each("I1 I2 I5 I6 I4 I7 I8 I9 I10", *TWO),
        {"I3": "budgets are a home's own; two homes on one account have one each", "I11": SAME_ENGINE},
    ),
    "F21": Fault(
        "users act at bad moments",
        {
            **each("I1 I2 I4 I5 I6 I7 I8 I9 I10", *MOMENTS),
            "I2": (*MOMENTS, "engine/test_budgets.py::test_a_lowered_limit_takes_busy_machines_back_at_once"),
            "I11": (
                "e2e/test_terminal.py::test_a_lost_terminal_hands_over_to_the_background",
                "e2e/test_terminal.py::test_quitting_with_a_machine_rented_goes_on_in_the_background",
                "tui/test_run.py::test_termination_ends_it_in_order",
                "tui/test_run.py::test_a_terminal_that_does_not_read_holds_nothing_up",
            ),
        },
        {"I3": ONE_PLACE},
    ),
    "F22": Fault(
        "checkpoints that are torn, changed, empty, missing, hostile",
        {**each("I5 I9", *SNAPSHOTS), **each("I1 I2 I4 I6 I7 I8 I10", SNAPSHOTS[0])},
        {"I3": NO_MONEY, "I11": SAME_ENGINE},
    ),
    "F23": Fault(
        "an empty wallet, prices that double",
        each("I2 I3 I8 I1 I4 I5 I6 I7 I9 I10", *WALLET),
        {"I11": SAME_ENGINE},
    ),
    "F24": Fault(
        "an upgrade in mid-run, a downgrade",
        {
            **each("I1 I4", *UPGRADE, "store/test_opening.py::test_each_older_version_is_brought_up_to_date"),
            **each("I2 I5 I6 I7 I8 I9 I10", UPGRADE[0]),
        },
        {"I3": ONE_PLACE, "I11": SAME_ENGINE},
    ),
}
