//! HTTP/1.1: one task carries a caller's connection, one request after the other, each over a pooled connection to an endpoint. What the bytes
//! mean is [`aviary_http1`]'s to say.
//!
//! A caller that closes its sending half is still answered (see [`attempt`]); one that is answered before its body was taken is listened to a little
//! longer, so that the answer is not lost to a reset. In a drain, answers say `Connection: close`; idle connections are closed at its end.

mod answer;
mod attempt;
mod relay;
mod request;
mod trace;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use aviary_http1::scan::empty_line;
use aviary_http1::{HeadEnd, Limits, Malformed, Persistence, response};
use http::StatusCode;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use traffic_core::contract::header;

use crate::drain::{Phase, Phases};
use crate::endpoint::http1::Upstream;
use crate::exchange::flight::Flight;
use crate::exchange::{Arrived, Delivery, Marking, Policy, Refusal};
use crate::metrics::Limit;
use crate::net::end::End;
use crate::net::input::Input;
use crate::net::parting::{self, Spoken};
use crate::net::pump::Broken;
use crate::net::stream::Stream;
use crate::net::tunnel;
use crate::state::State;
use crate::telemetry::Flag;
use attempt::Attempt;
use relay::Ended;
use request::{Asked, Ready, Stopped};

/// How long a caller that was answered early may go on sending before its connection is closed.
const LINGER: Duration = Duration::from_secs(3);

/// A caller's connection.
struct Caller {
    stream: Stream,
    input: Input,
    phases: Phases,
}

/// What becomes of the caller's connection after a request.
enum After {
    KeepAlive,
    Close,
    /// It is not there any more, and need not be told anything.
    Left,
    /// The caller may still be sending.
    Linger,
    /// The answer is not whole: its end must not look like one.
    Reset,
    Tunnel(Box<Switched>),
}

/// Both sides have left HTTP.
struct Switched {
    upstream: Upstream,
    input: Input,
    flight: Flight,
    spoken: Spoken,
}

/// Serves a caller until it or a drain ends.
pub(crate) async fn serve(state: Rc<State>, policy: Policy, end: End) {
    let mut caller = Caller {
        stream: end.stream,
        input: end.input,
        phases: state.common.phases.clone(),
    };
    let size = state.common.limits.request(policy.side());
    loop {
        let after = match caller.head(&state, &size).await {
            // In a box: an idle connection does not pay for the state of a request.
            Ok(Some(length)) => Box::pin(caller.exchange(&state, &policy, length)).await,
            Ok(None) => return caller.stream.close().await,
            Err(refused) => caller.refuse(refused).await,
        };
        match after {
            After::KeepAlive => {}
            After::Close => return caller.stream.close().await,
            After::Left => return,
            After::Linger => return caller.linger().await,
            After::Reset => return caller.stream.reset_on_close(),
            After::Tunnel(switched) => return caller.tunnel(&state, &policy, *switched).await,
        }
    }
}

/// A head that is not understood, or not waited for.
enum Refused {
    Malformed(Malformed),
    /// It took longer than this.
    TooSlow(Duration),
}

impl Caller {
    /// Waits for a whole head and gives its length; `None` if there will be none.
    async fn head(&mut self, state: &State, size: &Limits) -> Result<Option<usize>, Refused> {
        if self.input.is_empty() && !self.is_readable().await {
            return Ok(None);
        }
        // From the head's first byte on.
        let head_time = state.common.limits.head_time;
        let begun = !self.input.is_empty();
        let mut deadline = begun.then(|| Instant::now() + head_time);
        let mut scan = HeadEnd::default();
        let (mut read, _) = self.stream.split();
        loop {
            match empty_line(self.input.bytes()) {
                Some(0) => {
                    let found = scan.find(self.input.bytes(), size);
                    if let Some(length) = found.map_err(|malformed| {
                        if malformed == Malformed::HeadTooLarge {
                            state.metrics().refused(Limit::Head);
                        }
                        Refused::Malformed(malformed)
                    })? {
                        return Ok(Some(length));
                    }
                }
                // Between two requests, or before the first.
                Some(line) => {
                    self.input.consume(line);
                    if !self.input.is_empty() {
                        continue;
                    }
                }
                None => {}
            }
            let fill = self.input.fill(&mut read);
            let filled = match deadline {
                None => Ok(fill.await),
                Some(deadline) => timeout_at(deadline, fill).await,
            };
            match filled {
                Ok(Ok(0) | Err(_)) => return Ok(None),
                Ok(Ok(_)) => {
                    deadline.get_or_insert_with(|| Instant::now() + head_time);
                }
                Err(_elapsed) => {
                    state.metrics().refused(Limit::HeadTime);
                    return Err(Refused::TooSlow(head_time));
                }
            }
        }
    }

