//! One session against a world of a few objects: what it sends, asks and writes, whatever becomes of its writes.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_runtime::watcher::Event;
use rollout_core::desired;
use rollout_core::judge::Verdict;
use rollout_core::plan::Percent;
use rollout_core::state::Phase;
use serde_json::{Value, json};
use traffic_core::outcome;

mod decisions;
mod doubts;
mod exposure;
mod fuses;
mod sticky;
mod streams;

use super::*;
use crate::mesh::World as Mesh;
use crate::outcomes::Closed;
use crate::rollout::changes::{self, Change};
use crate::rollout::heard::Acknowledgement;
use crate::rollout::hooks::Call;
use crate::rollout::machine::{self, Memory};
use crate::rollout::measure::{Source, StableOutcome, WindowOutcome};
use crate::rollout::testing::{self, Writers, object};
use crate::rollout::traffic::Traffic;
use crate::rollout::views::NamespaceSeen;
use crate::rollout::write::{Kind, Verb, WriteError, Written};

mod hooks;

/// Deployment `payment` with two pods, its Service, and a CanaryRollout that has been adopted.
struct Shop {
    views: Views,
    writers: Writers,
    policy: PrometheusPolicy,
    traffic: Traffic,
    world: Arc<Mesh>,
    session: Session,
    /// What the API server has.
    stored: Value,
    version: u64,
    now: Time,
    /// What the next windows say of the stable revision.
    stable: StableOutcome,
    /// Notes that were told.
    told: Vec<&'static str>,
    /// Calls that were asked for.
    calls: Vec<Call>,
    /// What proxies say of streams to revisions on their way out.
    streams: std::collections::BTreeMap<String, Time>,
}

/// What becomes of a write.
#[derive(Clone, Copy, PartialEq)]
enum Api {
    Works,
    /// The status cannot be written, everything else can.
    RefusesStatus,
    Away,
}

fn template(version: &str) -> Value {
    json!({"metadata": {"labels": {"app": "payment"}}, "spec": {"containers": [{"name": "app", "image": version}]}})
}

impl Shop {
    fn open() -> Shop {
        let (views, writers) = testing::views();
        let spec = json!({
            "steps": [{"weight": 50, "soak": "10s"}, {"weight": 100, "soak": "10s"}],
            "analysis": {"interval": "5s", "failureLimit": 2},
        });
        let rollout = testing::rollout(json!({"spec": spec}));
        let stored = serde_json::to_value(&rollout).unwrap();
        let now = Time(1_790_000_000_000);
        let mut shop = Shop {
            views,
            writers,
            policy: testing::policy(),
            traffic: Traffic::default(),
            world: Arc::default(),
            session: Session::new(Arc::new(rollout), now),
            stored,
            version: 1,
            now,
            stable: StableOutcome::default(),
            told: Vec::new(),
            calls: Vec::new(),
            streams: Default::default(),
        };
        shop.service();
        shop.deployment("v1", 1, false);
        shop.rest(Api::Works);
        assert_eq!(shop.phase(), "Stable");
        shop
    }

    /// Open, and a canary with weight 50 % that is judged.
    fn soaking() -> Shop {
        let mut shop = Shop::open();
        shop.deployment("v2", 2, true);
        shop.rest(Api::Works);
        shop.copy(1);
        shop.rest(Api::Works);
        assert_eq!(shop.phase(), "Soaking");
        assert_eq!(shop.sent(), 50);
        shop
    }

