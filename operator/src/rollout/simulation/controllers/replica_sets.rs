//! ReplicaSets: as many pods as are asked for, those that are not Ready first when there are too many.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::api::{Api, Half, Type, key};
use super::pods::{Pods, is_ready};
use super::{controls, number};

pub(super) fn sync(api: &mut Api, pods: &mut Pods, quota: Option<usize>) {
    let sets: Vec<Arc<Value>> = api.list(Type::ReplicaSet).cloned().collect();
    for set in sets {
        if set["metadata"].get("deletionTimestamp").is_none() {
            sync_one(api, pods, quota, &set);
        }
    }
}

fn sync_one(api: &mut Api, pods: &mut Pods, quota: Option<usize>, set: &Value) {
    let wanted = usize::try_from(number(&set["spec"]["replicas"])).unwrap_or(0);
    let mut own: Vec<Arc<Value>> = api
        .list(Type::Pod)
        .filter(|pod| controls(set, pod) && pod["metadata"].get("deletionTimestamp").is_none())
        .cloned()
        .collect();
    own.sort_by_key(|pod| (!is_ready(pod), key(pod).name));
    while own.len() > wanted {
        if let Some(pod) = own.pop() {
            let _ = api.terminate(&key(&pod));
        }
    }
    let mut failing = false;
    while own.len() < wanted {
        if quota.is_some_and(|quota| api.list(Type::Pod).count() >= quota) {
            failing = true;
            break;
        }
        match pods.make(api, set) {
            Some(pod) => own.push(pod),
            None => break,
        }
    }
    let ready = own.iter().filter(|pod| is_ready(pod)).count();
    let status = json!({"status": {
        "observedGeneration": set["metadata"]["generation"],
        "replicas": own.len(), "readyReplicas": ready, "availableReplicas": ready,
        "failing": failing.then_some(true),
    }});
    let _ = api.patch(Type::ReplicaSet, &key(set), &status, Half::Status);
}
