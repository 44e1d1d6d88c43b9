//! What is known of one request, from its head to its end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use traffic_core::outcome::{Class, Dialect, Said, Trace, trace};
use traffic_core::split::sticky::Head;
use traffic_core::telemetry::AccessLogPath;

use super::Telemetry;
use super::flag::{Flag, Flags};
use crate::net::origin::Side;
use crate::table::ReadyRoute;

/// More of a path, or of the reason of a failure, is not kept, in bytes.
const LONGEST_TEXT: usize = 1024;
/// More of an authority or a method is not kept.
const LONGEST_NAME: usize = 256;

/// A request's record, until it is over; then it goes where it is wanted.
#[derive(Debug)]
pub struct Entry {
    telemetry: Arc<Telemetry>,
    record: Record,
}

/// What a request's head says of it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    pub method: &'r str,
    /// In origin form or absolute form.
    pub target: &'r str,
    pub authority: Option<&'r str>,
    /// `HTTP/1.1` and its like.
    pub protocol: &'static str,
}

/// Who is asked, by whom, where.
#[derive(Debug)]
pub struct Parties {
    pub side: Side,
    /// `None`: there is no route, or none is needed.
    pub route: Option<Arc<ReadyRoute>>,
    /// Where it goes, if there is only one place.
    pub endpoint: Option<SocketAddr>,
    /// The revision that was picked for it.
    pub revision: Option<Box<str>>,
    /// Who calls, on the inbound side.
    pub caller: Option<IpAddr>,
    /// The SPIFFE ID that it has shown.
    pub caller_id: Option<Arc<str>>,
    /// This pod's own application is asked.
    pub own: bool,
}

#[derive(Debug)]
pub struct Record {
    pub parties: Parties,
    /// Since 1970.
    pub started: Duration,
    arrived: Instant,
    pub duration: Duration,
    pub method: Box<str>,
    pub path: Box<str>,
    pub authority: Box<str>,
    pub protocol: &'static str,
    pub dialect: Dialect,
    /// 32 hexadecimal digits.
    pub trace: Option<Box<str>>,
    pub attempts: u32,
    /// 0: the caller left before there was any.
    pub status: u16,
    pub grpc_status: Option<u16>,
    pub flags: Flags,
    /// Why there is no answer but the proxy's own.
    pub reason: Option<Box<str>>,
    pub class: Class,
    /// Bytes of the request's body that went on, and of its answer's.
    pub received: u64,
    pub sent: u64,
}

impl Entry {
    pub fn begin(
        telemetry: &Arc<Telemetry>,
        (arrived, started): (Instant, Duration),
        asked: Asked<'_>,
        head: &impl Head,
        parties: Parties,
    ) -> Entry {
        let target = asked.target.as_bytes();
        let path = match telemetry.path {
            AccessLogPath::Plain => trace::path(target),
            AccessLogPath::WithQuery => with_query(target),
        };
        let grpc = |kind: &[u8]| kind.starts_with(b"application/grpc");
        let traceparent = head.values("traceparent").next();
        let trace = traceparent.and_then(|parent| Trace::of_request(parent, b""));
        Entry {
            telemetry: telemetry.clone(),
            record: Record {
                parties,
                started,
                arrived,
                duration: Duration::ZERO,
                method: cut(asked.method, LONGEST_NAME),
                path: cut(&String::from_utf8_lossy(path), LONGEST_TEXT),
                authority: cut(without_user(asked.authority.unwrap_or("")), LONGEST_NAME),
                protocol: asked.protocol,
                dialect: if head.values("content-type").next().is_some_and(grpc) {
                    Dialect::Grpc
                } else {
                    Dialect::Http
                },
                trace: trace.map(|trace| trace.id().into()),
                attempts: 0,
                status: 0,
                grpc_status: None,
                flags: Flags::default(),
                reason: None,
                class: Class::ClientClosed,
                received: 0,
                sent: 0,
            },
        }
    }

    /// It is kept waiting on purpose.
    #[must_use]
    pub fn delayed(mut self) -> Entry {
        self.record.flags.is_delayed = true;
        self
    }

