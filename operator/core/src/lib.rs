//! rollout-core