    fn service(&mut self) {
        let service = json!({
            "metadata": {"namespace": "shop", "name": "payment"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "payment"}, "ports": [{"port": 80}]},
        });
        let service = serde_json::from_value(service).unwrap();
        self.writers.services.apply(Event::Apply(service));
        let endpoint = |pod: &str, address: &str| json!({"addresses": [address], "targetRef": {"kind": "Pod", "namespace": "shop", "name": pod}});
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": "payment-1", "labels": {"kubernetes.io/service-name": "payment"}},
            "addressType": "IPv4", "ports": [{"port": 8080}],
            "endpoints": [endpoint("payment-1-a", "10.1.0.1"), endpoint("payment-canary-b", "10.1.0.2")],
        }))
        .unwrap();
        self.writers.slices.apply(Event::Apply(slice));
    }

    /// The Deployment as it is now, with the ReplicaSet of v1 active.
    fn deployment(&mut self, version: &str, generation: i64, paused: bool) {
        let deployment = object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "namespace": "shop", "name": "payment", "uid": "uid", "generation": generation,
                "resourceVersion": generation.to_string(), "labels": {"aviary.dev/rollout": "payment"},
            },
            "spec": {
                "replicas": 2, "paused": paused, "template": template(version),
                "selector": {"matchLabels": {"app": "payment"}},
            },
            "status": {
                "observedGeneration": generation, "replicas": 2, "availableReplicas": 2,
                "updatedReplicas": if paused { 0 } else { 2 },
            },
        }));
        self.writers.originals.apply(Event::Apply(deployment));
        let mut set = object(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "namespace": "shop", "name": "payment-1", "uid": "set", "resourceVersion": "1",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "payment", "uid": "uid", "controller": true}],
            },
            "spec": {"replicas": 2, "template": template("v1")},
            "status": {"replicas": 2, "readyReplicas": 2},
        }));
        crate::rollout::replica_sets::strip(&mut set);
        self.writers.replica_sets.apply(Event::Apply(set));
        self.pod("payment-1-a", json!({}), json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "payment-1", "uid": "set", "controller": true}]));
    }

    fn pod(&mut self, name: &str, labels: Value, owners: Value) {
        let pod = json!({
            "metadata": {
                "namespace": "shop", "name": name, "labels": labels, "ownerReferences": owners,
                "annotations": {"aviary.dev/injection": crate::names::INJECTION.to_string()},
            },
            "spec": {"containers": [{"name": "aviary-proxy"}]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.writers.pods.apply(Event::Apply(pod.into()));
    }

    /// The copy that was asked for is there, with this many Ready pods.
    fn copy(&mut self, ready: u32) {
        let revision = crate::revision::revision(&template("v2"));
        let copy = object(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "namespace": "shop", "name": format!("payment-canary-{revision}"), "uid": "copy", "resourceVersion": "1",
                "labels": {"aviary.dev/canary-of": "payment", "aviary.dev/revision": revision},
            },
            "spec": {"replicas": 1}, "status": {"readyReplicas": ready},
        }));
        self.writers.copies.apply(Event::Apply(copy));
        self.pod(
            "payment-canary-b",
            json!({"aviary.dev/revision": revision}),
            json!([]),
        );
    }

    fn delete_copy(&mut self) {
        for copy in self.views.copies.state() {
            let gone = Event::Delete((*copy).clone());
            self.writers.copies.apply(gone);
        }
    }

    fn step(&mut self) -> Step {
        let key = Key::new("shop", "payment");
        let heard = Heard {
            sent: self.traffic.sent(&key),
            acks: Acknowledgement::default(),
            revoked: Vec::new(),
            streams: self.streams.clone(),
        };
        let clock = clock(self.now);
        let world = World {
            views: &self.views,
            policy: &self.policy,
        };
        let step = self.session.step(world, heard, clock);
        self.calls.extend(step.calls.clone());
        if self.traffic.set(&key, step.split.clone()) {
            self.traffic.touch(&self.views, &Change::Everything);
            let published = self.traffic.publish(&self.views);
            Arc::make_mut(&mut self.world).apply(published.change);
        }
        step
    }

    /// Steps and writes until nothing is written any more.
    fn rest(&mut self, api: Api) {
        for _ in 0..50 {
            let sent = self.traffic.sent(&Key::new("shop", "payment"));
            let step = self.step();
            let Some(write) = step.write else {
                if self.traffic.sent(&Key::new("shop", "payment")) == sent {
                    return;
                }
                continue;
            };
            let written = self.perform(&write, api);
            self.session.wrote(written, clock(self.now));
        }
        panic!("it never comes to rest");
    }

    fn perform(&mut self, write: &Write, api: Api) -> Written {
        match (api, &write.verb) {
            (Api::Away, _) => Err(WriteError::Unavailable("away".to_owned())),
            (Api::RefusesStatus, Verb::ReplaceStatus(_) | Verb::PatchStatus(_)) => {
                Err(WriteError::Unavailable("etcd: no space".to_owned()))
            }
            (Api::Works, Verb::ReplaceStatus(object)) => {
                let asked = object.pointer("/metadata/resourceVersion");
                if asked != self.stored.pointer("/metadata/resourceVersion") {
                    return Err(WriteError::Conflict);
                }
                let status = object["status"].clone();
                Ok(Some(self.store(|stored| stored["status"] = status)))
            }
            (Api::Works, Verb::PatchStatus(patch)) => {
                let patch = json!({"status": patch["status"]});
                Ok(Some(self.store(|stored| json_patch::merge(stored, &patch))))
            }
            (_, Verb::Patch(patch)) if patch.pointer("/metadata/finalizers").is_some() => {
                let finalizers = patch["metadata"]["finalizers"].clone();
                Ok(Some(self.store(|stored| {
                    stored["metadata"]["finalizers"] = finalizers
                })))
            }
            (_, Verb::Get) if write.kind == Kind::ReplicaSet => Ok(Some(json!({
                "kind": "ReplicaSet", "metadata": {"name": write.key.name}, "spec": {"template": template("v1")},
            }))),
            (_, Verb::Get) => Ok(Some(self.stored.clone())),
            (_, Verb::Create(kept)) if write.kind == Kind::ControllerRevision => {
                let kept = object(kept.clone());
                self.writers.kept.apply(Event::Apply(kept));
                Ok(Some(json!({})))
            }
            (_, Verb::Tell { note, .. }) => {
                self.told.push(note.reason.name());
                Ok(None)
            }
            (_, Verb::ApplyStatus(body)) => {
                let mut original = self.views.original(&write.key).unwrap();
                Arc::make_mut(&mut original).data["status"]["conditions"] =
                    body["status"]["conditions"].clone();
                let original = (*original).clone();
                self.writers.originals.apply(Event::Apply(original));
                Ok(Some(json!({})))
            }
            (_, Verb::Create(_) | Verb::Patch(_) | Verb::Delete { .. }) => Ok(Some(json!({}))),
        }
    }

    /// Somebody writes the object.
    fn store(&mut self, change: impl FnOnce(&mut Value)) -> Value {
        change(&mut self.stored);
        self.version += 1;
        self.stored["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.stored.clone()
    }

    /// The watch brings what is stored.
    fn watch(&mut self) {
        let rollout: CanaryRollout = serde_json::from_value(self.stored.clone()).unwrap();
        self.session.seen(&Arc::new(rollout));
    }

    /// The window that is due is judged.
    fn judge(&mut self, verdict: Verdict, api: Api) {
        self.judge_beside(verdict, api, None);
    }

    /// So many requests a minute come from outside the mesh meanwhile.
    fn judge_beside(&mut self, verdict: Verdict, api: Api, outside: Option<u64>) {
        self.now = self.now + Span(5_000);
        let step = self.step();
        let question = step.question.expect("a window is due");
        if let Some(write) = step.write {
            let written = self.perform(&write, api);
            self.session.wrote(written, clock(self.now));
        }
        self.session.answered(Answer {
            run: question.run,
            start: question.start,
            end: question.end,
            outcome: Some(WindowOutcome {
                source: Source::Prometheus,
                verdict,
                requests: 20,
                outcomes: Vec::new(),
                outside,
                stable: self.stable.clone(),
            }),
        });
        self.rest(api);
    }

    /// What the proxies are told, in percent.
    fn sent(&self) -> u32 {
        let route = &self.world.routes["shop/payment/80"].route;
        let canary = route.split.canary.as_ref();
        canary.map_or(0, |canary| canary.weight.units() / 1000)
    }

    fn phase(&self) -> String {
        self.stored["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn reason(&self, condition: &str) -> String {
        let conditions = self.stored["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|c| c["type"] == condition).unwrap();
        found["reason"].as_str().unwrap().to_owned()
    }
}

#[test]
fn windows_count_and_lower_though_no_status_can_be_written() {
    for api in [Api::RefusesStatus, Api::Away] {
        let mut shop = Shop::soaking();
        for _ in 0..2 {
            shop.judge(Verdict::Fail, api);
            assert_eq!(shop.sent(), 50, "tolerated");
        }
        shop.judge(Verdict::Fail, api);
        assert_eq!(shop.sent(), 0, "the third failed window");
        assert_eq!(shop.phase(), "Soaking", "nobody could write it");
        // When it can be written again, it is told.
        shop.now = shop.now + Span(60_000);
        shop.rest(Api::Works);
        assert_eq!(shop.phase(), "RollingBack");
        assert!(shop.told.contains(&"RolledBack"), "{:?}", shop.told);
    }
}

#[test]
fn nothing_is_raised_before_the_status_is_written() {
    let mut shop = Shop::open();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    shop.copy(1);
    for _ in 0..20 {
        shop.rest(Api::RefusesStatus);
        shop.now = shop.now + Span(10_000);
        assert_eq!(shop.sent(), 0);
    }
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
}

#[test]
fn a_status_that_cannot_be_written_is_told_once() {
    let mut shop = Shop::soaking();
    shop.told.clear();
    for _ in 0..8 {
        shop.judge(Verdict::Pass, Api::RefusesStatus);
    }
    let told = shop
        .told
        .iter()
        .filter(|reason| **reason == "StatusNotWritten");
    assert_eq!(told.count(), 1, "{:?}", shop.told);
}

#[test]
fn a_write_whose_answer_was_lost_is_found_again() {
    let mut shop = Shop::open();
    shop.deployment("v2", 2, true);
    let mut lost = 0;
    for _ in 0..50 {
        let Some(write) = shop.step().write else {
            break;
        };
        let written = shop.perform(&write, Api::Works);
        let is_status = matches!(write.verb, Verb::ReplaceStatus(_));
        // It happened, and nobody was told.
        let answer = if is_status && lost == 0 {
            lost += 1;
            Err(WriteError::Unavailable("cut".to_owned()))
        } else {
            written
        };
        shop.session.wrote(answer, clock(shop.now));
        shop.now = shop.now + Span(1_000);
    }
    assert_eq!(lost, 1);
    assert_eq!(shop.phase(), "Starting");
    let run = shop.session.state().unwrap().run.as_ref().unwrap().number;
    assert_eq!(
        shop.stored["status"]["canary"]["run"],
        json!(run),
        "one run, not two"
    );
}

#[test]
fn a_conflict_is_decided_anew_on_the_newest_spec() {
    let mut shop = Shop::open();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    // Suspended behind our back: the view does not know it yet.
    shop.store(|stored| stored["spec"]["suspend"] = json!(true));
    shop.copy(1);
    for _ in 0..5 {
        shop.rest(Api::Works);
        shop.now = shop.now + Span(1_000);
    }
    assert_eq!(shop.sent(), 0, "a suspended release is not raised");
    shop.store(|stored| stored["spec"]["suspend"] = json!(false));
    shop.watch();
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
}

/// The watch is behind, and a conflict has the object read: by now it is another one of the same name.
#[test]
fn what_was_made_anew_is_not_taken_for_the_one_that_is_gone() {
    let mut shop = Shop::open();
    let uid = shop.session.uid();
    shop.store(|stored| {
        stored["metadata"]["uid"] = json!("another");
        stored["status"] = json!({});
    });
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    assert_eq!(shop.session.uid(), uid, "the watch will tell of the other");
    assert!(shop.session.gone);
    assert_eq!(
        shop.stored["status"],
        json!({}),
        "which is not ours to write"
    );
}

#[test]
fn a_memory_that_cannot_be_read_holds_everything_and_is_not_written_over() {
    let mut shop = Shop::soaking();
    let garbage = json!({"version": 99, "hello": "world"});
    let put = garbage.clone();
    shop.store(move |stored| stored["status"]["machine"] = put);
    shop.watch();
    for _ in 0..4 {
        shop.rest(Api::Works);
        shop.now = shop.now + Span(20_000);
    }
    assert_eq!(shop.stored["status"]["machine"], garbage);
    assert_eq!(shop.sent(), 50, "held");
}

#[test]
fn an_object_that_cannot_be_read_holds_everything() {
    let mut shop = Shop::soaking();
    shop.session.seen_illegible("unknown variant `Later`");
    shop.judge(Verdict::Pass, Api::Works);
    shop.judge(Verdict::Pass, Api::Works);
    shop.judge(Verdict::Pass, Api::Works);
    assert_eq!(shop.sent(), 50, "it passed, and is held");
    for _ in 0..3 {
        shop.judge(Verdict::Fail, Api::Works);
    }
    assert_eq!(shop.sent(), 0, "the ways down stay open");
}

#[test]
fn windows_that_pass_are_written_together_and_one_that_fails_at_once() {
    let mut shop = Shop::open();
    shop.store(|stored| stored["spec"]["steps"][0]["soak"] = json!("10m"));
    shop.watch();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    shop.copy(1);
    shop.rest(Api::Works);
    assert_eq!(shop.phase(), "Soaking");
    let mut judged = |verdict| {
        let before = shop.version;
        shop.judge(verdict, Api::Works);
        let canary = &shop.stored["status"]["canary"];
        (shop.version - before, canary["requests"].as_u64().unwrap())
    };
    assert_eq!(judged(Verdict::Pass), (1, 20), "the first says that it is");
    assert_eq!(judged(Verdict::Pass), (0, 20));
    assert_eq!(judged(Verdict::Pass), (1, 40), "ten seconds later");
    assert_eq!(judged(Verdict::Fail).0, 1, "at once");
    assert_eq!(judged(Verdict::Fail).0, 1, "at once");
    assert_eq!(judged(Verdict::Pass).0, 1, "it passes again");
    assert_eq!(judged(Verdict::Pass).0, 0);
}

/// One that was never set.
fn clock(now: Time) -> Clock {
    Clock {
        now,
        passed: Span(now.0),
    }
}

/// Between the last step and an answer.
#[test]
fn a_clock_that_is_set_while_a_request_is_under_way_puts_off_no_other() {
    let mut shop = Shop::open();
    shop.deployment("v2", 2, true);
    shop.step().write.expect("a release begins");
    let jump = Span(7_200_000);
    let answer = Err(WriteError::Unavailable("no answer in time".to_owned()));
    let clock = Clock {
        now: shop.now + jump,
        passed: Span(shop.now.0),
    };
    shop.session.wrote(answer, clock);
    let next = shop.session.troubles.next(clock.now).unwrap();
    assert!((next - clock.now).0 < 60_000, "{next:?}");
    shop.session.set_clock(clock);
    assert_eq!(shop.session.troubles.next(clock.now), Some(next));
}

#[test]
fn a_clock_that_is_set_changes_nothing() {
    for hours in [-3, 3] {
        let mut shop = Shop::soaking();
        let began = shop.session.state().unwrap().clone();
        let jump = Span(hours * 3_600_000);
        let clock = Clock {
            now: shop.now + jump,
            passed: Span(shop.now.0),
        };
        shop.session.set_clock(clock);
        assert_eq!(shop.session.state(), Some(&began.shifted(jump)));
    }
}

/// A process that stood still, and whose clock is behind, counts on its own clock and writes that down.
#[test]
fn another_process_with_another_clock_takes_nothing_off_the_soak() {
    let mut shop = Shop::soaking();
    let began = shop.session.state().unwrap().clone();
    let mut behind = began.clone().shifted(Span(-20_000));
    behind.run.as_mut().unwrap().requests = 7;
    let memory = Memory {
        state: behind,
        guarded: None,
        spending: None,
        ended: Vec::new(),
        served_at: shop.now,
    };
    let machine = serde_json::to_value(machine::write(&memory)).unwrap();
    shop.store(|stored| stored["status"]["machine"] = machine);
    shop.watch();
    let state = shop.session.state().unwrap();
    assert_eq!(state.phase, began.phase, "the soak has only begun");
    let (run, before) = (state.run.as_ref().unwrap(), began.run.as_ref().unwrap());
    assert_eq!(run.judged_until, before.judged_until);
    assert_eq!(run.requests, 7, "what they counted counts");
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
}

#[test]
fn a_refused_effect_is_a_condition_and_an_event() {
    let mut shop = Shop::open();
    shop.deployment("v2", 2, true);
    for _ in 0..30 {
        let Some(write) = shop.step().write else {
            break;
        };
        let written = match &write.verb {
            Verb::Create(_) => Err(WriteError::Refused("exceeded quota: pods".to_owned())),
            _ => shop.perform(&write, Api::Works),
        };
        shop.session.wrote(written, clock(shop.now));
    }
    assert_eq!(shop.reason("Stalled"), "CopyNotMade");
    assert!(shop.told.contains(&"CopyNotMade"), "{:?}", shop.told);
    assert_eq!(shop.told.iter().filter(|r| **r == "CopyNotMade").count(), 1);
}

#[test]
fn at_rest_nothing_is_written_and_nothing_wakes() {
    let mut shop = Shop::open();
    for _ in 0..100 {
        shop.now = shop.now + Span(60_000);
        let step = shop.step();
        assert_eq!(step.write, None);
        assert_eq!(step.wake, None);
        assert!(step.question.is_none());
    }
}

#[test]
fn a_deployment_that_does_not_exist_is_asked_for_once_and_adopted_when_it_does() {
    let mut shop = Shop::open();
    let original = (*shop.views.original(&Key::new("shop", "payment")).unwrap()).clone();
    shop.writers.originals.apply(Event::Delete(original));
    let mut asked = 0;
    let mut an_hour = |shop: &mut Shop| {
        for _ in 0..3600 {
            shop.now = shop.now + Span(1_000);
            while let Some(write) = shop.step().write {
                let adopts = write.kind == Kind::Deployment;
                asked += u32::from(adopts);
                let written = if adopts {
                    Err(WriteError::Gone)
                } else {
                    shop.perform(&write, Api::Works)
                };
                shop.session.wrote(written, clock(shop.now));
            }
        }
        asked
    };
    assert_eq!(an_hour(&mut shop), 1);
    assert_eq!(shop.reason("Stalled"), "TargetNotFound");
    assert_eq!(shop.step().wake, None);
    // The watch sees it, but the API server is slow to find it: it is tried for as long as the watch says so.
    let key = Key::new("shop", "payment");
    let changes = changes::of(
        &shop.writers.unadopted.apply(Event::Apply(key.clone())),
        changes::of_unadopted,
    );
    assert_eq!(changes, [Change::Target(key.clone())]);
    assert!((200..300).contains(&an_hour(&mut shop)));
    shop.writers.unadopted.apply(Event::Delete(key));
    shop.deployment("v1", 1, false);
    shop.rest(Api::Works);
    assert_eq!(shop.phase(), "Stable");
    assert_eq!(shop.reason("Stalled"), "Stable");
}

#[test]
fn a_deployment_of_another_uid_has_no_canary_from_the_first_look_on() {
    let mut shop = Shop::soaking();
    let mut other = (*shop.views.original(&Key::new("shop", "payment")).unwrap()).clone();
    other.metadata.uid = Some("another".to_owned());
    shop.writers.originals.apply(Event::Apply(other));
    shop.step();
    assert_eq!(shop.sent(), 0);
    assert!(matches!(
        shop.session.state().unwrap().phase,
        Phase::Unsettled { .. }
    ));
}

#[test]
fn a_canary_without_ready_pods_gets_nothing() {
    let mut shop = Shop::soaking();
    shop.copy(0);
    shop.step();
    assert_eq!(shop.sent(), 0);
    let state = shop.session.state().unwrap();
    assert_eq!(desired(state).weight(), Percent::new(50).unwrap());
}

/// Two seconds after the weight was sent, `count` of them: half of the canary's requests fail.
fn bad_seconds(shop: &mut Shop, count: i64) -> bool {
    let counts = |started: u64, failed: u64| outcome::Counts {
        started,
        ended: outcome::PerClass::from([started - failed, failed, 0, 0]),
        ..outcome::Counts::default()
    };
    let mut alarmed = false;
    for _ in 0..count {
        shop.now = shop.now + Span(1_000);
        alarmed |= shop.session.closed(&[Closed {
            at: shop.now.0 / 1000,
            canary: counts(50, 25),
            stable: counts(50, 0),
        }]);
    }
    alarmed
}

#[test]
fn an_alarm_of_the_guard_takes_the_weight_away_while_nothing_can_be_written() {
    let mut shop = Shop::soaking();
    let follows = shop.step().follows.expect("its requests are followed");
    let revision = crate::revision::revision(&template("v2"));
    assert_eq!(
        (follows.service, follows.canary),
        (Key::new("shop", "payment"), revision)
    );
    assert!(!bad_seconds(&mut shop, 1), "one is no evidence");
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
    assert!(bad_seconds(&mut shop, 10));
    shop.rest(Api::Away);
    assert_eq!(shop.sent(), 0, "without a write, a window, or Prometheus");
    assert_eq!(
        shop.stored["status"]["phase"], "Soaking",
        "as it was written last"
    );
    shop.now = shop.now + Span(60_000);
    shop.rest(Api::Works);
    let failure = &shop.stored["status"]["failure"];
    assert_eq!(failure["cause"], "WorseThanStable");
    let message = failure["message"].as_str().unwrap();
    let seen = "first attempts failed, and 0 of";
    assert!(
        message.starts_with("guard: ") && message.contains(seen),
        "{message}"
    );
    let records = shop.stored["status"]["verdicts"].as_array().unwrap();
    let guards = records.iter().filter(|record| record["check"] == "guard");
    assert_eq!(guards.count(), 1);
    assert!(shop.told.contains(&"RolledBack"), "{:?}", shop.told);
    assert_eq!(shop.step().follows, None);
}

#[test]
fn a_process_that_takes_over_goes_on_with_the_guard_that_is_written() {
    let mut shop = Shop::soaking();
    bad_seconds(&mut shop, 2);
    shop.now = shop.now + Span(20_000);
    shop.rest(Api::Works);
    let written = shop.session.guarding.guarded().cloned();
    assert!(written.as_ref().unwrap().canary.started > 0);
    let rollout = serde_json::from_value(shop.stored.clone()).unwrap();
    shop.session = Session::new(Arc::new(rollout), shop.now);
    assert_eq!(shop.session.guarding.guarded().cloned(), written);
    shop.step();
    assert_eq!(shop.session.guarding.guarded().cloned(), written);
}

#[test]
fn a_person_has_a_release_judged_anew_and_its_guard_begins_anew_too() {
    let mut shop = Shop::open();
    shop.store(|stored| stored["spec"]["onFailure"] = json!("Pause"));
    shop.watch();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    shop.copy(1);
    shop.rest(Api::Works);
    assert!(bad_seconds(&mut shop, 10));
    shop.rest(Api::Works);
    assert_eq!((shop.phase().as_str(), shop.sent()), ("Paused", 50));
    let revision = crate::revision::revision(&template("v2"));
    let answer = format!("promote:{revision}@50");
    shop.store(|stored| {
        stored["metadata"]["annotations"] = json!({"aviary.dev/request": answer});
    });
    shop.watch();
    shop.rest(Api::Works);
    for once in ["FailurePaused", "JudgedAnew"] {
        let events = shop.told.iter().filter(|reason| **reason == once);
        assert_eq!(events.count(), 1, "{once} in {:?}", shop.told);
    }
    assert_eq!((shop.phase().as_str(), shop.sent()), ("Soaking", 50));
    // Nor is the old alarm written: whoever takes over would find it.
    let rollout = serde_json::from_value(shop.stored.clone()).unwrap();
    let other = Session::new(Arc::new(rollout), shop.now);
    let state = other.state().unwrap();
    assert_eq!(other.guarding.alarm(state), None);
}

#[test]
fn a_release_without_a_guard_follows_nothing() {
    let mut shop = Shop::soaking();
    shop.store(|stored| stored["spec"]["analysis"]["guard"] = json!({"falseAlarm": "0%"}));
    shop.watch();
    assert_eq!(shop.step().follows, None);
    assert!(!bad_seconds(&mut shop, 20));
}

#[test]
fn without_a_prometheus_the_sidecars_reports_are_judged_and_raise() {
    let mut shop = Shop::open();
    shop.policy = PrometheusPolicy::default();
    shop.deployment("v2", 2, true);
    shop.rest(Api::Works);
    shop.copy(2);
    shop.rest(Api::Works);
    assert_eq!(shop.sent(), 50);
    for _ in 0..25 {
        shop.now = shop.now + Span(1_000);
        let good = outcome::Counts {
            started: 20,
            ended: outcome::PerClass::from([20, 0, 0, 0]),
            latency: [(outcome::Bucket::FIRST, 20)].into_iter().collect(),
            ..outcome::Counts::default()
        };
        shop.session.closed(&[Closed {
            at: shop.now.0 / 1000 - 2,
            canary: good.clone(),
            stable: good,
        }]);
        let step = shop.step();
        assert!(step.question.is_none(), "nobody is asked");
        if let Some(write) = step.write {
            let written = shop.perform(&write, Api::Works);
            shop.session.wrote(written, clock(shop.now));
        }
        shop.rest(Api::Works);
    }
    assert_eq!(shop.sent(), 100);
    let records = shop.stored["status"]["verdicts"].as_array().unwrap();
    assert!(!records.is_empty());
    for record in records {
        assert_eq!(
            (&record["source"], &record["verdict"]),
            (&json!("Sidecars"), &json!("Pass"))
        );
    }
}

#[test]
fn pods_without_a_sidecar_are_told_of_once_and_no_longer_when_they_have_one() {
    let told = |shop: &Shop| {
        let of_it = shop
            .told
            .iter()
            .filter(|each| **each == "PodsWithoutSidecar");
        of_it.count()
    };
    let mut shop = Shop::soaking();
    assert_eq!(shop.reason("Meshed"), "Meshed");
    let bare: Pod = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "client-1"}, "spec": {"containers": [{"name": "app"}]},
    }))
    .unwrap();
    shop.writers.pods.apply(Event::Apply(bare.clone().into()));
    let later = |shop: &mut Shop| {
        shop.now = shop.now + Span(10_000);
        shop.rest(Api::Works);
    };
    later(&mut shop);
    assert_eq!(
        shop.reason("Meshed"),
        "Meshed",
        "its namespace has not asked"
    );
    let labelled = Event::Apply(NamespaceSeen {
        key: Key::new("", "shop"),
        wishes: Vec::new(),
    });
    shop.writers.namespaces.apply(labelled);
    for _ in 0..2 {
        later(&mut shop);
        assert_eq!(
            (shop.reason("Meshed").as_str(), told(&shop)),
            ("PodsWithoutSidecar", 1)
        );
    }
    // Nor by the process that takes over.
    shop.session = Session::new(
        Arc::new(serde_json::from_value(shop.stored.clone()).unwrap()),
        shop.now,
    );
    later(&mut shop);
    assert_eq!(told(&shop), 1);
    shop.writers.pods.apply(Event::Delete(bare.into()));
    later(&mut shop);
    assert_eq!(shop.reason("Meshed"), "Meshed");
}

