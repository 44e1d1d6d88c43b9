//! Who may call, as one worker knows it. What is not told yet is what the pod was started with; what was told last stays.
//!
//! A pod without rules pays one branch for a request, as soon as its caller is known.

use std::cell::{Cell, Ref, RefCell};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;
use traffic_core::authorize::{self, Allowed, Call, Refused, Request, Who};
use traffic_core::inbound::{Callers, Inbound, Mtls};

use super::State;
use crate::caller::Caller;
use crate::metrics::Refusal;

#[derive(Debug)]
pub(super) struct Access {
    rules: RefCell<Arc<Inbound>>,
    is_open: Cell<bool>,
    /// Whether the control plane has said so.
    is_told: Cell<bool>,
    changed: Notify,
}

/// A caller that is not let in, and why, for itself and for the log.
#[derive(Debug)]
pub struct Denied {
    pub reason: String,
}

impl Access {
    pub(super) fn new(until_told: &Arc<Inbound>) -> Access {
        Access {
            is_open: Cell::new(until_told.is_open()),
            rules: RefCell::new(until_told.clone()),
            is_told: Cell::new(false),
            changed: Notify::new(),
        }
    }

    pub(super) fn rules(&self) -> Ref<'_, Arc<Inbound>> {
        self.rules.borrow()
    }

    pub(super) fn install(&self, told: Option<&Arc<Inbound>>) {
        let Some(told) = told else { return };
        self.is_told.set(true);
        if Arc::ptr_eq(told, &self.rules.borrow()) {
            return;
        }
        self.is_open.set(told.is_open());
        self.rules.replace(told.clone());
        self.changed.notify_waiters();
    }
}

impl State {
    /// Whether whoever calls is let in.
    pub fn is_open(&self) -> bool {
        self.access.is_open.get()
    }

    /// Whether the caller may have this of the application's port. `request`: `None` for bytes that are not read.
    pub fn admit(
        &self,
        caller: &Caller,
        port: u16,
        request: Option<Request<'_>>,
    ) -> Result<(), Denied> {
        if self.access.is_open.get() && caller.is_known() {
            return Ok(());
        }
        let who = caller.who();
        let rules = self.access.rules.borrow();
        match authorize::decide(&rules, &Call { who, port, request }) {
            Ok(Allowed::Probe | Allowed::Identified) => Ok(()),
            Ok(Allowed::Anybody) => {
                // Before anything was told, probes cannot be told from others.
                if self.access.is_told.get() {
                    let noted = || {
                        let callers = &self.common.plaintext;
                        callers.note(caller.address(), port, Instant::now())
                    };
                    caller.remember(noted);
                }
                Ok(())
            }
            Err(refused) => Err(self.deny(caller, port, &rules, refused)),
        }
    }

    /// Resolves when the caller may not send bytes to the port any more. Says why.
    pub async fn expelled(&self, caller: &Caller, port: u16) -> io::Error {
        loop {
            let changed = self.access.changed.notified();
            if let Err(denied) = self.admit(caller, port, None) {
                return io::Error::new(io::ErrorKind::PermissionDenied, denied.reason);
            }
            changed.await;
        }
    }

    fn deny(&self, caller: &Caller, port: u16, rules: &Inbound, refused: Refused) -> Denied {
        let reason = self.reason(caller, port, rules, refused);
        let called = self.identity().map(|own| own.id.clone());
        let why = if self.access.is_told.get() {
            Refusal::of(refused)
        } else {
            Refusal::Untold
        };
        let called = called.as_deref().unwrap_or_default();
        let id = caller.id().map(|id| &**id).unwrap_or_default();
        self.metrics().denied(why, id, called);
        if self.may_log() {
            tracing::warn!(caller = %caller.address(), id, port, reason, "refused a caller");
        }
        Denied { reason }
    }

    fn reason(&self, caller: &Caller, port: u16, rules: &Inbound, refused: Refused) -> String {
        if !self.access.is_told.get() {
            return "this sidecar has not heard yet who may call, and lets nobody in until it has"
                .to_owned();
        }
        let lacks = match (refused, caller.who()) {
            (Refused::NotGranted, Who::Sidecar(id)) => {
                return format!("no CallerPolicy that selects this pod lets {id} call port {port}");
            }
            (Refused::OwnTls, _) => "TLS of its own shows no identity of the mesh",
            (Refused::Plaintext | Refused::NotGranted, _) => "plaintext shows no identity",
        };
        let asks = match (rules.mtls, &rules.callers) {
            (_, Callers::Only(_)) => "a CallerPolicy selects this pod",
            (Mtls::Strict | Mtls::Permissive, Callers::Anybody) => {
                "this namespace demands mutual TLS (aviary.dev/mtls: strict)"
            }
        };
        format!("{asks}, and {lacks}: call port {port} from a pod with a sidecar")
    }
}
