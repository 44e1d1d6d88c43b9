//! The public key in a request for a certificate (PKCS #10, RFC 2986), and the proof that whoever asks has the private one. Whatever else the request says is
//! not even looked at: a name, an extension or a right that somebody asks for cannot get into a certificate.

use aviary_xds::identity::LONGEST_CSR;
use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, UnparsedPublicKey};
use rcgen::{PublicKeyData, SignatureAlgorithm};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::FromDer;

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrProblem {
    #[error("it has {0} bytes, the limit is {LONGEST_CSR}")]
    Size(usize),
    #[error("it is no certification request (PKCS #10, DER)")]
    Malformed,
    #[error("its key is not on the curve P-256 or P-384")]
    Key,
    #[error("it is not signed with ECDSA and SHA-256 or SHA-384")]
    Algorithm,
    #[error("its signature is not of its key")]
    Signature,
}

/// A public key, whose private one the sender has.
#[derive(Debug)]
pub(super) struct PublicKey {
    /// An uncompressed point.
    point: Vec<u8>,
    curve: Curve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.curve {
            Curve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Curve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }
}

impl Curve {
    /// Bytes of an uncompressed point (SEC 1, 2.3.3).
    fn point(self) -> usize {
        match self {
            Curve::P256 => 1 + 2 * 32,
            Curve::P384 => 1 + 2 * 48,
        }
    }
}

pub(super) fn read(der: &[u8]) -> Result<PublicKey, CsrProblem> {
    if der.len() > LONGEST_CSR {
        return Err(CsrProblem::Size(der.len()));
    }
    let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|_| CsrProblem::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrProblem::Malformed);
    }
    let info = &csr.certification_request_info;
    let key = public_key(&info.subject_pki).ok_or(CsrProblem::Key)?;
    let sha256 = csr.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256;
    let sha384 = csr.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA384;
    let algorithm: &'static EcdsaVerificationAlgorithm = match (key.curve, sha256, sha384) {
        (Curve::P256, true, _) => &signature::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, _, true) => &signature::ECDSA_P256_SHA384_ASN1,
        (Curve::P384, true, _) => &signature::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, _, true) => &signature::ECDSA_P384_SHA384_ASN1,
        (_, false, false) => return Err(CsrProblem::Algorithm),
    };
    if csr.signature_value.unused_bits != 0 {
        return Err(CsrProblem::Signature);
    }
    // A point that is not on its curve verifies nothing.
    UnparsedPublicKey::new(algorithm, &key.point)
        .verify(info.raw, &csr.signature_value.data)
        .map_err(|_| CsrProblem::Signature)?;
    Ok(key)
}

fn public_key(spki: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Option<PublicKey> {
    if spki.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        return None;
    }
    let curve = spki.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let curve = if curve == OID_EC_P256 {
        Curve::P256
    } else if curve == OID_NIST_EC_P384 {
        Curve::P384
    } else {
        return None;
    };
    let point = spki.subject_public_key.data.to_vec();
    let uncompressed = point.len() == curve.point() && point.first() == Some(&4);
    uncompressed.then_some(PublicKey { point, curve })
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    pub(in super::super) fn request(key: &KeyPair, params: CertificateParams) -> Vec<u8> {
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn plain(key: &KeyPair) -> Vec<u8> {
        request(key, CertificateParams::default())
    }

    #[test]
    fn the_key_of_a_request_is_read_on_either_curve() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let read = read(&plain(&key)).unwrap();
            assert_eq!(read.der_bytes(), key.der_bytes());
            assert_eq!(read.algorithm(), algorithm);
        }
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P521_SHA512] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert_eq!(read(&plain(&key)).unwrap_err(), CsrProblem::Key);
        }
    }

    #[test]
    fn somebody_elses_key_is_refused() {
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut forged = plain(&own);
        let place = forged
            .windows(own.der_bytes().len())
            .position(|part| part == own.der_bytes())
            .unwrap();
        forged[place..place + other.der_bytes().len()].copy_from_slice(other.der_bytes());
        assert_eq!(read(&forged).unwrap_err(), CsrProblem::Signature);
        // A point that is on no curve.
        forged[place + 1..place + 65].fill(0xff);
        assert_eq!(read(&forged).unwrap_err(), CsrProblem::Signature);
    }

    #[test]
    fn garbage_is_refused_whatever_it_is() {
        let key = KeyPair::generate().unwrap();
        let good = plain(&key);
        assert_eq!(read(&[]).unwrap_err(), CsrProblem::Malformed);
        assert_eq!(read(b"-----BEGIN").unwrap_err(), CsrProblem::Malformed);
        assert_eq!(
            read(&vec![0x30; LONGEST_CSR + 1]).unwrap_err(),
            CsrProblem::Size(LONGEST_CSR + 1)
        );
        let longer = [&good[..], &[0]].concat();
        assert_eq!(read(&longer).unwrap_err(), CsrProblem::Malformed);
        for end in 0..good.len() {
            read(&good[..end]).unwrap_err();
        }
        // What is written in another way outside of what is signed is the same key all the same.
        for place in 0..good.len() {
            for bit in 0..8 {
                let mut other = good.clone();
                other[place] ^= 1 << bit;
                if let Ok(read) = read(&other) {
                    assert_eq!(read.der_bytes(), key.der_bytes(), "{place} {bit}");
                }
            }
        }
    }
}
