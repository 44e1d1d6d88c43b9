//! Given, when, then on a real cluster: what the stories and the demo share.
//!
//! [`Ground`] is a cluster (the local one, or the user's), [`Stage`] is Aviary installed in it, [`Shop`] is a namespace
//! with the payment service, its caller and a CanaryRollout. [`Record`] keeps every status that the API server has shown,
//! so that a story can say what happened in which order; nothing here sleeps to be right, everything waits for what it
//! needs, with a deadline that names it.
//!
//! Not here: what the stories assert, and what the demo shows.

mod dump;
mod ground;
mod install;
mod kubectl;
mod outage;
mod places;
mod record;
mod shop;
mod soaks;
mod stage;
mod wait;
mod workload;

pub use ground::{Ground, GroundError};
pub use install::{Before, InstallError};
pub use kubectl::{Kubectl, KubectlError, Said};
pub use outage::Frozen;
pub use places::{Names, NamesError};
pub use record::{Moment, Record, RecordError, zero_on_every_proxy};
pub use shop::{Happened, Shop, ShopError, condition};
pub use soaks::{ShareSeen, Soak, shares, soaks, weights};
pub use stage::{Stage, StageError};
pub use wait::{NotInTime, Waited, eventually};
pub use workload::{Faults, Workload};
