//! Signing keys of both curves the protocol allows.

use cid::multibase::{Base, encode};
use k256::ecdsa::signature::Signer as _;

/// A key that signs commits and labels.
#[derive(Clone)]
pub(super) enum SigningKey {
    K256(k256::ecdsa::SigningKey),
    P256(p256::ecdsa::SigningKey),
}

impl SigningKey {
    /// The key of some random bytes; every fourth is of P-256.
    pub(super) fn from_bytes(mut secret: [u8; 32]) -> Self {
        let p256 = secret[31] & 3 == 0;
        // Below the order of either curve, and not zero.
        secret[0] &= 0x7f;
        secret[31] |= 1;
        if p256 {
            Self::P256(p256::ecdsa::SigningKey::from_slice(&secret).expect("a number below the order"))
        } else {
            Self::K256(k256::ecdsa::SigningKey::from_slice(&secret).expect("a number below the order"))
        }
    }

    /// A compact signature in its low-S form; the same for the same message (RFC 6979).
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        match self {
            Self::K256(key) => {
                let signature: k256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().to_bytes().into()
            }
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().to_bytes().into()
            }
        }
    }

    /// The public key as DID documents write it.
    pub(super) fn multikey(&self) -> String {
        let bytes = match self {
            Self::K256(key) => [&[0xe7, 0x01], key.verifying_key().to_sec1_point(true).as_bytes()].concat(),
            Self::P256(key) => [&[0x80, 0x24], key.verifying_key().to_sec1_point(true).as_bytes()].concat(),
        };
        encode(Base::Base58Btc, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsky_common::repo::VerifyingKey;

    #[test]
    fn signatures_hold_on_both_curves() {
        for last in [4, 5] {
            let key = SigningKey::from_bytes([last; 32]);
            assert_eq!(matches!(key, SigningKey::P256(_)), last == 4);
            let public = VerifyingKey::from_multikey(&key.multikey()).unwrap();
            assert_eq!(public.verify(b"message", &key.sign(b"message")), Ok(()));
            assert!(public.verify(b"another", &key.sign(b"message")).is_err());
        }
    }
}
