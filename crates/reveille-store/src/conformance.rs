//! What every store must do: the definition of the port, as code that a test of any adapter runs.
//!
//! [`conforms`] runs all of it; each part is public too, and [`each_part_of_store_conformance`] names them, so
//! that an adapter has one test of each. A failure is a panic that says what was expected. The suite keeps no
//! time of its own: instants are handed in, and an adapter that hangs hangs the test.
//!
//! [`each_part_of_store_conformance`]: crate::each_part_of_store_conformance

mod accepting;
mod answering;
mod carriers;
mod changing;
mod claiming;
mod copying;
mod delivering;
mod directory;
mod drift;
mod forgetting;
mod house;
mod inventory;
mod lasting;
mod listening;
mod recording;
mod replaying;
mod showing;

use crate::Store;
use async_trait::async_trait;
use std::sync::Arc;

pub use accepting::*;
pub use answering::*;
pub use carriers::*;
pub use changing::*;
pub use claiming::*;
pub use copying::*;
pub use delivering::*;
pub use directory::*;
pub use drift::*;
pub use forgetting::*;
pub use inventory::*;
pub use lasting::*;
pub use listening::*;
pub use recording::*;
pub use replaying::*;
pub use showing::*;

/// An adapter under test.
#[async_trait]
pub trait Bench: Send + Sync {
    /// A place for a store in which there is nothing yet, and to which nobody else comes.
    async fn empty_place(&self) -> Box<dyn Place>;

    /// Waits until the leases that were taken until now have run out, where there are any.
    async fn leases_run_out(&self) {}
}

/// Where one store is kept. Whatever it needed is gone when it is dropped.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store that is there; the suite has dropped the one that was opened before.
    async fn open(&self) -> Arc<dyn Store>;
}