    /// Waits for the next request without owning a buffer. False if the drain is over first.
    async fn is_readable(&mut self) -> bool {
        tokio::select! {
            biased;
            readable = self.stream.readable() => readable.is_ok(),
            () = self.phases.reached(Phase::Closing) => false,
        }
    }

    async fn exchange(&mut self, state: &State, policy: &Policy, head: usize) -> After {
        let mut arrived = Arrived::now(state);
        let mut out = state.buffers.small();
        let Ready {
            asked,
            exchange,
            marked,
        } = loop {
            let read = request::read(
                &self.input.bytes()[..head],
                state,
                policy,
                arrived,
                &mut out,
            );
            match read {
                Ok(read) => break read,
                // In a box: hardly any request waits.
                Err(Stopped::Held(hold)) => arrived = Box::pin(hold.over(state)).await,
                Err(Stopped::Malformed(malformed)) => {
                    if malformed == Malformed::TooManyFields {
                        state.metrics().refused(Limit::Head);
                    }
                    return self.refuse(Refused::Malformed(malformed)).await;
                }
            }
        };
        self.input.consume(head);
        let marking = exchange.marking();
        let (mut read, mut write) = self.stream.split();
        let mut attempt = Attempt::new(
            state,
            &asked,
            (out, marked),
            attempt::Side {
                read: &mut read,
                write: &mut write,
                input: &mut self.input,
            },
        );
        if marking == Marking::Never {
            attempt.once();
        }
        match exchange.run(state, &mut attempt).await {
            Ok((answer, mut flight)) => {
                flight.head(
                    answer.content_type.as_deref(),
                    answer.grpc_status.as_deref(),
                );
                if answer.head.is_turned_away {
                    flight.turned_away();
                }
                match attempt.relay(answer, &mut flight).await {
                    Ended::Whole(after) => after,
                    Ended::Switched {
                        upstream,
                        input,
                        spoken,
                    } => After::Tunnel(Box::new(Switched {
                        upstream,
                        input,
                        flight,
                        spoken,
                    })),
                    Ended::Broken(error) => {
                        tracing::debug!(%error, "an answer broke off");
                        flight.broken(match error {
                            Broken::Malformed(_) => Flag::Malformed,
                            Broken::Source(_) | Broken::Ended | Broken::Sink(_) => Flag::Closed,
                        });
                        After::Reset
                    }
                    Ended::Left => {
                        flight.left();
                        After::Left
                    }
                    // The end of the connection says that this was not all, and loses nothing of what there was.
                    Ended::Withdrawn => {
                        flight.withdrawn();
                        After::Linger
                    }
                    Ended::TimedOut => {
                        tracing::debug!("an answer took too long");
                        flight.broken(Flag::TimedOut);
                        After::Reset
                    }
                }
            }
            Err(refusal) => {
                let is_there = attempt.is_caller_there();
                let is_uploaded = attempt.is_uploaded();
                drop(attempt);
                if !is_there {
                    return After::Left;
                }
                self.answer(state, &asked, &refusal, is_uploaded).await
            }
        }
    }

