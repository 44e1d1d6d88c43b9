//! How a sidecar gets its certificate: it makes a key, and the control plane signs for the pod whose token it shows.
//!
//! ```proto
//! package aviary.identity.v1;
//! service Identity { rpc Sign(SignRequest) returns (SignResponse); }
//! message SignRequest { bytes csr = 1; }
//! message SignResponse { repeated bytes chain = 1; repeated bytes roots = 2; uint64 seconds_left = 3; string id = 4; }
//! ```
//!
//! Of the request (PKCS #10, DER) the control plane uses the public key and nothing else: who the pod is it knows by the token. The answer is of the pod's
//! whole identity: the certificate with those between it and a root, the roots to verify others by, the name in the certificate, and how long it holds from now on, so that
//! a proxy needs neither a parser of certificates nor a clock that is right.
//!
//! The messages are few, so they are written here and not generated.

use std::time::Duration;

pub use traffic_core::spiffe::{InvalidId, SpiffeId};

/// The most bytes of a request for a signature (DER). With an RSA key of 4096 bits it has a third of this.
pub const LONGEST_CSR: usize = 4 << 10;
/// The most certificates between a leaf and a root, with the leaf.
pub const MOST_IN_CHAIN: usize = 8;
/// The most roots: those of all clusters of a fleet, twice while they change.
pub const MOST_ROOTS: usize = 128;
/// The most bytes of a certificate (DER).
pub const LONGEST_CERTIFICATE: usize = 16 << 10;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SignRequest {
    /// PKCS #10, DER.
    #[prost(bytes = "vec", tag = "1")]
    pub csr: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SignResponse {
    /// X.509, DER; the leaf first, each signed by the next one, without the root.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain: Vec<Vec<u8>>,
    /// X.509, DER: whom to trust.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub roots: Vec<Vec<u8>>,
    /// For how long the leaf holds.
    #[prost(uint64, tag = "3")]
    pub seconds_left: u64,
    /// The SPIFFE ID in the leaf.
    #[prost(string, tag = "4")]
    pub id: String,
}

/// A [`SignResponse`] that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// X.509, DER; the leaf first; at least one.
    pub chain: Vec<Vec<u8>>,
    /// X.509, DER; at least one.
    pub roots: Vec<Vec<u8>>,
    /// For how long the leaf holds; a second at least.
    pub left: Duration,
    pub id: SpiffeId,
}

/// An answer that is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    #[error("it has {0} certificates in its chain, expected 1 to {MOST_IN_CHAIN}")]
    Chain(usize),
    #[error("it has {0} roots, expected 1 to {MOST_ROOTS}")]
    Roots(usize),
    #[error("a certificate has {0} bytes, expected 1 to {LONGEST_CERTIFICATE}")]
    Certificate(usize),
    #[error("its certificate has expired")]
    Expired,
    #[error("its name {0}")]
    Id(#[from] InvalidId),
}

pub fn encode(signed: &Signed) -> SignResponse {
    let Signed {
        chain,
        roots,
        left,
        id,
    } = signed;
    SignResponse {
        chain: chain.clone(),
        roots: roots.clone(),
        seconds_left: left.as_secs(),
        id: id.to_string(),
    }
}

pub fn decode(wire: SignResponse) -> Result<Signed, InvalidAnswer> {
    let SignResponse {
        chain,
        roots,
        seconds_left,
        id,
    } = wire;
    if !(1..=MOST_IN_CHAIN).contains(&chain.len()) {
        return Err(InvalidAnswer::Chain(chain.len()));
    }
    if !(1..=MOST_ROOTS).contains(&roots.len()) {
        return Err(InvalidAnswer::Roots(roots.len()));
    }
    let mut sizes = chain.iter().chain(&roots).map(Vec::len);
    if let Some(size) = sizes.find(|size| !(1..=LONGEST_CERTIFICATE).contains(size)) {
        return Err(InvalidAnswer::Certificate(size));
    }
    if seconds_left == 0 {
        return Err(InvalidAnswer::Expired);
    }
    Ok(Signed {
        chain,
        roots,
        left: Duration::from_secs(seconds_left),
        id: SpiffeId::parse(&id)?,
    })
}

/// The gRPC service, for the two shells that carry the messages.
pub mod grpc;

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn signed() -> Signed {
        Signed {
            chain: vec![vec![1; 400], vec![2; 500]],
            roots: vec![vec![3; 600]],
            left: Duration::from_secs(86_400),
            id: SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/web").unwrap(),
        }
    }

    fn problem(spoil: impl FnOnce(&mut SignResponse)) -> String {
        let mut wire = encode(&signed());
        spoil(&mut wire);
        decode(wire).unwrap_err().to_string()
    }

    #[test]
    fn an_answer_survives_the_wire() {
        let bytes = encode(&signed()).encode_to_vec();
        let wire = SignResponse::decode(&*bytes).unwrap();
        assert_eq!(decode(wire), Ok(signed()));
    }

    /// As another implementation of the definition above would write it.
    #[test]
    fn the_fields_have_the_numbers_of_the_definition() {
        let request = SignRequest { csr: vec![7, 8] };
        assert_eq!(request.encode_to_vec(), [0x0a, 2, 7, 8]);
        let response = SignResponse {
            chain: vec![vec![1], vec![2]],
            roots: vec![vec![3]],
            seconds_left: 5,
            id: "x".to_owned(),
        };
        let expected = [0x0a, 1, 1, 0x0a, 1, 2, 0x12, 1, 3, 0x18, 5, 0x22, 1, b'x'];
        assert_eq!(response.encode_to_vec(), expected);
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_refused_with_what_is_wrong() {
        for (text, problem) in [
            ("0 certificates", problem(|wire| wire.chain.clear())),
            (
                "9 certificates",
                problem(|wire| wire.chain = vec![vec![1]; 9]),
            ),
            ("0 roots", problem(|wire| wire.roots.clear())),
            ("129 roots", problem(|wire| wire.roots = vec![vec![1]; 129])),
            ("has 0 bytes", problem(|wire| wire.chain[1].clear())),
            (
                "has 16385 bytes",
                problem(|wire| wire.roots[0] = vec![1; 16_385]),
            ),
            ("has expired", problem(|wire| wire.seconds_left = 0)),
            (
                "its name `web` is no SPIFFE ID",
                problem(|wire| wire.id = "web".to_owned()),
            ),
        ] {
            assert!(problem.contains(text), "{text}: {problem}");
        }
    }
}