/// Names every part of the suite to a macro, so that an adapter has one test of each.
#[macro_export]
macro_rules! each_part_of_store_conformance {
    ($each:ident) => {
        $each! {
            an_accepted_request_is_shown_as_it_was_given
            a_target_waits_as_it_was_resolved
            a_request_that_cannot_be_written_leaves_nothing
            a_request_of_an_unknown_account_leaves_nothing
            order_numbers_grow
            a_repeat_under_a_key_is_the_first_request
            a_key_counts_for_its_user_and_account_only
            an_expired_key_is_free_again
            limits_refuse_without_a_trace
            ended_work_makes_room_within_the_limits
            calls_at_once_do_not_harm_one_another
            order_numbers_are_told_in_their_order
            a_lane_waits_in_order
            a_request_waits_in_order_across_its_lanes
            lanes_are_those_in_which_anything_waits
            the_earliest_on_an_euicc_is_whose_turn_it_is
            whose_turn_it_is_may_claim
            a_claim_tells_of_a_cancellation
            two_processes_never_have_one_euicc
            a_late_outcome_is_refused
            handles_are_kept
            a_late_handle_is_left_alone
            what_is_accepted_for_later_is_kept_from_others
            the_first_notice_counts
            an_old_notice_is_forgotten
            logins_take_turns
            logins_that_fail_come_to_an_end
            other_credentials_get_one_try
            comparing_takes_turns_and_goes_on
            a_drift_is_found_when_it_is_seen_twice
            every_drift_is_shown_as_it_was_seen
            a_lease_ends_with_its_subrequest
            what_nobody_has_begun_may_be_ended
            two_processes_do_not_tell_one_callback_at_once
            an_outcome_comes_with_state_history_and_callback
            a_fault_is_kept_with_its_detail
            what_is_told_may_be_sparse
            every_state_and_status_is_kept
            a_second_outcome_changes_nothing
            the_first_outcome_of_a_batch_counts
            an_unknown_subrequest_cannot_end
            a_batch_of_outcomes_may_span_requests
            a_request_ends_exactly_with_its_last_subrequest
            a_doubt_never_takes_a_profile_back
            a_change_and_a_doubt_are_one_row_of_history
            a_profile_is_in_doubt_until_it_is_settled
            profiles_are_read_in_the_order_asked
            a_request_is_cancelled_while_it_waits
            the_longest_due_callback_comes_first
            a_due_callback_says_what_was_recorded
            the_next_due_instant_is_known
            an_acknowledged_callback_is_delivered
            a_callback_is_due_again_until_it_is_exhausted
            without_a_listener_a_callback_is_archived
            a_mark_made_twice_counts_once
            a_mark_of_an_ended_callback_changes_nothing
            a_mark_of_an_older_series_changes_nothing
            a_batch_of_marks_may_span_requests
            a_replay_is_a_new_series
            the_acknowledged_attempt_outlives_replays
            only_ended_callbacks_are_replayed
            an_accounts_archive_is_replayed
            delivered_callbacks_are_replayed_where_asked
            one_requests_callbacks_are_replayed
            a_window_of_time_is_replayed
            a_replay_goes_on_in_batches
            counts_are_true_after_a_replay
            requests_are_listed_newest_first
            requests_are_listed_by_whether_they_have_ended
            a_listed_request_shows_its_counts
            another_accounts_request_moves_no_page
            subrequests_are_listed_in_order
            callbacks_are_listed_in_the_order_of_the_store
            a_listed_callback_shows_where_it_is
            nothing_untold_or_young_is_forgotten
            an_old_told_request_goes_in_small_steps
            history_outlives_its_request
            a_replayed_request_is_kept_until_it_is_told_again
            order_numbers_are_never_given_again
            old_keys_are_forgotten
            old_sessions_are_forgotten
            old_history_goes_in_small_steps
            a_store_takes_one_key
            a_declaration_is_applied
            a_declaration_applied_again_changes_nothing
            a_changed_listener_is_applied
            a_given_secret_rotates
            a_rotated_secret_revokes_the_token
            a_declared_password_undoes_no_reset
            a_client_is_found_by_key_and_number
            a_token_is_the_same_within_its_hour
            a_revoked_token_never_comes_back
            failed_logins_in_a_row_lock
            an_unlocked_user_may_fail_again
            a_session_is_opened_used_and_ended
            a_token_opens_one_session
            a_listener_takes_the_place_of_the_former
            a_carrier_is_held_until_released
            an_imported_profile_is_shown_whole
            profiles_may_share_an_euicc
            profiles_are_found_by_their_account_alone
            a_good_fleet_has_no_problems
            a_bad_row_is_named_by_its_line
            an_import_repeated_changes_nothing
            an_import_is_completed_by_a_repeat
            an_import_completes_what_is_known
            an_import_takes_nothing_from_another_account
            the_fleet_is_shown_page_by_page
            the_fleet_is_shown_by_network_and_state
            history_is_told_oldest_first
            a_device_is_found_with_what_is_on_it
            a_devices_own_part_knows_how_its_profiles_ended
            one_outcome_may_change_several_profiles
            history_says_how_a_profile_was_at_each_change
            a_plan_is_changed_and_kept
            a_suspension_is_known_while_it_lasts
            changes_are_counted
            the_terms_of_a_request_are_kept
            profiles_are_found_by_what_is_known_of_them
            a_timeline_has_everything_that_was_asked
            pages_wait_as_they_were_planned
            a_document_is_kept_and_read_by_itself
            a_history_is_told_in_pages
            a_subrequest_is_warned_of_once_while_it_waits
            a_warning_counts_in_no_request
            a_warning_ends_with_its_subrequest
            services_do_not_mix
            further_listeners_are_told_too
            a_further_listener_is_told_while_it_is_registered
            one_listeners_callbacks_are_listed_and_replayed
            a_request_stays_while_a_further_listener_waits
            further_listeners_are_warned_too
            a_service_has_its_own_listener_and_further_ones
            calls_to_carriers_stand_in_the_timeline
            what_requests_write_outlasts_a_restart
            what_the_directory_writes_outlasts_a_restart
            many_at_once_lose_nothing
        }
    };
}

macro_rules! conformance {
    ($($part:ident)*) => {
        /// Runs the whole suite.
        pub async fn conforms(bench: &dyn Bench) {
            $($part(bench).await;)*
        }
    };
}
crate::each_part_of_store_conformance!(conformance);
