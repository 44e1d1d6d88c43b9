//! Releases on a real control plane, with the operator as a process and pods that only seem to run: what happens to
//! objects, whatever people, tools and failing requests do meanwhile. There is no traffic here; the stories have it.
//!
//! Cases run side by side, each in its own namespace. Those that take something away from everybody (the operator, the
//! webhooks, the types) come after them, one at a time on each of two control planes. A control plane starts with its
//! first case, and all end with the last. `cargo test -p aviary-e2e --test control_plane -- paused` runs some;
//! `AVIARY_OPERATOR_BIN` names another operator to run them against.

mod control_plane {
    pub(crate) mod admission;
    pub(crate) mod alerts;
    pub(crate) mod alone;
    pub(crate) mod bounds;
    pub(crate) mod break_glass;
    pub(crate) mod caller;
    pub(crate) mod configuration;
    pub(crate) mod deployments;
    pub(crate) mod edited;
    pub(crate) mod failed;
    pub(crate) mod faults;
    pub(crate) mod gitops;
    pub(crate) mod hall;
    pub(crate) mod hand_over;
    pub(crate) mod health;
    pub(crate) mod hooks;
    pub(crate) mod identity;
    pub(crate) mod leaving;
    pub(crate) mod one_namespace;
    pub(crate) mod paused;
    pub(crate) mod plugin_check;
    pub(crate) mod plugin_status;
    pub(crate) mod plugin_verbs;
    pub(crate) mod prometheus;
    pub(crate) mod promotion;
    pub(crate) mod recreated;
    pub(crate) mod refused;
    pub(crate) mod release;
    pub(crate) mod requests;
    pub(crate) mod sticky;
    pub(crate) mod strict;
    pub(crate) mod waiting;
}

use std::process::ExitCode;
use std::sync::Arc;

use control_plane::hall::{Case, Hall, Halls};
use control_plane::{
    admission, alerts, alone, bounds, break_glass, configuration, deployments, edited, failed,
    faults, gitops, hand_over, health, hooks, identity, leaving, one_namespace, paused,
    plugin_check, plugin_status, plugin_verbs, prometheus, promotion, recreated, refused, release,
    requests, sticky, strict, waiting,
};
use libtest_mimic::Arguments;

/// As many as two cores carry: a case mostly waits.
const SIDE_BY_SIDE: usize = 12;
/// Control planes. The first has the cases that run side by side, too.
const HALLS: usize = 2;

macro_rules! cases {
    ($($module:ident::$name:ident,)*) => {
        vec![$(Case { name: stringify!($name), run: |scene| Box::pin($module::$name(scene)) }),*]
    };
}

