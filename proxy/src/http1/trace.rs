//! Which request it was, by its head as it went to an endpoint. Looked for only in one that failed.

use traffic_core::outcome::Trace;

/// `head`: valid, with what went out after it.
pub(super) fn of(head: &[u8]) -> Option<Trace> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let target = lines.next()?.split(|byte| *byte == b' ').nth(1)?;
    let mut fields = lines.take_while(|line| !line.is_empty());
    let traceparent = fields.find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(b"traceparent")
            .then(|| value[1..].trim_ascii())
    })?;
    Trace::of_request(traceparent, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn said(text: &str) -> Option<String> {
        of(text.as_bytes()).map(|trace| trace.to_string())
    }

    #[test]
    fn it_is_in_the_head_under_any_case_and_not_in_the_body() {
        let field = format!("TraceParent:  00-{ID}-00f067aa0ba902b7-01 \r\n");
        let head = "POST /pay?card=1 HTTP/1.1\r\nHost: web\r\n";
        let expected = Some(format!("trace {ID} of /pay"));
        assert_eq!(said(&format!("{head}{field}\r\nbody")), expected);
        assert_eq!(said(&format!("{head}\r\n{field}\r\n")), None);
        for none in ["", "GET", "GET / HTTP/1.1\r\n\r\n", "\n\n", ": \r\n:\r\n"] {
            assert_eq!(said(none), None, "{none:?}");
        }
    }
}
