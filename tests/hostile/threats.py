"""The list of threats, and the tests that stand against each. `test_threats` checks that every one of them exists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threat:
    """A threat: `word` is in the name of at least one of its tests; `tests` are FILE::FUNCTION below `tests/`."""

    what: str
    word: str
    tests: tuple[str, ...]


THREATS: tuple[Threat, ...] = (
    Threat(
        "Output of a machine with escape codes (title, clipboard, cursor, links), C1 bytes, direction marks, NUL",
        "raw_bytes",
        (
            "hostile/test_terminal.py::test_raw_bytes_on_the_screen",
            "hostile/test_terminal.py::test_raw_bytes_in_what_a_verb_prints",
            "hostile/test_terminal.py::test_the_checker_sees_what_it_is_for",
            "hostile/test_log_lines.py::test_raw_bytes_in_the_engines_own_log",
            "tui/test_hostile.py::test_hostile_text_is_harmless_on_every_screen",
            "cli/test_logs.py::test_a_terminal_gets_clean_text",
        ),
    ),
    Threat(
        "Markup in names, errors and hosts",
        "markup",
        (
            "tui/test_hostile.py::test_markup_in_names_is_shown_as_it_is_written",
            "tui/test_hostile.py::test_hostile_text_is_harmless_on_every_screen",
            "engine/test_notifier.py::test_a_message_calls_nobody_leads_nowhere_and_ends",
        ),
    ),
    Threat(
        "Archives: ways out, links, devices, set-id bits, names that differ by case, much from little",
        "archive",
        (
            "hostile/test_archives.py::test_an_archive_never_leaves_its_directory",
            "hostile/test_archives.py::test_an_archive_makes_no_program_of_root",
            "hostile/test_archives.py::test_an_archive_whose_names_differ_by_case_overwrites_nothing",
            "hostile/test_archives.py::test_an_archive_that_grows_is_cut_off",
            "remote/test_untar.py::test_hostile_archives_are_refused",
            "remote/test_untar.py::test_a_flood_of_wrapping_is_given_up",
            "remote/test_untar.py::test_a_machine_that_lies_in_its_archive",
            "remote/test_transfer.py::test_listing_limits",
            "remote/test_transfer.py::test_fetch_limits",
        ),
    ),
    Threat(
        "A giant or endless log",
        "endless_log",
        (
            "hostile/test_endless_output.py::test_an_endless_log_is_cut_and_the_job_goes_on",
            "remote/test_hostile.py::test_a_flood_of_output_is_held_back",
            "remote/test_hostile.py::test_a_flood_of_stderr_is_given_up",
            "tui/test_hostile.py::test_a_very_long_line_is_drawn_in_no_time_and_cut",
        ),
    ),
    Threat(
        "Another host key, or somebody in between, at first contact and later",
        "host_key",
        (
            "remote/test_connection.py::test_the_first_host_key_is_told_and_then_pinned",
            "remote/test_connection.py::test_another_host_key_is_refused",
            "remote/test_connection.py::test_no_agent_and_no_configuration_take_part",
            "providers/test_clore_quirks.py::test_quirk_18_two_orders_may_share_an_address_and_no_host_key_is_assumed",
        ),
    ),
    Threat(
        "A machine that reads what it is sent",
        "secret",
        (
            "hostile/test_canaries.py::test_secrets_canary_scan",
            "engine/test_hosts.py::test_a_secret_reaches_the_job_and_nothing_else",
            "remote/test_attempts.py::test_environment_arrives_exactly_and_stays_private",
        ),
    ),
    Threat(
        "Strings that break out of a shell",
        "shell_injection",
        (
            "hostile/test_shell.py::test_shell_injection_by_a_quoted_word",
            "hostile/test_shell.py::test_shell_injection_by_arguments_and_environment",
            "hostile/test_shell.py::test_shell_injection_by_a_command",
            "hostile/test_shell.py::test_shell_injection_through_the_login_shell",
            "hostile/test_shell.py::test_shell_injection_by_names_of_files",
            "hostile/test_shell.py::test_shell_injection_by_the_checkpoint_directory",
            "hostile/test_shell.py::test_shell_injection_by_the_image_and_other_words",
        ),
    ),
    Threat(
        "Options for SSH as host or user",
        "ssh_option",
        (
            "hostile/test_shell.py::test_ssh_option_injection_is_refused",
            "hostile/test_shell.py::test_ssh_options_have_no_client_to_go_to",
            "providers/test_clore_quirks.py::test_quirk_18_a_host_name_that_is_none_gives_no_address",
        ),
    ),
    Threat(
        "The API key and other secrets in arguments, environments, logs, the database, on screen",
        "canary",
        (
            "hostile/test_canaries.py::test_secrets_canary_scan",
            "hostile/test_log_lines.py::test_a_canary_in_a_log_line_is_taken_out_by_value",
            "engine/test_notifier.py::test_secrets_are_taken_out_by_value",
            "providers/test_clore_quirks.py::test_quirk_17_the_key_is_in_no_log_and_no_error",
            "cli/test_notify.py::test_an_address_is_not_repeated_by_config",
        ),
    ),
    Threat(
        "Requests behind the firewall by addresses of notices",
        "ssrf",
        (
            "hostile/test_notices.py::test_ssrf_metadata_and_link_local_are_never_told",
            "hostile/test_notices.py::test_ssrf_a_name_does_not_lead_behind",
            "hostile/test_notices.py::test_ssrf_redirects_are_not_followed",
            "hostile/test_notices.py::test_ssrf_the_guard_stands_before_every_connection",
            "hostile/test_notices.py::test_ssrf_addresses_come_from_the_settings_alone",
            "hostile/test_replies.py::test_a_hostile_reply_that_leads_elsewhere_is_not_followed",
        ),
    ),
    Threat(
        "Other users of the same computer",
        "local_users",
        (
            "hostile/test_private_files.py::test_local_users_can_open_nothing_of_a_home",
            "hostile/test_private_files.py::test_local_users_can_open_nothing_that_the_program_itself_makes",
            "hostile/test_private_files.py::test_local_users_cannot_plant_a_lock",
            "hostile/test_private_files.py::test_local_users_find_no_fixed_names_in_shared_places",
            "hostile/test_private_files.py::test_local_users_cannot_read_an_api_key_by_a_loose_file",
            "hostile/test_private_files.py::test_local_users_have_no_port_to_talk_to",
        ),
    ),
    Threat(
        "Hostile replies of a marketplace",
        "hostile_reply",
        (
            "hostile/test_replies.py::test_a_hostile_reply_is_no_list",
            "providers/test_clore_properties.py::test_no_bytes_crash_the_reader",
            "providers/test_clore_properties.py::test_no_market_body_crashes_or_invents_an_offer",
            "providers/test_clore_properties.py::test_no_create_reply_crashes_and_only_a_plain_yes_is_one",
            "providers/test_clore_quirks.py::test_quirk_13_a_price_far_from_its_equivalents_is_refused",
            "providers/test_clore_quirks.py::test_quirk_22_an_endless_reply_is_cut_off",
        ),
    ),
    Threat(
        "Machines that are not what was offered",
        "hostile_cards",
        (
            "remote/test_examination.py::test_hostile_cards",
            "remote/test_examination.py::test_nothing_that_is_said_breaks_the_reader",
            "policy/test_trust.py::test_each_fault_is_told_with_both_figures",
        ),
    ),
    Threat(
        "Job files from elsewhere",
        "job_file",
        (
            "hostile/test_jobfiles.py::test_a_job_file_from_elsewhere_is_refused_as_data",
            "hostile/test_jobfiles.py::test_a_job_file_has_a_cap",
        ),
    ),
    Threat(
        "Dependencies, and data that is code",
        "dependency",
        ("hostile/test_threats.py::test_every_dependency_is_pinned_and_no_data_is_run_as_code",),
    ),
)