    /// Answers with a refusal of the proxy's own.
    async fn answer(
        &mut self,
        state: &State,
        asked: &Asked,
        refusal: &Refusal,
        is_uploaded: bool,
    ) -> After {
        let keeps = is_uploaded
            && asked.persistence == Persistence::KeepAlive
            && state.common.phases.now() == Phase::Serving;
        let persistence = if keeps {
            Persistence::KeepAlive
        } else {
            Persistence::Close
        };
        let marker = match (&refusal.delivery, &asked.mark) {
            (Delivery::Unsent, Some(mark)) => Some(mark.as_str()),
            (Delivery::Unsent | Delivery::Unknown, _) => None,
        };
        let fields = Own {
            marker,
            retry_after: refusal.retry_after_seconds(),
        };
        let text = own(asked, persistence, refusal.status, &refusal.reason, fields);
        match (self.write(&text).await, persistence, is_uploaded) {
            (Err(_), _, _) => After::Left,
            (Ok(()), Persistence::KeepAlive, _) => After::KeepAlive,
            (Ok(()), Persistence::Close, true) => After::Close,
            (Ok(()), Persistence::Close, false) => After::Linger,
        }
    }

    /// Answers what is no request.
    async fn refuse(&mut self, refused: Refused) -> After {
        let (status, reason) = match refused {
            Refused::Malformed(malformed) => (malformed.status(), malformed.to_string()),
            Refused::TooSlow(time) => (
                408,
                format!("the request's head took longer than {} s", time.as_secs()),
            ),
        };
        tracing::debug!(status, reason, "refused a request");
        let asked = Asked::unknown();
        let text = own(&asked, Persistence::Close, status, &reason, Own::default());
        match self.write(&text).await {
            Ok(()) => After::Linger,
            Err(_) => After::Left,
        }
    }

    async fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.stream.write_all(text).await
    }

    /// Says that there will be no more, and reads on for a while: closing with unread bytes would reset the connection, and the answer with it.
    async fn linger(mut self) {
        let (mut read, mut write) = self.stream.split();
        if poll_fn(|cx| Pin::new(&mut write).poll_shutdown(cx))
            .await
            .is_err()
        {
            return;
        }
        let deadline = Instant::now() + LINGER;
        loop {
            let unread = self.input.bytes().len();
            self.input.consume(unread);
            match timeout_at(deadline, self.input.fill(&mut read)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return,
            }
        }
    }

    /// Ends when both sides have ended it, or the caller may not call any more, or the revision gets nothing any more.
    async fn tunnel(self, state: &State, policy: &Policy, switched: Switched) {
        let Switched {
            mut upstream,
            input,
            mut flight,
            spoken,
        } = switched;
        upstream.bear_silence();
        let Upstream { stream, slot, .. } = upstream;
        let ours = End {
            stream: self.stream,
            input: self.input,
        };
        let theirs = End { stream, input };
        let expelled = policy.expelled(state);
        let joined = match flight.take_long() {
            None => tunnel::join_until(ours, theirs, &state.buffers, expelled).await,
            // In a box: a tunnel to stable does not pay for it.
            Some(mut long) => {
                Box::pin(parting::join(ours, theirs, spoken, &mut long, expelled)).await
            }
        };
        if let Err(error) = joined {
            tracing::debug!(%error, "upgraded connection ended");
        }
        drop((slot, flight));
    }
}

/// What an answer of the proxy's own may say besides.
#[derive(Default)]
struct Own<'a> {
    /// The application never saw the request.
    marker: Option<&'a str>,
    /// In seconds.
    retry_after: Option<u64>,
}

/// A whole answer of the proxy's own.
fn own(
    asked: &Asked,
    persistence: Persistence,
    status: u16,
    reason: &str,
    Own {
        marker,
        retry_after,
    }: Own<'_>,
) -> Vec<u8> {
    let body = format!("aviary-proxy: {reason}\n");
    let printable: String = reason
        .chars()
        .map(|c| if c.is_ascii_graphic() { c } else { ' ' })
        .collect();
    let mut fields = vec![
        ("content-type", "text/plain"),
        (header::ERROR, printable.as_str()),
    ];
    fields.extend(marker.map(|marker| (header::UNSENT, marker)));
    let retry_after = retry_after.map(|seconds| seconds.to_string());
    fields.extend(
        retry_after
            .as_deref()
            .map(|seconds| ("retry-after", seconds)),
    );
    let phrase = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Refused");
    let mut text = Vec::with_capacity(256 + body.len());
    let version = asked.version;
    response::write_own(
        &mut text,
        version,
        persistence,
        (status, phrase),
        &fields,
        body.len(),
    );
    if !asked.head {
        text.extend_from_slice(body.as_bytes());
    }
    text
}
