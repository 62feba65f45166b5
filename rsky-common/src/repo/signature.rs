//! Signatures of commits (the protocol's cryptography: ECDSA over SHA-256, K-256 or P-256, compact, low S).

use k256::ecdsa::signature::Verifier as _;
use thiserror::Error;

/// Longest key text that is looked at; real ones have about 50 characters.
const MAX_KEY_TEXT: usize = 256;

/// The curve of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// secp256k1, nearly all accounts.
    K256,
    /// NIST P-256.
    P256,
}

/// Text that is no public key we can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not multibase base58btc.
    #[error("the key is not multibase text")]
    NotMultibase,
    /// A kind of key other than K-256 and P-256.
    #[error("the key is of an unsupported kind")]
    Kind,
    /// Bytes that are no point of the curve.
    #[error("the key is not a point of its curve")]
    NotAPoint,
}

/// A signature that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// Not 64 bytes of two numbers in range.
    #[error("malformed signature")]
    Malformed,
    /// The larger of the two forms each signature has; the protocol allows only the smaller.
    #[error("signature is not in its low-S form")]
    HighS,
    /// Made with another key, or for other bytes.
    #[error("signature does not match the key")]
    Mismatch,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyingKey {
    /// secp256k1.
    K256(k256::ecdsa::VerifyingKey),
    /// NIST P-256.
    P256(p256::ecdsa::VerifyingKey),
}

impl VerifyingKey {
    /// A key in the form of `Multikey` and `did:key`: multibase of a multicodec prefix and the compressed point.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_multikey(text: &str) -> Result<Self, KeyError> {
        match multibase(text)?.as_slice() {
            [0xe7, 0x01, point @ ..] => Self::from_point(Curve::K256, point),
            [0x80, 0x24, point @ ..] => Self::from_point(Curve::P256, point),
            _ => Err(KeyError::Kind),
        }
    }

    /// A key of the older verification methods, which name the curve: multibase of the bare point.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_bare(curve: Curve, text: &str) -> Result<Self, KeyError> {
        Self::from_point(curve, &multibase(text)?)
    }

    fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        match curve {
            Curve::K256 => k256::ecdsa::VerifyingKey::from_sec1_bytes(point)
                .map(Self::K256)
                .map_err(|_| KeyError::NotAPoint),
            Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
                .map(Self::P256)
                .map_err(|_| KeyError::NotAPoint),
        }
    }

    /// Checks a compact signature of `message`.
    ///
    /// # Errors
    /// See [`SignatureError`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        match self {
            Self::K256(key) => {
                let parsed =
                    k256::ecdsa::Signature::from_slice(signature).map_err(|_| SignatureError::Malformed)?;
                if parsed.normalize_s() != parsed {
                    return Err(SignatureError::HighS);
                }
                key.verify(message, &parsed).map_err(|_| SignatureError::Mismatch)
            }
            Self::P256(key) => {
                let parsed =
                    p256::ecdsa::Signature::from_slice(signature).map_err(|_| SignatureError::Malformed)?;
                if parsed.normalize_s() != parsed {
                    return Err(SignatureError::HighS);
                }
                key.verify(message, &parsed).map_err(|_| SignatureError::Mismatch)
            }
        }
    }
}

fn multibase(text: &str) -> Result<Vec<u8>, KeyError> {
    if text.len() > MAX_KEY_TEXT {
        return Err(KeyError::NotMultibase);
    }
    match cid::multibase::decode(text) {
        Ok((cid::multibase::Base::Base58Btc, bytes)) => Ok(bytes),
        _ => Err(KeyError::NotMultibase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::ecdsa::signature::Signer as _;

    #[test]
    fn a_signature_holds_for_its_bytes_and_key_only() {
        let secret = k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let key = VerifyingKey::K256(*secret.verifying_key());
        let signature: k256::ecdsa::Signature = secret.sign(b"message");
        let bytes = signature.normalize_s().to_bytes();
        assert_eq!(key.verify(b"message", &bytes), Ok(()));
        assert_eq!(key.verify(b"other", &bytes), Err(SignatureError::Mismatch));
        assert_eq!(key.verify(b"message", &bytes[..63]), Err(SignatureError::Malformed));
        assert_eq!(key.verify(b"message", &[0; 64]), Err(SignatureError::Malformed));
        let other = k256::ecdsa::SigningKey::from_slice(&[8; 32]).unwrap();
        assert_eq!(
            VerifyingKey::K256(*other.verifying_key()).verify(b"message", &bytes),
            Err(SignatureError::Mismatch)
        );
    }

    #[test]
    fn key_texts_that_are_none() {
        assert_eq!(VerifyingKey::from_multikey(""), Err(KeyError::NotMultibase));
        assert_eq!(VerifyingKey::from_multikey("zQ3"), Err(KeyError::Kind));
        assert_eq!(VerifyingKey::from_multikey(&"z".repeat(10_000)), Err(KeyError::NotMultibase));
        assert_eq!(VerifyingKey::from_bare(Curve::P256, "zQ3"), Err(KeyError::NotAPoint));
    }
}
