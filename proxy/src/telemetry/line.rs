//! A line of the access log: one object of JSON, in ASCII, under the names that Istio's sidecars use for the same.
//!
//! Callers write what they like into a path. Whatever is no printable ASCII is escaped, so a line is one line, and a terminal obeys none of it.

use std::fmt::Write as _;

use traffic_core::outcome::Dialect;

use super::entry::Record;
use crate::net::origin::Side;
use crate::rfc3339::rfc3339;

/// Appends the line of `record`, with its end.
pub(super) fn write(record: &Record, to: &mut String) {
    let mut object = Object::begin(to);
    object.text("start_time", &rfc3339(record.started));
    object.text(
        "direction",
        match record.parties.side {
            Side::Outbound => "outbound",
            Side::Inbound => "inbound",
        },
    );
    object.text("method", &record.method);
    object.text("path", &record.path);
    object.text("authority", &record.authority);
    object.text("protocol", record.protocol);
    object.number("response_code", record.status.into());
    if record.dialect == Dialect::Grpc {
        object.number_if_any("grpc_status", record.grpc_status.map(u64::from));
    }
    object.text("response_flags", &record.flags.text());
    object.text_if_any("response_code_details", record.reason.as_deref());
    object.text("outcome", record.class.as_str());
    let millis = u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX);
    object.number("duration", millis);
    object.number("bytes_received", record.received);
    object.number("bytes_sent", record.sent);
    object.text_if_any(
        "upstream_host",
        record.parties.endpoint.map(|it| it.to_string()),
    );
    let route = record.parties.route.as_ref().map(|ready| &ready.route);
    object.text_if_any("route_name", route.map(|route| route.name.as_str()));
    object.text_if_any("revision", record.parties.revision.as_deref());
    if record.attempts > 1 {
        object.number("upstream_request_attempt_count", record.attempts.into());
    }
    let caller = record.parties.caller.map(|caller| caller.to_string());
    object.text_if_any("downstream_remote_address", caller);
    object.text_if_any(
        "downstream_peer_uri_san",
        record.parties.caller_id.as_deref(),
    );
    object.text_if_any("trace_id", record.trace.as_deref());
    object.end();
}

/// An object on its way.
struct Object<'t> {
    to: &'t mut String,
    separator: &'static str,
}

impl<'t> Object<'t> {
    fn begin(to: &'t mut String) -> Object<'t> {
        to.push('{');
        Object { to, separator: "" }
    }

    /// Names are the log's own: nothing in them has to be escaped.
    fn name(&mut self, name: &str) {
        self.to.push_str(self.separator);
        self.separator = ",";
        self.to.push('"');
        self.to.push_str(name);
        self.to.push_str("\":");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.to.push('"');
        escape(text, self.to);
        self.to.push('"');
    }

    fn text_if_any(&mut self, name: &str, text: Option<impl AsRef<str>>) {
        if let Some(text) = text {
            self.text(name, text.as_ref());
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        let _ = write!(self.to, "{number}");
    }

    fn number_if_any(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    fn end(self) {
        self.to.push_str("}\n");
    }
}

/// As the inside of a string of JSON (RFC 8259, 7).
fn escape(text: &str, to: &mut String) {
    for c in text.chars() {
        match c {
            '"' | '\\' => to.extend(['\\', c]),
            ' '..='~' => to.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(to, "\\u{unit:04x}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_comes_back_and_none_leaves_the_line() {
        let all: Vec<char> = (0..=u32::from(char::MAX))
            .filter_map(char::from_u32)
            .collect();
        for some in all.chunks(4096) {
            let text: String = some.iter().collect();
            let mut line = String::new();
            let mut object = Object::begin(&mut line);
            object.text("path", &text);
            object.end();
            let (line, end) = line.split_at(line.len() - 1);
            assert_eq!(end, "\n");
            assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            let read: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(read["path"], text);
        }
    }

    #[test]
    fn a_field_cannot_be_written_into_another_one() {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.text("path", "/\",\"response_code\":200,\"x\":\"\r\n{}");
        object.number("response_code", 500);
        object.end();
        assert_eq!(line.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read.as_object().unwrap().len(), 2);
        assert_eq!(read["response_code"], 500);
    }
}
