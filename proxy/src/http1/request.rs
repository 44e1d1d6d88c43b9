//! A request's head: read, judged, and written for the endpoint, in one go and without waiting for anything. One that has to wait is read again afterwards.

use aviary_http1::fields::{Fields, lines};
use aviary_http1::response;
use aviary_http1::{Edit, Framing, Limits, Malformed, Persistence, Request, Version};
use traffic_core::contract::header;
use traffic_core::outcome::Dialect;
use traffic_core::split::sticky::Head;

use crate::exchange::{Arrived, Exchange, Facts, Hold, Marking, Policy};
use crate::state::State;

/// What is still needed of a request after its head is written.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) persistence: Persistence,
    pub(super) head: bool,
    pub(super) upgrade: bool,
    pub(super) expects_continue: bool,
    /// Sending it once more changes nothing, and there is no body that could be gone.
    pub(super) is_repeatable: bool,
    /// What a calling sidecar wrote, and wants to read again if the application was not reached.
    pub(super) mark: Option<String>,
    /// How large the head of its answer may be.
    pub(super) answer: Limits,
}

impl Asked {
    /// Of a request that could not be read.
    pub(super) fn unknown() -> Asked {
        Asked {
            version: Version::Http11,
            framing: Framing::Empty,
            persistence: Persistence::Close,
            head: false,
            upgrade: false,
            expects_continue: false,
            is_repeatable: false,
            mark: None,
            answer: Limits::default(),
        }
    }

    pub(super) fn of_response(&self) -> response::Asked {
        response::Asked {
            head: self.head,
            upgrade: self.upgrade,
        }
    }
}

/// A request that can be sent.
pub(super) struct Ready {
    pub(super) asked: Asked,
    pub(super) exchange: Box<Exchange>,
    /// Its head with this proxy's mark, if its first attempt goes without and others with it.
    pub(super) marked: Option<Vec<u8>>,
}

/// Why a head was not written.
pub(super) enum Stopped {
    Malformed(Malformed),
    Held(Hold),
}

impl From<Malformed> for Stopped {
    fn from(malformed: Malformed) -> Stopped {
        Stopped::Malformed(malformed)
    }
}

impl From<Hold> for Stopped {
    fn from(hold: Hold) -> Stopped {
        Stopped::Held(hold)
    }
}

/// The fields of a head, by name.
struct Names<'f, 'l, 'b>(&'f Fields<'l, 'b>);

impl Head for Names<'_, '_, '_> {
    fn values<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h [u8]> {
        self.0.all(name)
    }
}

/// Reads `head`, begins the exchange, and writes the head for the endpoint to `out`.
pub(super) fn read(
    head: &[u8],
    state: &State,
    policy: &Policy,
    arrived: Arrived,
    out: &mut Vec<u8>,
) -> Result<Ready, Stopped> {
    let mut space = lines();
    let limits = state.common.limits;
    let request = Request::read(head, &mut space, &limits.request(policy.side()))?;
    let written = match policy {
        Policy::Inbound { .. } => request.fields.get(header::PEER),
        Policy::Outbound { .. } => None,
    };
    let facts = Facts {
        authority: request.authority(),
        mark: written,
        // No header of HTTP says it; gRPC is spoken in HTTP/2.
        waits: None,
        dialect: Dialect::Http,
        request: traffic_core::authorize::Request {
            method: request.method,
            path: request.target,
            upgrade: request.wants_upgrade(),
        },
        protocol: match request.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        },
    };
    let exchange = policy.begin(state, arrived, facts, &Names(&request.fields))?;
    let mark = (header::PEER, &*state.common.token);
    // HTTP/1.0 needs no Host; the endpoint is spoken to in 1.1, which does.
    let lacks_host = request.version == Version::Http10 && !request.has_host();
    let address = lacks_host.then(|| policy.address().to_string());
    let host = address.as_ref().map(|address| ("Host", address.as_str()));
    let write = |out: &mut Vec<u8>, mark: Option<(&str, &str)>| {
        let mut with = [("", ""); 2];
        let mut count = 0;
        for field in mark.into_iter().chain(host) {
            with[count] = field;
            count += 1;
        }
        let edit = Edit {
            without: &[header::PEER],
            with: &with[..count],
        };
        request.write(out, &edit);
    };
    let marked = match exchange.marking() {
        Marking::Always => {
            write(out, Some(mark));
            None
        }
        Marking::Never => {
            write(out, None);
            None
        }
        Marking::LaterOn => {
            write(out, None);
            let mut marked = Vec::with_capacity(out.len() + header::ADDED_BYTES);
            write(&mut marked, Some(mark));
            Some(marked)
        }
    };
    let asked = Asked {
        version: request.version,
        framing: request.framing,
        persistence: request.persistence,
        head: request.is_head(),
        upgrade: request.wants_upgrade(),
        expects_continue: request.expects_continue(),
        is_repeatable: request.is_safe() && request.framing == Framing::Empty,
        mark: written.and_then(|mark| Some(std::str::from_utf8(mark).ok()?.to_owned())),
        answer: limits.answer(policy.side()),
    };
    Ok(Ready {
        asked,
        exchange,
        marked,
    })
}
