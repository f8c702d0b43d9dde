//! Process children from a daemon's point of view, on real processes, with both containments.
//!
//! This program is daemon and guardian at once, as every program that hosts processes is, so it has
//! its own `main`. Arguments choose cases by parts of their names.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a case fails by panicking"
)]

mod daemon_death;
mod ends;
mod keeping;
mod pipes;
mod stops;
mod support;
mod suspends;
mod terminals;
mod trees;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use sortie_exec::{Guardian, LaunchOptions};
use sortie_wire::guardian_proto::{Containment, ContainmentChoice};

/// A case may take this long.
const CASE_TIME: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type Case = (&'static str, fn(Guardian) -> Running);

macro_rules! cases {
    ($($($part:ident)::+),+ $(,)?) => {
        [$((stringify!($($part)::+), |guardian| Box::pin($($part)::+(guardian)) as Running)),+]
    };
}

const CASES: &[Case] = &cases![
    ends::an_exit_code_is_reported,
    ends::a_signal_is_reported,
    ends::a_missing_program_is_told_from_a_missing_directory,
    ends::the_program_is_looked_up_in_the_childs_own_path,
    ends::a_relative_program_is_looked_up_in_the_working_directory,
    ends::init_runs_first_and_its_failure_is_the_childs,
    ends::a_script_is_run_by_its_interpreter,
    ends::a_child_has_three_descriptors_a_session_and_default_signals,
    ends::a_child_gets_the_daemons_own_limit_of_descriptors,
    ends::a_child_killed_for_want_of_memory_says_so,
    ends::a_thousand_children_started_at_once_all_end,
    ends::a_large_argument_list_arrives_whole,
    ends::too_many_arguments_are_an_error_of_the_start,
    pipes::sixty_four_mebibytes_arrive_unchanged,
    pipes::input_comes_back_unchanged,
    pipes::a_child_that_closes_its_input_goes_on,
    pipes::a_grandchild_that_keeps_stdout_is_killed_after_the_drain,
    pipes::a_slow_reader_loses_nothing_after_the_drain,
    pipes::output_past_its_limit_is_cut_and_counted,
    pipes::a_child_that_is_not_read_waits,
    stops::a_stop_asks_first_and_kills_after_the_grace,
    stops::a_child_that_heeds_the_stop_keeps_its_exit_code,
    stops::a_later_stop_brings_the_kill_forward,
    stops::a_stop_reaches_the_whole_tree,
    stops::a_timeout_stops_the_child,
    stops::a_stop_before_the_start_withdraws_it,
    stops::an_undisturbed_end_is_not_taken_for_a_stop,
    stops::what_was_dropped_is_waited_for_and_nothing_else,
    terminals::all_three_streams_are_one_terminal_that_controls_the_child,
    terminals::a_new_size_is_told_and_comes_after_the_keys_before_it,
    terminals::control_c_interrupts_the_foreground_and_not_the_shell,
    terminals::jobs_are_suspended_and_brought_back,
    terminals::every_byte_passes_a_raw_terminal_both_ways,
    terminals::nothing_of_a_long_output_is_lost_at_the_end,
    terminals::an_init_command_writes_to_the_terminal_and_does_not_hang_it_up,
    terminals::a_stop_ends_the_whole_tree_on_a_terminal,
    terminals::dropping_a_child_closes_its_terminal,
    suspends::a_suspended_tree_stands_still_and_goes_on_where_it_was,
    suspends::a_suspended_child_that_is_told_to_stop_gets_the_signal,
    suspends::a_suspended_child_that_ignores_the_signal_is_killed_after_the_grace,
    suspends::what_is_suspended_before_its_start_begins_suspended,
    suspends::an_init_command_that_is_suspended_goes_on_to_the_program,
    suspends::the_run_time_limit_stands_still_with_the_child,
    suspends::a_suspended_tree_is_gone_when_its_guardian_is,
    suspends::a_group_that_was_frozen_is_no_trap_for_the_next_child,
    trees::two_hundred_stubborn_trees_are_gone_after_a_kill,
    trees::what_a_child_leaves_behind_is_killed_and_counted,
    trees::dropping_a_child_kills_its_tree,
    trees::dropping_a_start_kills_what_was_started,
    trees::a_fork_bomb_is_gone_after_a_kill,
    trees::a_frozen_tree_is_killed,
    trees::no_zombie_is_left,
    daemon_death::dropping_the_guardian_kills_everything,
    daemon_death::a_guardian_that_is_ended_is_gone_and_others_are_left_alone,
    daemon_death::a_guardian_that_is_killed_takes_its_children_along,
    daemon_death::guardians_that_start_together_all_get_their_groups,
    daemon_death::a_guardian_ignores_signals_while_its_daemon_lives,
    daemon_death::what_is_left_when_both_were_killed_ends_with_the_next_start,
    daemon_death::a_daemon_that_is_killed_takes_everything_along,
    keeping::deaths::a_kept_child_goes_on_when_its_daemon_is_killed,
    keeping::deaths::what_a_guardian_told_before_it_was_killed_is_known_and_lost,
    keeping::deaths::a_kept_child_that_ends_alone_is_told_of_later,
    keeping::deaths::an_adopted_tree_is_stopped,
    keeping::deaths::an_adopted_child_keeps_its_timeout,
    keeping::deaths::ten_daemons_die_over_fifty_children,
    keeping::deaths::a_daemon_that_leaves_hands_its_children_on,
    keeping::deaths::kept_children_of_a_killed_guardian_are_lost_and_gone,
    keeping::deaths::an_end_whose_output_a_killed_guardian_read_is_lost,
    keeping::deaths::what_a_killed_guardian_left_is_cleared_by_the_next,
    keeping::deaths::input_that_died_with_the_daemon_is_not_taken_for_its_end,
    keeping::stopped::a_stop_is_one_for_the_next_daemon_whoever_saw_the_end,
    keeping::stopped::what_ended_before_the_signal_came_was_not_stopped,
    keeping::stopped::a_time_out_is_one_for_the_next_daemon,
    keeping::stopped::a_time_out_is_known_from_the_start,
    keeping::stopped::output_past_its_limit_is_that_for_the_next_daemon,
    keeping::places::two_daemons_cannot_have_the_same_children,
    keeping::places::an_orderly_end_kills_what_is_kept_and_leaves_nothing,
    keeping::places::what_nobody_can_find_any_more_ends,
    keeping::places::what_cannot_be_kept_is_refused,
    keeping::places::a_full_disk_pauses_kept_children,
    keeping::places::an_end_on_a_full_disk_is_known_without_its_guardian,
    keeping::output::sixty_four_mebibytes_of_a_kept_child_arrive_unchanged,
    keeping::output::a_kept_child_waits_until_its_output_is_stored,
    keeping::output::what_a_kept_child_leaves_behind_is_killed_and_counted,
    keeping::output::a_kept_childs_input_has_a_true_end,
    keeping::output::a_kept_child_is_stopped_and_cut_like_any_other,
    keeping::output::dropping_the_run_of_a_kept_child_kills_its_tree,
    keeping::output::the_next_life_of_a_kept_child_goes_on_where_it_ended,
];

fn main() -> ExitCode {
    sortie_guardian::run_if_asked();
    if std::env::var_os(daemon_death::VICTIM_VARIABLE).is_some() {
        daemon_death::be_a_daemon_until_killed();
    }
    if std::env::var_os(keeping::DIRECTORY_VARIABLE).is_some() {
        keeping::be_a_daemon_until_killed();
    }
    support::soft_descriptor_limit();
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = 0;
    for choice in [ContainmentChoice::Best, ContainmentChoice::Parentage] {
        for (name, case) in CASES {
            let name = format!("{choice:?}::{name}").replace(' ', "");
            if !chosen.is_empty() && !chosen.iter().any(|part| name.contains(part)) {
                continue;
            }
            let begin = std::time::Instant::now();
            let outcome = std::panic::catch_unwind(|| run_case(choice, *case));
            let word = if outcome.is_ok() { "ok" } else { "FAILED" };
            println!("test {name} ... {word} ({} ms)", begin.elapsed().as_millis());
            failed += u32::from(outcome.is_err());
        }
    }
    println!("{failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_case(containment: ContainmentChoice, case: fn(Guardian) -> Running) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = LaunchOptions { containment, ..LaunchOptions::default() };
        let guardian = Guardian::launch(options).await.expect("a guardian");
        if containment == ContainmentChoice::Parentage {
            assert_eq!(*guardian.containment(), Containment::Parentage);
        }
        tokio::time::timeout(CASE_TIME, case(guardian)).await.expect("the case to end in time");
    });
}
