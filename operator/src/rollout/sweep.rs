//! Tidies up after CanaryRollouts that are gone.

use std::sync::Arc;
use std::time::Duration;

use aviary_crds::ROLLOUT_LABEL;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::controller::Context;
use super::persist;

/// Tidies up after CanaryRollouts that are gone: their splits, and the label on their Deployments.
pub async fn sweep(context: Arc<Context>) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        let alive = |namespace: &str, name: &str| {
            context
                .stores
                .rollouts
                .get(&ObjectRef::new(name).within(namespace))
                .is_some()
        };
        for (namespace, name) in context.traffic.rollouts() {
            if !alive(&namespace, &name) {
                context.traffic.remove(&namespace, &name);
                context.memories.forget(&namespace, &name);
            }
        }
        for original in context.stores.originals.state() {
            let (Some(namespace), Some(name)) = (
                original.namespace(),
                original.labels().get(ROLLOUT_LABEL).cloned(),
            ) else {
                continue;
            };
            if !alive(&namespace, &name)
                && let Err(error) =
                    persist::release(&context.client, &namespace, &original.name_any()).await
            {
                tracing::warn!(%error, "the label of a CanaryRollout that is gone stays on its Deployment; trying again");
            }
        }
    }
}
