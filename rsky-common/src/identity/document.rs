use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use url::Url;

use crate::repo::{Curve, KeyError, VerifyingKey};

/// A document that is not of the form the reference accepts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// Not JSON, or a member of another type.
    #[error("malformed DID document: {0}")]
    Malformed(String),
    /// The document of somebody else.
    #[error("the document is that of {0:?}")]
    OtherDid(String),
}

/// What the protocol needs of a DID document; each part may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DidDocument {
    /// The account.
    pub did: String,
    /// The handle it claims, verbatim and unchecked.
    pub handle: Option<String>,
    /// URL of its PDS.
    pub pds: Option<String>,
    key: Option<(KeyKind, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyKind {
    Multikey,
    Bare(Curve),
}

#[derive(Deserialize)]
struct Members<'a> {
    id: String,
    #[serde(rename = "alsoKnownAs", default)]
    also_known_as: Vec<String>,
    #[serde(rename = "verificationMethod", default)]
    methods: Vec<Method>,
    #[serde(default, borrow)]
    service: Vec<Service<'a>>,
}

#[derive(Deserialize)]
struct Method {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "controller")]
    _controller: String,
    #[serde(rename = "publicKeyMultibase")]
    key: Option<String>,
}

#[derive(Deserialize)]
struct Service<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    /// Of any shape; only text is looked at.
    #[serde(rename = "serviceEndpoint", borrow)]
    endpoint: &'a RawValue,
}

impl DidDocument {
    /// Reads the document of `did`.
    ///
    /// # Errors
    /// See [`DocumentError`].
    pub fn parse(json: &[u8], did: &str) -> Result<Self, DocumentError> {
        let members: Members<'_> =
            serde_json::from_slice(json).map_err(|error| DocumentError::Malformed(error.to_string()))?;
        if members.id != did {
            return Err(DocumentError::OtherDid(members.id));
        }
        // The first item of that fragment counts, whatever else it is (IDENTITY 2).
        let named = |id: &str, fragment: &str| id == fragment || id.strip_prefix(did) == Some(fragment);
        let pds = members
            .service
            .into_iter()
            .find(|service| named(&service.id, "#atproto_pds"))
            .filter(|service| service.kind == "AtprotoPersonalDataServer")
            .and_then(|service| serde_json::from_str::<String>(service.endpoint.get()).ok())
            .filter(|url| {
                (url.starts_with("http://") || url.starts_with("https://")) && Url::parse(url).is_ok()
            });
        let key =
            members.methods.into_iter().find(|method| named(&method.id, "#atproto")).and_then(|method| {
                let kind = match method.kind.as_str() {
                    "Multikey" => KeyKind::Multikey,
                    "EcdsaSecp256k1VerificationKey2019" => KeyKind::Bare(Curve::K256),
                    "EcdsaSecp256r1VerificationKey2019" => KeyKind::Bare(Curve::P256),
                    _ => return None,
                };
                Some((kind, method.key?))
            });
        let handle =
            members.also_known_as.iter().find_map(|name| name.strip_prefix("at://")).map(str::to_owned);
        Ok(Self { did: members.id, handle, pds, key })
    }

    /// The key that signs commits; `None` if the document names none of a kind we know.
    ///
    /// # Errors
    /// A key is named that is none.
    pub fn signing_key(&self) -> Result<Option<VerifyingKey>, KeyError> {
        match &self.key {
            None => Ok(None),
            Some((KeyKind::Multikey, text)) => VerifyingKey::from_multikey(text).map(Some),
            Some((KeyKind::Bare(curve), text)) => VerifyingKey::from_bare(*curve, text).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DID: &str = "did:plc:extrbigrepoaaaaaaaaaaaaa";
    const KEY: &str = "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme";

    fn document(id: &str, kind: &str, endpoint: &str) -> String {
        format!(
            r##"{{"@context":[],"id":"{DID}","alsoKnownAs":["https://x","at://Alice.Test/p","at://b"],
            "verificationMethod":[{{"id":"#other","type":"Multikey","controller":"c","publicKeyMultibase":"z"}},
              {{"id":"{id}","type":"{kind}","controller":"c","publicKeyMultibase":"{KEY}"}}],
            "service":[{{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":{endpoint}}}]}}"##
        )
    }

    #[test]
    fn parts_are_taken_by_fragment_and_type() {
        let text = document(&format!("{DID}#atproto"), "Multikey", r#""https://pds.example""#);
        let read = DidDocument::parse(text.as_bytes(), DID).unwrap();
        assert_eq!(read.handle.as_deref(), Some("Alice.Test/p"));
        assert_eq!(read.pds.as_deref(), Some("https://pds.example"));
        assert!(matches!(read.signing_key(), Ok(Some(VerifyingKey::K256(_)))));
        let text = document("#atproto", "Ed25519", r#"{"url":"https://x"}"#);
        let read = DidDocument::parse(text.as_bytes(), DID).unwrap();
        assert_eq!((read.pds.as_deref(), read.signing_key()), (None, Ok(None)));
        for endpoint in ["\"ftp://x\"", "\"https://\"", "\"pds.example\""] {
            let text = document("#atproto", "Multikey", endpoint);
            assert_eq!(DidDocument::parse(text.as_bytes(), DID).unwrap().pds, None, "{endpoint}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let text = document("#atproto", "Multikey", "\"https://x\"");
        assert!(matches!(DidDocument::parse(text.as_bytes(), "did:plc:b"), Err(DocumentError::OtherDid(_))));
        for text in ["", "[]", "{}", r#"{"id":1}"#, r#"{"id":"did:plc:b","service":[{"id":"x"}]}"#] {
            assert!(matches!(
                DidDocument::parse(text.as_bytes(), "did:plc:b"),
                Err(DocumentError::Malformed(_))
            ));
        }
        assert!(DidDocument::parse(br#"{"id":"did:plc:b"}"#, "did:plc:b").is_ok());
    }
}