fn side_by_side() -> Vec<Case> {
    cases![
        deployments::real_controllers_do_with_deployments_what_the_simulated_ones_do,
        admission::whatever_the_schema_forbids_is_refused_with_the_fields_path,
        admission::every_rule_of_the_type_says_how_to_mend_it,
        admission::every_refusal_of_the_webhook_names_the_field_and_the_mend,
        admission::a_field_that_does_not_exist_is_named,
        release::a_good_release_is_promoted,
        release::a_bad_release_is_rolled_back_and_the_deployment_stays_paused,
        recreated::a_deployment_that_is_recreated_between_releases_is_adopted_afresh,
        recreated::a_deployment_that_is_recreated_during_a_release_is_adopted_afresh,
        recreated::a_deployment_that_comes_after_its_rollout_is_adopted,
        recreated::a_rollout_that_is_pointed_at_another_deployment_adopts_that_one,
        failed::a_rollout_that_is_made_anew_after_a_failure_does_not_call_the_bad_version_stable,
        failed::deleting_a_failed_rollout_says_that_the_deployment_stays_paused,
        failed::deleting_the_rollout_during_a_release_takes_the_canary_away_and_says_what_stays_paused,
        failed::a_namespace_with_a_running_release_can_be_deleted,
        failed::deleting_the_rollout_of_a_deployment_at_rest_leaves_it_unpaused,
        failed::an_annotation_alone_does_not_try_a_failed_version_again,
        failed::a_copy_whose_rollout_went_without_its_finalizer_is_removed,
        break_glass::with_break_glass_a_person_rolls_the_new_version_out_and_the_operator_stands_back,
        break_glass::with_break_glass_a_failed_version_is_not_paused_again,
        configuration::a_config_map_named_by_its_content_is_released_step_by_step_and_taken_back,
        configuration::images_of_an_overlay_reach_the_operator_and_the_sidecars,
        gitops::applied_every_second_by_the_client_a_release_goes_its_way,
        gitops::applied_every_second_by_the_server_a_release_goes_its_way,
        health::argo_and_flux_see_how_a_release_stands_in_every_phase,
        health::argo_and_flux_see_what_waits_for_a_person_and_what_nobody_releases,
        paused::applying_the_same_manifest_again_leaves_the_gate_closed,
        paused::replacing_the_manifest_drops_neither_the_pause_nor_the_label,
        paused::paused_false_in_the_manifest_does_not_open_the_gate,
        paused::undo_and_restart_are_refused_by_kubectl_and_resume_by_the_gate,
        paused::scaling_scales_the_stable_version,
        paused::scaled_to_nothing_and_back_the_stable_version_serves_again_and_no_older_one,
        paused::without_history_the_stable_version_comes_back_from_nothing_too,
        paused::a_stable_replica_set_that_is_deleted_is_rebuilt_at_once,
        paused::another_replica_set_that_somebody_scales_up_is_scaled_down_again,
        paused::going_back_to_the_stable_template_ends_the_run_and_opens_the_gate,
        paused::a_deployment_that_is_paused_at_first_sight_is_held_and_said,
        promotion::a_stuck_promotion_is_left_by_going_back_to_the_stable_template,
        promotion::a_stuck_promotion_is_left_by_a_version_that_is_mended,
        promotion::a_stuck_promotion_is_left_by_deleting_the_rollout,
        promotion::a_promotion_that_goes_on_takes_a_third_version_after_itself,
        edited::edited_steps_do_not_raise_the_weight_of_a_running_release,
        edited::edited_steps_lower_the_weight_at_once,
        edited::a_suspended_release_holds_and_still_rolls_back,
        prometheus::credentials_are_used_once_they_are_granted_and_annotated,
        waiting::a_paused_step_waits_for_a_person_and_is_not_stalled,
        waiting::a_request_for_another_revision_or_weight_is_taken_away_and_said,
        waiting::a_pause_with_a_length_ends_by_itself,
        waiting::taking_the_pause_out_of_the_spec_lets_the_release_go_on,
        waiting::a_failure_that_pauses_keeps_its_weight_until_the_stable_template_is_back,
        waiting::without_evidence_a_step_waits_for_a_person_who_takes_it_on,
        waiting::a_release_does_not_rise_while_stable_fails_the_same_checks,
        waiting::a_deleted_rollout_that_promotes_goes_to_0_first_and_then_rolls,
        requests::an_aborted_release_goes_to_0_and_is_tried_again_when_somebody_asks,
        requests::an_abort_while_nothing_is_released_changes_nothing_and_is_said,
        requests::a_release_that_a_person_has_paused_waits_and_gitops_does_not_resume_it,
        requests::whoever_promotes_now_skips_the_judgement_and_a_record_says_so,
        requests::an_aborted_promotion_goes_back_to_stable_and_stays_there,
        requests::a_request_has_the_name_of_whoever_asks_and_of_nobody_else,
        hooks::a_hook_is_asked_before_every_weight_and_the_release_waits_for_its_yes,
        hooks::a_hook_that_hangs_delays_no_rollback,
        hooks::a_hook_that_rolls_back_takes_the_canary_away,
        hooks::a_gate_is_asked_until_it_agrees_and_the_promotion_too,
        hooks::a_hook_is_told_how_a_release_ended_and_holds_nothing,
        hooks::what_happens_to_releases_is_told_to_the_room,
        hooks::a_call_is_signed_with_the_secret_that_was_opened_for_it,
        identity::a_pod_gets_its_certificate_and_callers_are_told_that_it_accepts_tls,
        plugin_status::the_plugin_waits_for_a_release_and_ends_with_the_code_of_its_end,
        plugin_status::the_plugin_waits_no_longer_when_a_person_is_needed_or_another_template_comes,
        plugin_status::the_plugin_shows_lists_and_follows_a_release,
        plugin_check::the_plugin_checks_what_is_right_and_names_the_mend_of_what_is_not,
        plugin_check::the_plugin_tells_why_a_release_was_rolled_back,
        plugin_check::the_plugin_shows_proxies_as_the_operator_knows_them,
        plugin_check::the_plugin_leaves_every_deployment_on_what_serves_and_unpaused,
        plugin_verbs::the_plugin_refuses_what_makes_no_sense_and_names_the_right_that_is_missing,
        plugin_verbs::the_plugin_holds_aborts_and_tries_a_release_again,
        plugin_verbs::the_plugin_promotes_what_waits_and_with_now_whatever_is_left,
        plugin_status::the_plugin_draws_a_release_on_a_terminal_and_leaves_it_as_it_was,
        plugin_status::the_plugin_says_what_is_not_there_or_not_allowed,
        identity::another_issuer_is_taken_up_and_one_that_is_no_good_is_not,
        sticky::callers_are_told_whose_requests_stay_together,
        bounds::callers_are_told_how_long_a_call_may_take,
        strict::a_namespace_refuses_plaintext_once_nobody_calls_in_the_clear,
        strict::a_policy_reaches_the_sidecars_of_the_pods_that_it_selects,
        strict::a_policy_that_makes_no_sense_is_refused_with_the_mend,
        refused::a_copy_that_may_not_be_created_is_said_and_tried_again,
        refused::a_deployment_of_the_users_with_the_copys_name_is_never_adopted,
        refused::a_rollout_whose_name_is_no_label_says_so,
        refused::the_younger_of_two_rollouts_on_one_deployment_waits_and_says_so,
        refused::what_cannot_be_released_is_refused_although_lookups_fail,
        refused::a_service_that_ties_clients_to_pods_is_refused,
        refused::strangers_behind_the_service_are_said,
        faults::a_canary_that_turns_bad_while_no_status_can_be_written_goes_to_0_within_three_windows,
        faults::a_version_that_is_stored_while_the_gate_opens_is_released_step_by_step,
        faults::a_version_that_is_stored_while_a_promotion_begins_is_released_step_by_step,
        faults::a_canary_pod_on_a_node_that_does_not_answer_keeps_no_rollback_from_ending,
        faults::conflicts_and_throttling_delay_a_release_and_nothing_else,
        faults::a_bad_canary_goes_to_0_although_its_copy_cannot_be_scaled,
    ]
}