    /// An attempt goes to this endpoint of this revision.
    pub fn goes_to(&mut self, endpoint: SocketAddr, revision: &str) {
        self.record.attempts += 1;
        let parties = &mut self.record.parties;
        parties.endpoint = Some(endpoint);
        if parties.revision.as_deref() != Some(revision) {
            parties.revision = Some(revision.into());
        }
    }

    /// It is sent again, not to this pod's own application.
    pub fn goes_on(&mut self) {
        self.record.parties.own = false;
        // What the attempt before was answered is nobody's answer.
        (self.record.status, self.record.grpc_status) = (0, None);
    }

    /// What the answer says of how it went.
    pub fn said(&mut self, said: Said) {
        match said {
            Said::Status(status) => self.record.status = status,
            Said::Grpc(status) => self.record.grpc_status = Some(status),
            Said::Nothing => {}
        }
    }

    /// There is no answer but this one, of the proxy's own.
    pub fn refused(&mut self, flag: Flag, status: u16, reason: &str) {
        self.record.flags.flag = flag;
        self.record.status = match flag {
            // Nobody is there to read it.
            Flag::CallerLeft => 0,
            _ => status,
        };
        self.record.reason = Some(cut(reason, LONGEST_TEXT));
    }

    /// The answer broke off.
    pub fn broke(&mut self, flag: Flag) {
        self.record.flags.flag = flag;
    }

    pub fn moved(&mut self, received: u64, sent: u64) {
        (self.record.received, self.record.sent) = (received, sent);
    }

    pub fn ended(&mut self, class: Class) {
        self.record.class = class;
        if class == Class::ClientClosed && self.record.flags.flag == Flag::None {
            self.record.flags.flag = Flag::CallerLeft;
        }
    }

    /// It is over.
    pub fn over(self) {
        let Entry {
            telemetry,
            mut record,
        } = self;
        record.duration = record.arrived.elapsed();
        telemetry.over(record);
    }
}

impl Record {
    /// Whether it failed, or was refused here.
    pub fn is_error(&self) -> bool {
        match self.class {
            Class::Failure | Class::Unsent => true,
            Class::Success | Class::ClientClosed => false,
        }
    }
}

/// The path and the query of a target.
fn with_query(target: &[u8]) -> &[u8] {
    let until = |stops: &[u8]| {
        let end = target.iter().position(|byte| stops.contains(byte));
        end.unwrap_or(target.len())
    };
    match trace::path(target).len() {
        0 => &[],
        length => &target[until(b"?#") - length..until(b"#")],
    }
}

/// Names and passwords before an authority stay out.
fn without_user(authority: &str) -> &str {
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, authority)| authority)
}

/// The beginning of a text.
fn cut(text: &str, most: usize) -> Box<str> {
    text[..text.floor_char_boundary(most)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_with_its_query_only_where_it_is_wanted() {
        for (target, plain, whole) in [
            ("/", "/", "/"),
            ("/pay?card=1#x", "/pay", "/pay?card=1"),
            ("/pay#x?card=1", "/pay", "/pay"),
            ("http://a/a?b", "/a", "/a?b"),
            ("http://user:secret@a/a?b", "/a", "/a?b"),
            ("http://a?b", "", ""),
            ("*", "", ""),
            ("", "", ""),
        ] {
            assert_eq!(trace::path(target.as_bytes()), plain.as_bytes(), "{target}");
            assert_eq!(with_query(target.as_bytes()), whole.as_bytes(), "{target}");
        }
    }

    #[test]
    fn nobodys_name_or_password_is_kept_and_nothing_endless() {
        assert_eq!(without_user("user:secret@web:80"), "web:80");
        assert_eq!(without_user("a@b@web"), "web");
        assert_eq!(without_user("web"), "web");
        assert_eq!(&*cut("äöü", 3), "ä");
        assert_eq!(cut(&"x".repeat(5000), LONGEST_TEXT).len(), LONGEST_TEXT);
    }
}
