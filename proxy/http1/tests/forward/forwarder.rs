//! What a proxy does with the crate, without the sockets.

use aviary_http1::fields::lines;
use aviary_http1::response::Asked;
use aviary_http1::scan::empty_line;
use aviary_http1::{
    Body, Edit, HeadEnd, Limits, Malformed, Persistence, Request, Response, Version,
};

pub(crate) const LIMITS: Limits = Limits {
    bytes: 60 * 1024,
    fields: 128,
};
pub(crate) const GET: Asked = Asked {
    head: false,
    upgrade: false,
};
pub(crate) const HEAD: Asked = Asked {
    head: true,
    upgrade: false,
};

/// What became of a stream of messages: what went on, how many heads and whole messages that is, and why it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forwarded {
    pub out: Vec<u8>,
    pub heads: usize,
    pub whole: usize,
    pub error: Option<Malformed>,
}

/// Forwards a caller's requests until it asks to close, or something is malformed. Each of `pieces` is one read.
pub(crate) fn requests<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Forwarded {
    let mut forwarded = Forwarded::default();
    let mut reader = Reader::default();
    for piece in pieces {
        reader.input.extend_from_slice(piece);
        match reader.requests(&mut forwarded) {
            Ok(()) => {}
            Err(error) => {
                forwarded.error = error;
                break;
            }
        }
    }
    forwarded
}

#[derive(Default)]
struct Reader {
    input: Vec<u8>,
    scan: HeadEnd,
    body: Option<(Body, Persistence)>,
}

impl Reader {
    /// `Err(None)`: the connection is to be closed.
    fn requests(&mut self, to: &mut Forwarded) -> Result<(), Option<Malformed>> {
        loop {
            if let Some((body, persistence)) = &mut self.body {
                relay(body, &mut self.input, &mut to.out).map_err(Some)?;
                if !body.is_done() {
                    return Ok(());
                }
                to.whole += 1;
                if *persistence == Persistence::Close {
                    return Err(None);
                }
                self.body = None;
            }
            match empty_line(&self.input) {
                None => return Ok(()),
                Some(0) => {}
                Some(line) => {
                    self.input.drain(..line);
                    continue;
                }
            }
            let Some(length) = self.scan.find(&self.input, &LIMITS).map_err(Some)? else {
                return Ok(());
            };
            self.scan = HeadEnd::default();
            let head: Vec<u8> = self.input.drain(..length).collect();
            let mut space = lines();
            let request = Request::read(&head, &mut space, &LIMITS).map_err(Some)?;
            request.write(&mut to.out, &Edit::default());
            to.heads += 1;
            self.body = Some((Body::of_request(request.framing), request.persistence));
        }
    }
}

fn relay(body: &mut Body, input: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let taken = {
        let relayed = body.relay(input, out)?;
        out.extend_from_slice(relayed.plain);
        relayed.taken
    };
    input.drain(..taken);
    Ok(())
}

/// Forwards one answer and the end of its connection to a caller of version `to`.
pub(crate) fn answer<'p>(
    pieces: impl IntoIterator<Item = &'p [u8]>,
    asked: Asked,
    to: Version,
) -> Result<Vec<u8>, Malformed> {
    let (mut input, mut out, mut scan, mut body) =
        (Vec::new(), Vec::new(), HeadEnd::default(), None::<Body>);
    for piece in pieces {
        input.extend_from_slice(piece);
        while body.is_none() {
            let Some(length) = scan.find(&input, &LIMITS)? else {
                break;
            };
            scan = HeadEnd::default();
            let head: Vec<u8> = input.drain(..length).collect();
            let mut space = lines();
            let response = Response::read(&head, &mut space, asked, &LIMITS)?;
            let onward = response.onward(to);
            response.write(&mut out, to, onward.persistence, &Edit::default());
            if !response.is_interim() {
                body = Some(Body::new(response.framing, onward.coding));
            }
        }
        if let Some(body) = &mut body {
            relay(body, &mut input, &mut out)?;
        }
    }
    match body {
        Some(mut body) => body.end(&mut out).map(|()| out),
        None => Err(Malformed::Truncated),
    }
}

/// The whole as one piece.
pub(crate) fn whole(bytes: &[u8]) -> Forwarded {
    requests([bytes])
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