/// They disturb everybody.
fn alone() -> Vec<Case> {
    cases![
        alone::a_strangers_container_named_like_the_sidecar_holds_nothing,
        alone::a_rollout_made_invalid_while_the_operator_was_away_can_be_deleted,
        alone::an_unreadable_memory_stalls_the_release_and_changes_nothing,
        alone::a_canary_that_turns_bad_while_the_api_server_is_away_is_taken_back,
        alone::a_release_goes_on_from_the_same_step_when_the_operator_comes_back,
        alone::a_deployment_rolled_out_by_hand_while_the_operator_was_away_is_what_serves,
        alone::a_rollout_of_a_newer_version_hides_no_other_one,
        requests::without_the_operator_a_request_waits_for_it_and_nobody_takes_anothers_name,
        alone::an_operator_that_waits_for_evidence_rests,
        strict::a_restarted_operator_goes_on_to_refuse_plaintext,
        alone::watches_that_the_api_server_calls_too_old_are_begun_anew_and_lose_nothing,
        alerts::alerts_fire_for_a_stalled_rollout_and_for_an_operator_that_is_away,
        alerts::a_certificate_that_is_not_renewed_is_told_of_long_before_its_end,
        hand_over::a_replica_that_ends_hands_over_and_the_release_goes_on,
        hand_over::a_replica_that_dies_is_succeeded_and_the_release_goes_on,
        hand_over::a_replica_that_stood_still_during_a_write_raises_nothing,
        // Those install everything anew: nothing comes after them where they were.
        one_namespace::for_one_namespace_the_operator_releases_with_rights_in_it_alone,
        leaving::after_uninstall_and_delete_every_deployment_serves_on_and_is_its_owners,
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nobody has installed another one");
    let halls: anyhow::Result<Vec<Arc<Hall>>> =
        (0..HALLS).map(|_| Hall::closed().map(Arc::new)).collect();
    let halls = match halls {
        Ok(halls) => halls,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let shared = &halls[0];
    let together = side_by_side().into_iter().map(|case| shared.trial(case));
    let mut of_them = arguments.clone();
    of_them.test_threads.get_or_insert(SIDE_BY_SIDE);
    let failed = libtest_mimic::run(&of_them, together.collect()).has_failed();

    // Who comes first gets the last of them: the one that is open already.
    let own = Halls::new(halls.iter().rev().cloned().collect());
    let single = alone().into_iter().map(|case| own.trial(case));
    let mut of_them = arguments;
    let threads = of_them.test_threads.unwrap_or(HALLS);
    of_them.test_threads = Some(threads.min(HALLS));
    let failed = libtest_mimic::run(&of_them, single.collect()).has_failed() || failed;
    for hall in halls {
        hall.close();
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