#[test]
fn callers_outside_the_mesh_are_told_of_once_in_a_run() {
    let told = |shop: &Shop| {
        let of_it = shop.told.iter().filter(|each| **each == "CallsFromOutside");
        of_it.count()
    };
    let mut shop = Shop::soaking();
    assert_eq!(shop.reason("OutsideCallers"), "NotMeasured");
    shop.judge_beside(Verdict::NoEvidence, Api::Works, Some(0));
    assert_eq!(
        (shop.reason("OutsideCallers").as_str(), told(&shop)),
        ("NoneSeen", 0)
    );
    for requests in [120, 90] {
        shop.judge_beside(Verdict::NoEvidence, Api::Works, Some(requests));
        assert_eq!(shop.reason("OutsideCallers"), "CallsFromOutside");
        assert_eq!(told(&shop), 1);
    }
    // Nor by the process that takes over.
    shop.session = Session::new(
        Arc::new(serde_json::from_value(shop.stored.clone()).unwrap()),
        shop.now,
    );
    shop.judge_beside(Verdict::NoEvidence, Api::Works, Some(60));
    assert_eq!(shop.reason("OutsideCallers"), "CallsFromOutside");
    assert_eq!(told(&shop), 1);
    // Another run is another story.
    shop.deployment("v1", 3, true);
    shop.rest(Api::Works);
    assert_eq!(shop.reason("OutsideCallers"), "NoRelease");
    shop.delete_copy();
    for _ in 0..3 {
        shop.now = shop.now + Span(10_000);
        shop.rest(Api::Works);
    }
    shop.deployment("v2", 4, true);
    shop.rest(Api::Works);
    shop.copy(1);
    shop.rest(Api::Works);
    assert_eq!(shop.phase(), "Soaking");
    shop.judge_beside(Verdict::NoEvidence, Api::Works, Some(60));
    assert_eq!(told(&shop), 2);
}
