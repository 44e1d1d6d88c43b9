//! Stories of releases, on a real cluster with real traffic. Each has its own namespace, and they are told side by side: a story
//! mostly waits. Those that take something away from everybody come after them, one at a time.
//!
//! The cluster starts with the first story that is told, and ends with the last; `E2E_KUBECONFIG`, `IMAGES` and
//! `PROMETHEUS_URL` tell them in yours. `cargo test --workspace --test stories -- rolled_back` tells some.

mod stories {
    pub(crate) mod bad_input;
    pub(crate) mod gate;
    pub(crate) mod identity;
    pub(crate) mod injection;
    pub(crate) mod lives;
    pub(crate) mod outages;
    pub(crate) mod promotion;
    pub(crate) mod rollback;
    pub(crate) mod rotation;
    pub(crate) mod runner;
    pub(crate) mod sidecar;
    pub(crate) mod superseded;
    pub(crate) mod surroundings;
    pub(crate) mod theatre;
    pub(crate) mod upgrade;
    pub(crate) mod wire;
}

use std::process::ExitCode;

use libtest_mimic::Arguments;
use stories::runner::Bill;
use stories::theatre::{Story, Theatre};
use stories::{
    bad_input, gate, identity, injection, lives, outages, promotion, rollback, rotation, runner,
    superseded, surroundings, upgrade,
};

/// As many as two cores carry: one story keeps about one of them busy while its pods start.
const SIDE_BY_SIDE: usize = 2;

macro_rules! told {
    ($($module:ident::$name:ident,)*) => {
        vec![$(Story { name: stringify!($name), play: |scene| Box::pin($module::$name(scene)) }),*]
    };
}

fn side_by_side() -> Vec<Story> {
    told![
        promotion::a_good_release_is_promoted_step_by_step_and_no_request_fails,
        rollback::a_bad_release_is_rolled_back_and_the_stable_version_serves,
        rollback::a_release_that_is_worse_than_stable_loses_its_weight_within_seconds,
        rollback::deleting_the_rollout_leaves_all_traffic_on_the_stable_version,
        rollback::a_version_that_never_starts_gets_no_traffic_and_is_given_up,
        superseded::a_newer_template_starts_at_weight_0_and_the_one_before_goes_to_0,
        superseded::going_back_to_the_stable_template_ends_the_release_at_weight_0,
        gate::a_changed_template_is_answered_with_who_releases_it,
        gate::resuming_a_failed_release_is_refused_and_says_what_to_do,
        surroundings::a_deployment_that_is_recreated_with_another_version_loses_no_request,
        bad_input::nonsense_is_refused_and_the_message_says_how_to_mend_it,
        bad_input::a_rollout_without_its_deployment_or_service_waits_and_says_so,
        identity::nobody_on_the_way_reads_what_sidecars_say_to_each_other,
        identity::a_namespace_turns_strict_and_back_and_no_request_of_the_mesh_fails,
        injection::only_labelled_pods_of_labelled_namespaces_get_a_sidecar,
        injection::a_version_without_a_sidecar_gets_no_traffic,
        lives::pods_start_and_end_in_order_and_no_request_of_others_is_lost,
    ]
}

/// What everybody would miss; and first what needs a control plane that answers at once: a pod's first caller from outside is not
/// kept waiting for longer than half a second.
fn alone() -> Vec<Story> {
    told![
        surroundings::callers_outside_the_mesh_are_split_by_weight,
        outages::a_killed_operator_goes_on_from_the_same_step_with_the_same_soak,
        outages::without_prometheus_a_release_holds_and_then_goes_on,
        outages::without_the_api_server_traffic_goes_on,
        upgrade::an_upgrade_and_a_lost_replica_cost_no_request_and_change_no_weight,
        rotation::restarts_and_another_workload_root_cost_no_request_and_no_stream,
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let theatre = Theatre::closed();
    let bill = Bill {
        side_by_side: side_by_side(),
        alone: alone(),
    };
    let result = runner::run(&arguments, &bill, SIDE_BY_SIDE, |number, story| {
        theatre.tell(number, story)
    });
    match theatre.close() {
        Ok(()) => result,
        Err(error) => {
            eprintln!("the cluster did not end as it should: {error:#}");
            ExitCode::FAILURE
        }
    }
}
