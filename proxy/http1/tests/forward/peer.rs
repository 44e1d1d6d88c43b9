//! Another reader of HTTP/1.1: what hyper makes of the same bytes, without sockets and without time.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use hyper::header::HeaderMap;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};

/// Names in lower case, in their order; what has the same name stands together.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// A message as hyper understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Method and target, or the status.
    pub first: (String, String),
    pub fields: Fields,
    /// `None`: it did not come whole.
    pub body: Option<(Vec<u8>, Fields)>,
}

/// Every request that a server of hyper's finds in `bytes`, up to one that it refuses.
pub(crate) fn requests(bytes: &[u8]) -> Vec<Message> {
    let messages = Rc::new(RefCell::new(Vec::new()));
    let found = messages.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let found = found.clone();
        async move {
            let (head, body) = request.into_parts();
            let place = found.borrow().len();
            found.borrow_mut().push(Message {
                first: (head.method.to_string(), head.uri.to_string()),
                fields: fields(&head.headers),
                body: None,
            });
            let body = whole(body).await;
            found.borrow_mut()[place].body = body;
            Ok::<_, Infallible>(Response::new(String::new()))
        }
    });
    let connection = server::conn::http1::Builder::new()
        .max_headers(aviary_http1::scan::MOST_FIELDS)
        .max_buf_size(128 * 1024)
        .serve_connection(Wire::new(bytes, Until::Forever), service);
    let _ = run(connection);
    messages.take()
}

/// The answer that a client of hyper's finds in `bytes` and the end of the connection. `None`: it refuses them.
pub(crate) fn answer(bytes: &[u8], method: &str) -> Option<Message> {
    let request = Request::builder()
        .method(method)
        .uri("/")
        .body(String::new())
        .unwrap();
    let exchange = async {
        let (mut sender, connection) = client::conn::http1::Builder::new()
            .max_headers(aviary_http1::scan::MOST_FIELDS)
            .max_buf_size(128 * 1024)
            .handshake(Wire::new(bytes, Until::End))
            .await
            .ok()?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async move {
            let (head, body) = sender.send_request(request).await.ok()?.into_parts();
            Some(Message {
                first: (head.status.as_str().to_owned(), String::new()),
                fields: fields(&head.headers),
                body: whole(body).await,
            })
        });
        poll_fn(|cx| {
            let _ = connection.as_mut().poll(cx);
            answer.as_mut().poll(cx)
        })
        .await
    };
    run(exchange).flatten()
}

async fn whole(body: impl Body<Data = Bytes>) -> Option<(Vec<u8>, Fields)> {
    let collected = body.collect().await.ok()?;
    let trailers = collected.trailers().map(fields).unwrap_or_default();
    Some((collected.to_bytes().to_vec(), trailers))
}

fn fields(map: &HeaderMap) -> Fields {
    map.iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// Runs `future` until it waits for something that nobody will bring.
fn run<F: Future>(future: F) -> Option<F::Output> {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Flag>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut future = pin!(future);
    while flag.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
    }
    None
}

/// How a connection goes on after its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It ends. Nothing comes before something was sent.
    End,
    /// It stays open, without another byte.
    Forever,
}

struct Wire<'b> {
    bytes: &'b [u8],
    until: Until,
    is_asked: bool,
    reader: Option<Waker>,
}

impl<'b> Wire<'b> {
    fn new(bytes: &'b [u8], until: Until) -> Wire<'b> {
        Wire {
            bytes,
            until,
            is_asked: until == Until::Forever,
            reader: None,
        }
    }
}

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let is_over = self.bytes.is_empty() && self.until == Until::Forever;
        if !self.is_asked || is_over {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (now, later) = self
            .bytes
            .split_at(self.bytes.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
