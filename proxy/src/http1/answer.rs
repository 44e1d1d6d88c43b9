//! The head of an answer: read, written for the caller, and what is still needed of it then.

use std::rc::Rc;
use std::time::{Duration, Instant};

use aviary_http1::fields::lines;
use aviary_http1::{Body, Coding, Edit, Framing, Malformed, Persistence, Response, Version};
use traffic_core::contract::header;

use super::request::Asked;
use crate::endpoint::http1::Upstream;
use crate::exchange::flight::EVENTS;
use crate::net::buffers::Buffers;
use crate::net::input::Input;
use crate::net::parting::Spoken;
use crate::net::pump::Pump;

/// What is still needed of an answer's head after it is written.
pub(super) struct Head {
    pub(super) status: u16,
    framing: Framing,
    coding: Coding,
    /// Of the endpoint's connection.
    pub(super) persistence: Persistence,
    /// Of the caller's.
    pub(super) onward: Persistence,
    pub(super) idle_timeout: Option<Duration>,
    /// A sidecar says that its application never saw the request.
    pub(super) is_unsent: bool,
    /// What follows a 101.
    pub(super) spoken: Spoken,
    /// A sidecar says that its application has too many requests, and never saw this one.
    pub(super) is_turned_away: bool,
    content_type: Option<Vec<u8>>,
    grpc_status: Option<Vec<u8>>,
}

/// In a box, since it goes from hand to hand.
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) content_type: Option<Vec<u8>>,
    pub(super) grpc_status: Option<Vec<u8>>,
    pub(super) upstream: Upstream,
    pub(super) input: Input,
    pub(super) download: Pump,
}

impl Head {
    /// Reads the head of an answer and writes it for the caller to `out`. `token` is this proxy's.
    /// `keep` is what becomes of the caller's connection if this answer can be written so that it goes on.
    pub(super) fn read(
        head: &[u8],
        asked: &Asked,
        keep: Persistence,
        token: &str,
        out: &mut Vec<u8>,
    ) -> Result<Head, Malformed> {
        let mut space = lines();
        let response = Response::read(head, &mut space, asked.of_response(), &asked.answer)?;
        let to = asked.version;
        let onward = response.onward(to);
        let persistence = match response.status {
            101 => Persistence::KeepAlive,
            _ if onward.persistence == Persistence::Close => Persistence::Close,
            _ => keep,
        };
        let marker = response.fields.get(header::UNSENT);
        let edit = Edit {
            without: &[header::UNSENT],
            with: &[],
        };
        // HTTP/1.0 knows no interim answers.
        if !response.is_interim() || to == Version::Http11 {
            response.write(out, to, persistence, &edit);
        }
        let is_websocket = || {
            let named = response.fields.get("upgrade");
            named.is_some_and(|named| named.eq_ignore_ascii_case(b"websocket"))
        };
        let spoken = if response.status == 101 && is_websocket() {
            Spoken::WebSocket
        } else {
            Spoken::Bytes
        };
        let owned = |name| response.fields.get(name).map(<[u8]>::to_vec);
        let content_type = response
            .fields
            .get("content-type")
            .filter(|kind| kind.starts_with(b"application/grpc") || kind.starts_with(EVENTS));
        Ok(Head {
            status: response.status,
            framing: response.framing,
            coding: onward.coding,
            persistence: response.persistence,
            onward: persistence,
            idle_timeout: response.idle_timeout(),
            is_unsent: response.status == 503 && marker == Some(token.as_bytes()),
            is_turned_away: response.status == 429 && marker == Some(token.as_bytes()),
            grpc_status: content_type.and_then(|_| owned("grpc-status")),
            content_type: content_type.map(<[u8]>::to_vec),
            spoken,
        })
    }

    pub(super) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Puts the connection of an answer that goes nowhere back, if all of the answer is here. The head has `length` bytes.
    pub(super) fn recycle(self, length: usize, upstream: Upstream, input: Input) {
        let Framing::Length(body) = self.framing else {
            return;
        };
        let is_whole = input.bytes().len() as u64 == length as u64 + body;
        if is_whole && self.persistence == Persistence::KeepAlive {
            upstream.release(self.idle_timeout, Instant::now());
        }
    }
}

impl Answer {
    /// `out` is the head as it goes to the caller; `input` begins with the body.
    pub(super) fn new(
        mut head: Head,
        out: Vec<u8>,
        upstream: Upstream,
        input: Input,
        buffers: &Rc<Buffers>,
    ) -> Box<Answer> {
        let body = Body::new(head.framing, head.coding);
        Box::new(Answer {
            content_type: head.content_type.take(),
            grpc_status: head.grpc_status.take(),
            head,
            upstream,
            input,
            download: Pump::new(body, out, buffers.clone()),
        })
    }

    /// It goes nowhere.
    pub(super) fn recycle(self) {
        self.head.recycle(0, self.upstream, self.input);
    }
}
