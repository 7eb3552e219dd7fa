"""The mutants: bugs that would cost money, lose work or let somebody in, each with the tests that must notice it."""

# ruff: noqa: E501 - texts of the code stand as they stand there

from __future__ import annotations

from dataclasses import dataclass

SAFETY = "tests/engine/test_safety.py::"
MARKET = "tests/engine/test_marketplace.py::"
CAP = "tests/store/test_concurrency.py::test_what_counts_against_the_cap"
QUIRK = "tests/providers/test_clore_quirks.py::"
CONTRACT = "tests/providers/test_contract.py::"


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file` (below `gpuscale_tui`) the text `old`, which stands there once, becomes `new`.

    `why` says what that would do; `tests` are pytest's names of those that must notice.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]


CAP_MUTANTS = (
    Mutant(
        "forget-booting",
        "store/workers.py",
        "SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE}",
        "SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE} AND state <> 'booting'",
        "machines that boot do not count against the cap",
        (CAP,),
    ),
    Mutant(
        "forget-ordering",
        "store/workers.py",
        "SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE}",
        "SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE} AND state <> 'ordering'",
        "orders in flight do not count against the cap",
        (CAP,),
    ),
    Mutant(
        "forget-releasing",
        "store/workers.py",
        "SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE}",
        "SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE} AND state <> 'releasing'",
        "machines that are asked to go back stop counting before they are gone",
        (CAP,),
    ),
    Mutant(
        "forget-unknown",
        "store/workers.py",
        "SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE}",
        "SELECT coalesce(sum(rate), 0) FROM workers WHERE {LIVE} AND coalesce(outcome, '') <> 'unknown'",
        "an order that may exist does not count against the cap",
        (SAFETY + "test_an_order_in_doubt_is_settled_by_three_listings_after_the_lag",),
    ),
    Mutant(
        "cap-not-in-the-transaction",
        "store/workers.py",
        "    committed = committed_rate(connection)\n    count = count_live(connection)",
        "    committed, count = 0, count_live(connection)",
        "the cap is judged by what was read before: two intents both see room for one",
        ("tests/store/test_concurrency.py::test_the_cap_may_be_used_to_the_last_micro_dollar",),
    ),
    Mutant(
        "one-machine-too-many",
        "store/workers.py",
        "if count >= intent.max_workers:",
        "if count > intent.max_workers:",
        "one machine more than max_workers",
        (
            "tests/store/test_concurrency.py::test_hundreds_of_intents_at_once_never_pass_the_cap",
            "tests/store/test_concurrency.py::test_the_cap_may_be_used_to_the_last_micro_dollar",
        ),
    ),
    Mutant(
        "dearer-than-asked",
        "providers/clore/orders.py",
        "if max(request.offer.rate, hourly_rate(quote.usd, quote.fee)) > request.max_rate:",
        "if request.offer.rate > request.max_rate:",
        "an order may cost more than was reserved for it",
        (
            CONTRACT + "test_more_than_the_highest_rate_is_never_paid",
            "tests/providers/test_clore_provider.py::test_a_doctored_rate_does_not_get_past_the_price_check",
        ),
    ),
    Mutant(
        "rate-without-fee",
        "providers/clore/pricing.py",
        "exact = Fraction(usd_per_day) * (1 + fee) * MICROS / 24",
        "exact = Fraction(usd_per_day) * MICROS / 24",
        "the renter's fee is left out of the rate that the cap counts",
        (
            "tests/providers/test_clore_properties.py::test_an_hour_is_never_under_the_true_price_and_less_than_a_micro_over",
        ),
    ),
    Mutant(
        "budget-forgets-what-is-due",
        "store/budgets.py",
        "if booked + due + first > limit or",
        "if booked + first > limit or",
        "machines that run are not counted against the day's budget until they are billed",
        ("tests/store/test_budgets.py::test_hundreds_of_intents_at_once_get_what_the_budget_has_room_for",),
    ),
)

CREATE_MUTANTS = (
    Mutant(
        "intent-not-durable",
        "store/aio.py",
        "return await self._settle(True, partial(_call, command, args, kwargs))",
        "return await self._settle(False, partial(_call, command, args, kwargs))",
        "a loss of power after the order forgets the intent",
        ("tests/store/test_aio.py::test_notes_do_not_wait_for_the_disk_and_writes_do",),
    ),
    Mutant(
        "500-is-failure",
        "providers/clore/orders.py",
        'return Unknown(f"Clore.ai\'s answer leaves open whether there is an order: {reply.describe()}")',
        'return RentRefused(f"Clore.ai\'s answer leaves open whether there is an order: {reply.describe()}")',
        "HTTP 500 after a create is taken for a no: the machine that came of it bills unseen",
        (QUIRK + "test_quirk_01_a_create_is_refused_only_where_that_is_certain",),
    ),
    Mutant(
        "no-reply-is-failure",
        "providers/clore/provider.py",
        "        except NoReply as error:\n            return Unknown(str(error))",
        "        except NoReply as error:\n            return RentRefused(str(error))",
        "a create whose answer was lost is taken for a no",
        (QUIRK + "test_quirk_03_a_lost_reply_is_unknown_and_never_repeated",),
    ),
    Mutant(
        "sent-is-not-sent",
        "providers/clore/api.py",
        '        except TimeoutError as error:\n            raise NoReply(f"Clore.ai did not answer',
        '        except TimeoutError as error:\n            raise NotSent(f"Clore.ai did not answer',
        "a create that timed out is taken for one that was never sent",
        (QUIRK + "test_quirk_22_a_server_that_never_finishes_is_given_up_on",),
    ),
    Mutant(
        "repeat-a-create",
        "engine/renter.py",
        "        outcome = await context.providers[rent.offer.provider].rent(request)\n",
        "        outcome = await context.providers[rent.offer.provider].rent(request)\n"
        "        if isinstance(outcome, Unknown):\n"
        "            outcome = await context.providers[rent.offer.provider].rent(request)\n",
        "a create is called again to find out what came of the first: two machines",
        (SAFETY + "test_an_order_in_doubt_is_settled_by_three_listings_after_the_lag",),
    ),
    Mutant(
        "order-before-intent",
        "engine/renter.py",
        "        self.calling.add(written.id)\n        return written",
        "        self.calling.add(written.id)\n"
        "        await context.db.write(workers.refuse, written.id, '', Cause.OUR_FAULT, now=0, epoch=context.epoch)\n"
        "        return written",
        "at the instant of the call nothing in the store stands for the order",
        (SAFETY + "test_the_intent_is_durable_before_the_call",),
    ),
    Mutant(
        "call-of-a-dead-engine-is-over",
        "engine/reconciler.py",
        "            over = worker.created_at + CREATE_CALL_MS",
        "            over = worker.created_at",
        "a create that was on its way when the engine died is given up while it may still arrive",
        (SAFETY + "test_a_call_whose_engine_died_may_still_arrive",),
    ),
    Mutant(
        "no-lag",
        "engine/reconciler.py",
        "        if asked_at - over < provider.facts.listing_lag_ms:",
        "        if asked_at < over:",
        "an order that is not listed yet is given up",
        (SAFETY + "test_an_order_in_doubt_is_settled_by_three_listings_after_the_lag",),
    ),
    Mutant(
        "one-listing-without-order",
        "engine/reconciler.py",
        "LISTINGS_WITHOUT_ORDER = 3",
        "LISTINGS_WITHOUT_ORDER = 1",
        "a single listing settles that no order came of a call",
        (SAFETY + "test_after_the_lag_a_single_listing_is_not_enough",),
    ),
)

LISTING_MUTANTS = (
    Mutant(
        "error-is-an-empty-list",
        "engine/reconciler.py",
        "            await self._note_error(name, str(error))\n            return\n",
        "            rentals = ()\n",
        "a provider that does not answer has no machines of ours",
        (SAFETY + "test_a_listing_that_fails_is_no_empty_listing",),
    ),
    Mutant(
        "one-absence-is-enough",
        "engine/reconciler.py",
        "LISTINGS_WITHOUT_MACHINE = 2",
        "LISTINGS_WITHOUT_MACHINE = 1",
        "one empty list gives up every machine",
        (SAFETY + "test_one_listing_without_it_says_nothing_two_that_are_no_old_ones_do",),
    ),
    Mutant(
        "old-lists-count",
        "engine/reconciler.py",
        "        if asked_at - since < provider.facts.listing_lag_ms:",
        "        if asked_at < since:",
        "lists from before a machine showed give it up",
        (SAFETY + "test_one_listing_without_it_says_nothing_two_that_are_no_old_ones_do",),
    ),
    Mutant(
        "trust-a-list-with-holes",
        "providers/clore/provider.py",
        "    if len(complete) < len(found):",
        "    if len(complete) < len(found) and False:",
        "a list with an order that cannot be read is taken for whole",
        (QUIRK + "test_quirk_04_a_live_order_without_an_id_makes_the_list_incomplete",),
    ),
    Mutant(
        "adopt-a-foreign-order",
        "providers/clore/orders.py",
        "        known\n        and rental.server_id",
        "        rental.server_id",
        "an order of somebody else on the same server is taken over, and given back",
        (QUIRK + "test_only_an_order_that_is_certainly_ours_is_recognised",),
    ),
    Mutant(
        "adopt-an-older-order",
        "providers/clore/orders.py",
        "        and rental.order_id not in claim.known_orders\n",
        "",
        "an order that was there before the call is taken for its result",
        (QUIRK + "test_only_an_order_that_is_certainly_ours_is_recognised",),
    ),
    Mutant(
        "every-stranger-is-an-orphan",
        "engine/orphans.py",
        "                if provider.recognises(claim_of(worker), rental):",
        "                if rental.up:",
        "a machine of somebody else is given back",
        (SAFETY + "test_only_our_own_order_is_taken_for_ours",),
    ),
    Mutant(
        "adopt-without-proof",
        "engine/reconciler.py",
        "            found = [rental for rental in free if provider.recognises(claim_of(worker), rental)]",
        "            found = [rental for rental in free if rental.server_id == worker.server_id]",
        "whatever stands on that server is taken for ours",
        (SAFETY + "test_only_our_own_order_is_taken_for_ours",),
    ),
    Mutant(
        "orphans-are-let-run",
        "engine/orphans.py",
        "            await provider.release(rental.order_id)\n",
        "            pass\n",
        "a machine that counts as gone and is listed bills on",
        (SAFETY + "test_only_our_own_order_is_taken_for_ours",),
    ),
)

RELEASE_MUTANTS = (
    Mutant(
        "release-without-confirmation",
        "engine/releaser.py",
        '            detail = f"asked {worker.provider} to take order {order_id} back"\n',
        '            detail = f"asked {worker.provider} to take order {order_id} back"\n'
        "            await context.db.write(\n"
        "                workers.confirm_gone, worker.id, detail, cause=None, now=context.now(), epoch=context.epoch\n"
        "            )\n"
        "            return\n",
        "the provider's yes closes the books; a machine that lives on bills unseen",
        (SAFETY + "test_giving_back_is_asked_for_again_for_ever_and_believed_by_listings_alone",),
    ),
    Mutant(
        "stop-asking",
        "engine/releaser.py",
        'await self._ask(worker, worker.order_id or "")',
        'await self._ask(worker, worker.order_id or "") if worker.release_asked < 6 else None',
        "a machine that does not go at the sixth call stays for ever",
        (SAFETY + "test_giving_back_is_asked_for_again_for_ever_and_believed_by_listings_alone",),
    ),
    Mutant(
        "reap-what-is-foreign",
        "engine/audit.py",
        '"foreign" if worker is None else "orphan"',
        '"orphan"',
        "`gpuscale reap` gives back the machines of others on the same account",
        ("tests/engine/test_audit.py::test_orphans_are_given_back_and_what_is_foreign_is_only_shown",),
    ),
    Mutant(
        "stop-now-does-not-stay",
        "engine/keeper.py",
        "        if not control.until_confirmed:",
        "        if control is not None:",
        "stopping all spending ends while machines still cost",
        ("tests/engine/test_audit.py::test_stop_now_stays_until_the_provider_confirms",),
    ),
    Mutant(
        "silence-is-death",
        "engine/attempt.py",
        "            except (Unreachable, AuthRefused, HostKeyChanged) as error:\n",
        "            except (Unreachable, AuthRefused, HostKeyChanged) as error:\n"
        "                return await self._end(AttemptEnd(Cause.PREEMPTED, error=str(error)))\n",
        "a machine that cannot be reached is taken for gone: its job runs twice at once",
        (SAFETY + "test_silence_is_not_the_end_of_an_attempt",),
    ),
)

JOB_MUTANTS = (
    Mutant(
        "epoch-guard-skipped",
        "store/database.py",
        "    if row is None or row[0] != epoch:",
        "    if row is None:",
        "an engine that was replaced goes on writing",
        ("tests/store/test_concurrency.py::test_a_stale_engine_changes_nothing",),
    ),
    Mutant(
        "epoch-guard-skipped-in-batches",
        "store/batches.py",
        "            check_epoch(connection, entry.epoch)",
        "            check_epoch(connection, None)",
        "an engine that was replaced goes on writing when commands wait together",
        ("tests/store/test_aio.py::test_a_stale_engine_is_out_while_a_users_commands_go_on",),
    ),
    Mutant(
        "two-engines",
        "engine/lock.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "two engines work one home",
        ("tests/engine/test_hosts.py::test_one_engine_a_home",),
    ),
    Mutant(
        "place-what-is-placed",
        "store/jobs.py",
        "\" WHERE id = ? AND state = 'pending' AND cancel_requested_at IS NULL\"",
        '" WHERE id = ? AND cancel_requested_at IS NULL"',
        "a job that runs is given to a second machine",
        ("tests/store/test_concurrency.py::test_a_job_is_placed_by_exactly_one_of_many_callers",),
    ),
    Mutant(
        "start-without-a-claim",
        "remote/scripts.py",
        "set -C\nif echo claimed > claim; then set +C;",
        "if echo claimed > claim; then :;",
        "an attempt whose start is repeated runs twice",
        (
            "tests/remote/test_attempts.py::test_starts_at_the_same_instant_run_the_command_once",
            "tests/remote/test_attempts.py::test_repeated_start_runs_the_command_once",
        ),
    ),
    Mutant(
        "requeue-with-a-living-attempt",
        "engine/ending.py",
        "        if attempt is not None and attempt.state != AttemptState.ENDED:",
        "        if attempt is None:",
        "the machine is gone, its attempt lives on in the store and the job never runs again",
        (SAFETY + "test_a_machine_that_is_gone_ends_its_attempt_and_its_job_waits_again",),
    ),
    Mutant(
        "a-late-report-counts",
        "store/jobs.py",
        "    if current is None or current.state == AttemptState.ENDED:\n        return False",
        "    if current is None:\n        return False",
        "the report of an attempt that was given up ends the job of a later one",
        ("tests/store/test_transitions.py::test_a_late_report_changes_nothing",),
    ),
    Mutant(
        "preemption-fails-the-job",
        "policy/outcomes.py",
        "    if cause == Cause.PREEMPTED:\n        return Verdict(JobState.PENDING, counted=True)",
        "    if cause == Cause.PREEMPTED:\n        return Verdict(JobState.FAILED, counted=True)",
        "a job whose machine was taken away fails",
        ("tests/policy/test_outcomes.py::test_every_cell",),
    ),
    Mutant(
        "our-fault-counts",
        "policy/outcomes.py",
        "COUNTED = frozenset({Cause.HOST_FAULT,",
        "COUNTED = frozenset({Cause.OUR_FAULT, Cause.HOST_FAULT,",
        "errors of this program make jobs fail",
        ("tests/policy/test_outcomes.py::test_every_cell",),
    ),
    Mutant(
        "no-last-save",
        "engine/attempt.py",
        "        if done.has_checkpoints:\n            await self._saving.save_last(site, done)\n",
        "",
        "a job's last checkpoints are lost with its machine",
        ("tests/engine/test_dispatch.py::test_checkpoints_are_saved_before_the_machine_takes_the_next_job",),
    ),
    Mutant(
        "no-save-at-a-stop",
        "engine/attempt.py",
        "        if done.has_checkpoints:\n",
        "        if done.has_checkpoints and not done.stopped:\n",
        "a job that is moved loses its work since the last snapshot",
        ("tests/engine/test_hosts.py::test_stopping_at_once_saves_and_puts_back",),
    ),
    Mutant(
        "end-what-may-run",
        "engine/attempt.py",
        "                if await self._certainly_stopped():",
        "                if True:",
        "an attempt is ended though its command may still run: its job runs twice at once",
        (SAFETY + "test_an_attempt_ends_only_once_its_command_is_certainly_stopped",),
    ),
    Mutant(
        "broken-snapshots-count",
        "store/checkpoints.py",
        "        return self.verify(snapshot)\n\n    def _distrust",
        "        return None\n\n    def _distrust",
        "a job resumes from a torn checkpoint",
        ("tests/store/test_checkpoints.py::test_a_broken_snapshot_is_skipped_and_the_reason_said",),
    ),
    Mutant(
        "torn-files-are-resumed-from",
        "store/checkpoints.py",
        "        if snapshot.fault is not None:\n            faulty.append",
        "        if snapshot.fault is None and snapshot.path is None:\n            faulty.append",
        "a file that its own format says is cut off wins over an older whole one",
        ("tests/store/test_soundness.py::test_a_torn_file_never_wins_over_an_older_whole_one",),
    ),
    Mutant(
        "rot-is-copied-on",
        "store/verification.py",
        "            if digest.hexdigest() != entry.sha256:",
        "            if digest.hexdigest() != entry.sha256 and not entry.sha256:",
        "a flipped bit in a stored checkpoint is not found",
        ("tests/store/test_checkpoints.py::test_a_broken_snapshot_is_skipped_and_the_reason_said",),
    ),
    Mutant(
        "the-last-valid-one-is-pruned",
        "store/checkpoints.py",
        "[number for number in doomed if number != valid]",
        "doomed",
        "pruning removes the only whole snapshot",
        ("tests/store/test_checkpoints.py::test_pruning_keeps_the_last_valid_one",),
    ),
    Mutant(
        "pins-do-not-hold",
        "store/checkpoints.py",
        "[number for number in numbers[max(1, keep) :] if number not in pinned]",
        "numbers[max(1, keep) :]",
        "a snapshot that its user pinned is pruned",
        ("tests/store/test_checkpoints.py::test_pruning_keeps_what_is_pinned",),
    ),
    Mutant(
        "half-written-files-are-complete",
        "policy/completeness.py",
        "if 0 <= self.now.clock - touched(entry) >= self.settle_ms:",
        "if self.now.clock:",
        "a checkpoint is stored while it is being written",
        ("tests/policy/test_completeness.py::test_a_file_is_complete_once_it_stood_still",),
    ),
    Mutant(
        "unfinished-names-are-taken",
        "policy/completeness.py",
        "    named = [entry for entry in usual if not is_temporary(entry.path)]",
        "    named = list(usual)",
        "a file under its temporary name passes for a checkpoint",
        ("tests/policy/test_completeness.py::test_temporary_names_are_never_taken",),
    ),
    Mutant(
        "beginning-anew-is-verified",
        "policy/rehearsing.py",
        '        return Compared(False, f"{said}: does',
        '        return Compared(True, f"{said}: does',
        "a rehearsal calls a job verified that began from the start",
        ("tests/policy/test_rehearsing.py::test_beginning_anew_is_wrong",),
    ),
    Mutant(
        "losses-are-not-noted",
        "engine/ending.py",
        "    if ended and not done and not end.all_saved:\n",
        "    if ended and not done and end.all_saved:\n",
        "what an end cost is told to nobody",
        ("tests/engine/test_saving_before_the_end.py::test_losses_agree_with_the_books_whenever_they_are_written",),
    ),
    Mutant(
        "bad-machines-work",
        "engine/booter.py",
        "if not await examiner.is_trusted(context, worker, examined):",
        "if examined is None and not await examiner.is_trusted(context, worker, examined):",
        "a machine that is not what was paid for gets the job",
        ("tests/engine/test_trust.py::test_a_machine_that_is_not_what_it_was_offered_as_goes_back",),
    ),
    Mutant(
        "no-lease",
        "engine/leaser.py",
        "        return max(1, round(hours * HOUR_SEC)) if hours else 0",
        "        return 0 if hours else 0",
        "machines go on for ever when the bastion dies",
        ("tests/engine/test_lease.py::test_after_its_lease_a_job_has_saved_and_goes_on_where_it_was",),
    ),
    Mutant(
        "release-what-was-given-a-job",
        "engine/planner.py",
        "    if worker is None or worker.state != state:",
        "    if worker is None:",
        "a machine that was given a job since the plan was made is taken from it",
        ("tests/engine/test_planner.py::test_a_machine_that_was_given_a_job_since_the_plan_is_not_given_back",),
    ),
)

MONEY_MUTANTS = (
    Mutant(
        "forget-the-creation-fee",
        "providers/clore/orders.py",
        "creation_fee if due else Decimal(0))",
        "Decimal(0))",
        "the bill lacks the fee for creating the order",
        ("tests/providers/test_clore_provider.py::test_the_creation_fee_falls_due_after_ten_minutes",),
    ),
    Mutant(
        "our-estimate-is-the-bill",
        "engine/reconciler.py",
        "ending.Bill(total, billed is not None)",
        "ending.Bill(total, True)",
        "the provider's last bill is never looked for: ledger and bill differ",
        (SAFETY + "test_the_last_bill_is_taken_over_after_the_end",),
    ),
    Mutant(
        "ledger-books-totals",
        "store/spans.py",
        '(now, worker_id, total - row["cost"])',
        "(now, worker_id, total)",
        "each look at a bill books it whole once more",
        ("tests/store/test_books.py::test_a_lower_bill_of_the_provider_corrects_the_ledger",),
    ),
    Mutant(
        "a-used-up-day-goes-on",
        "engine/treasurer.py",
        "    if everything is not None:",
        "    if everything is not None and not out:",
        "machines go on costing when the day's budget is used up",
        ("tests/engine/test_treasurer.py::test_a_used_up_day_gives_back_all_that_costs_with_least_to_lose_first",),
    ),
    Mutant(
        "never-ready-is-set-up",
        "store/workers.py",
        '    if worker.state == WorkerState.BOOTING:\n        spans.relabel(connection, worker_id, "rejected")\n    if cause',
        "    if cause",
        "what machines that never worked have cost is booked as set-up",
        ("tests/store/test_books.py::test_a_machine_that_never_became_ready_is_rejected",),
    ),
)

HOSTILE_MUTANTS = (
    Mutant(
        "accept-a-changed-host-key",
        "remote/connection.py",
        "        return not self.refused",
        "        return True",
        "somebody in between gets the job, its data and its secrets",
        ("tests/remote/test_connection.py::test_another_host_key_is_refused",),
    ),
    Mutant(
        "unpack-what-was-not-asked-for",
        "remote/untar.py",
        '        if name.rstrip("/") not in self._wanted:',
        "        if not name:",
        "an archive writes outside its directory",
        ("tests/remote/test_untar.py::test_hostile_archives_are_refused",),
    ),
    Mutant(
        "links-come-out-of-archives",
        "remote/untar.py",
        "        else:  # a directory or link where a file was a moment ago: not there, as far as we care\n",
        '        elif member.kind == b"2":\n            (self._target / name).symlink_to(member.target)\n        else:\n',
        "an archive plants a link to any file of ours",
        ("tests/remote/test_untar.py::test_links_and_devices_of_a_wanted_name_are_passed_over",),
    ),
    Mutant(
        "secrets-in-argv",
        "remote/launch.py",
        '    words = launch.argv or (shell, "-c", launch.command)\n',
        '    given = " ".join(f"{name}={quote(value)}" for name, value in launch.env.items())\n'
        '    words = launch.argv or (shell, "-c", f"export {given}\\n{launch.command}")\n',
        "everybody on the machine reads the job's secrets in its command line",
        ("tests/remote/test_attempts.py::test_environment_arrives_exactly_and_stays_private",),
    ),
    Mutant(
        "secrets-in-the-database",
        "store/rows.py",
        "json.dumps(sorted(spec.secret_env))",
        "json.dumps(spec.secret_env)",
        "values of secrets stand in the database",
        ("tests/store/test_jobs.py::test_values_of_secrets_never_reach_the_database",),
    ),
    Mutant(
        "key-in-errors",
        "providers/clore/api.py",
        '(str(error) or type(error).__name__).replace(self._key, "[key]")',
        "(str(error) or type(error).__name__)",
        "the account's key stands in error texts, and from there in logs and database",
        (QUIRK + "test_quirk_17_the_key_is_in_no_log_and_no_error",),
    ),
    Mutant(
        "log-lines-are-not-redacted",
        "engine/redaction.py",
        "        return clean_lines(self._redact(super().format(record)))",
        "        return clean_lines(super().format(record))",
        "keys and addresses stand in the engine's log",
        ("tests/hostile/test_log_lines.py::test_a_canary_in_a_log_line_is_taken_out_by_value",),
    ),
    Mutant(
        "escape-sequences-pass",
        "model/plain.py",
        '_PILES.sub(r"\\1", _CONTROLS.sub("", _SEQUENCES.sub("", text',
        '_PILES.sub(r"\\1", str("") + str(_SEQUENCES.sub("", text',
        "bytes of a machine steer the user's terminal",
        ("tests/hostile/test_log_lines.py::test_raw_bytes_in_the_engines_own_log",),
    ),
    Mutant(
        "quotes-do-not-quote",
        "remote/launch.py",
        '    return "\'" + text.replace("\'", "\'\\\\\'\'") + "\'"',
        '    return "\'" + text + "\'"',
        "a job's environment runs commands in our script",
        ("tests/remote/test_launch.py::test_quoted_words_are_words",),
    ),
)

MUTANTS = (
    *CAP_MUTANTS,
    *CREATE_MUTANTS,
    *LISTING_MUTANTS,
    *RELEASE_MUTANTS,
    *JOB_MUTANTS,
    *MONEY_MUTANTS,
    *HOSTILE_MUTANTS,
)
