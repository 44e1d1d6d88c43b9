//! An answer on its way to the caller, from its head on.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use aviary_http1::fields::lines;
use aviary_http1::{Body, Coding, Edit, Framing, Malformed, Persistence, Response, Version};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use traffic_core::contract::header;

use super::attempt::{Attempt, Fault, Uploading};
use super::{After, LIMITS};
use crate::endpoint::http1::Upstream;
use crate::net::input::Input;
use crate::net::pump::{Broken, Pump};
use crate::state::State;

/// What is still needed of an answer's head after it is written.
pub(super) struct Head {
    pub(super) status: u16,
    framing: Framing,
    coding: Coding,
    /// Of the endpoint's connection.
    persistence: Persistence,
    /// Of the caller's.
    onward: Persistence,
    idle_timeout: Option<Duration>,
    /// A sidecar says that its application never saw the request.
    pub(super) is_unsent: bool,
    content_type: Option<Vec<u8>>,
    grpc_status: Option<Vec<u8>>,
}

pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) status: u16,
    pub(super) content_type: Option<Vec<u8>>,
    pub(super) grpc_status: Option<Vec<u8>>,
    upstream: Upstream,
    input: Input,
    download: Pump,
}

/// How an answer ended.
pub(super) enum Ended {
    Whole {
        after: After,
        /// `grpc-status` in trailers.
        trailer: Option<Vec<u8>>,
    },
    Switched {
        upstream: Upstream,
        input: Input,
    },
    Broken(Broken),
    /// The caller did not wait for it.
    Left,
}

impl Head {
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
        state: &State,
    ) -> Answer {
        let body = Body::new(head.framing, head.coding);
        Answer {
            status: head.status,
            content_type: head.content_type.take(),
            grpc_status: head.grpc_status.take(),
            head,
            upstream,
            input,
            download: Pump::new(body, out, Rc::clone(&state.buffers)),
        }
    }
}

impl Attempt<'_, '_> {
    /// Reads the head of an answer and writes it for the caller to `out`.
    pub(super) fn read_answer(&self, head: &[u8], out: &mut Vec<u8>) -> Result<Head, Malformed> {
        let mut space = lines();
        let response = Response::read(head, &mut space, self.asked.of_response(), &LIMITS)?;
        let to = self.asked.version;
        let onward = response.onward(to);
        let persistence = match response.status {
            101 => Persistence::KeepAlive,
            _ => self.persistence(onward.persistence),
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
        let owned = |name| response.fields.get(name).map(<[u8]>::to_vec);
        let content_type = response
            .fields
            .get("content-type")
            .filter(|kind| kind.starts_with(b"application/grpc"));
        Ok(Head {
            status: response.status,
            framing: response.framing,
            coding: onward.coding,
            persistence: response.persistence,
            onward: persistence,
            idle_timeout: response.idle_timeout(),
            is_unsent: response.status == 503 && marker == Some(self.state.common.token.as_bytes()),
            grpc_status: content_type.and_then(|_| owned("grpc-status")),
            content_type: content_type.map(<[u8]>::to_vec),
        })
    }

    /// Moves the answer on to the caller, and what is left of the request to the endpoint.
    pub(super) async fn relay(&mut self, answer: Answer) -> Ended {
        let Answer {
            head,
            mut upstream,
            mut input,
            mut download,
            ..
        } = answer;
        let ended = {
            let (mut read, mut write) = upstream.stream.split();
            poll_fn(|cx| self.poll_relay(cx, (&mut read, &mut write), &mut input, &mut download))
                .await
        };
        match ended {
            Relayed::Whole => {}
            Relayed::Broken(error) => return Ended::Broken(error),
            Relayed::Left => return Ended::Left,
        }
        if head.status == 101 {
            return Ended::Switched { upstream, input };
        }
        let trailer = download.body().trailer("grpc-status").map(<[u8]>::to_vec);
        let is_reusable = self.uploading == Uploading::Done
            && head.persistence == Persistence::KeepAlive
            // What comes unasked belongs to nobody.
            && input.is_empty();
        if is_reusable {
            upstream.release(head.idle_timeout, Instant::now());
        }
        let after = match (head.onward, self.is_uploaded()) {
            (Persistence::KeepAlive, true) => After::KeepAlive,
            (Persistence::Close, true) if self.caller.input.is_empty() => After::Close,
            (Persistence::KeepAlive | Persistence::Close, _) => After::Linger,
        };
        Ended::Whole { after, trailer }
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        (read, write): (&mut ReadHalf<'_>, &mut WriteHalf<'_>),
        input: &mut Input,
        download: &mut Pump,
    ) -> Poll<Relayed> {
        match self.poll_upload(cx, write) {
            Ok(()) | Err(Fault::Unwritten(_)) => {}
            Err(Fault::Caller(_)) => return Poll::Ready(Relayed::Left),
        }
        match download.poll(cx, read, input, self.caller.write) {
            Poll::Ready(Ok(())) => return Poll::Ready(Relayed::Whole),
            Poll::Ready(Err(Broken::Sink(_))) => return Poll::Ready(Relayed::Left),
            Poll::Ready(Err(broken)) => return Poll::Ready(Relayed::Broken(broken)),
            Poll::Pending => {}
        }
        self.poll_caller(cx, download.total())
            .map(|()| Relayed::Left)
    }
}

enum Relayed {
    Whole,
    Broken(Broken),
    Left,
}
