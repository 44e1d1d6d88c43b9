//! Secrets in HTTP/2 stay out of HPACK's tables, whatever the other side sent them as.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::frames::{END_STREAM, HEADERS, OK, PREFACE, headers, literal, parse, post, settings};
use crate::mesh::{Mesh, Service};

/// How a literal that is never indexed begins, with these names of the static table (RFC 7541, 6.2.3 and appendix A).
const NEVER: [(&str, [u8; 2]); 4] = [
    ("authorization", [0x1f, 23 - 15]),
    ("cookie", [0x1f, 32 - 15]),
    ("proxy-authorization", [0x1f, 49 - 15]),
    ("set-cookie", [0x1f, 55 - 15]),
];

async fn head(stream: &mut TcpStream, preface: &[u8]) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0);
        bytes.extend_from_slice(&buffer[..read]);
        let frames = bytes.strip_prefix(preface).map(parse).unwrap_or_default();
        if let Some(head) = frames.into_iter().find(|frame| frame.kind == HEADERS) {
            return head.payload;
        }
    }
}

#[tokio::test]
async fn secrets_are_never_indexed_on_their_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tell.send(head(&mut stream, PREFACE).await).unwrap();
        let block = [
            OK.to_vec(),
            literal(b"set-cookie", b"secret"),
            literal(b"x", b"y"),
        ]
        .concat();
        let answer = [settings(), headers(END_STREAM, 1, &block)].concat();
        stream.write_all(&answer).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let mesh = Mesh::with(&Service::new(address, address, 0)).await;
    let mut caller = TcpStream::connect(mesh.outbound).await.unwrap();
    let mut block = post("/");
    for name in ["authorization", "cookie", "proxy-authorization", "x"] {
        block.extend(literal(name.as_bytes(), b"secret"));
    }
    let request = [PREFACE, &settings(), &headers(END_STREAM, 1, &block)].concat();
    caller.write_all(&request).await.unwrap();
    let answer = head(&mut caller, b"").await;
    let request = told.await.unwrap();
    let has = |block: &[u8], bytes: [u8; 2]| block.windows(2).any(|w| w == bytes);
    for (name, never) in NEVER {
        let block = if name == "set-cookie" {
            &answer
        } else {
            &request
        };
        assert!(has(block, never), "{name}: {block:02x?}");
    }
}
