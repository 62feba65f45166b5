//! Handles by DNS: `_atproto.<handle>` (IDENTITY 4).

use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

/// The system's name servers.
#[derive(Debug)]
pub(super) struct Dns(TokioResolver);

impl Dns {
    /// `None` where the system's configuration names none.
    pub(super) fn of_system(timeout: Duration) -> Option<Self> {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = timeout;
            // A handle that has just been set up must not be hidden by an answer of a moment ago.
            options.cache_size = 0;
            builder.build()
        });
        match built {
            Ok(resolver) => Some(Self(resolver)),
            Err(error) => {
                tracing::warn!("no name servers, handles are looked up by HTTPS alone: {error}");
                None
            }
        }
    }

    /// The DID that the handle's TXT records name; any failure is no answer.
    pub(super) async fn did_of(&self, handle: &str, timeout: Duration) -> Option<String> {
        // The final dot keeps the search domains of this machine out.
        let lookup = self.0.txt_lookup(format!("_atproto.{handle}."));
        let answer = tokio::time::timeout(timeout, lookup).await.ok()?.ok()?;
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        });
        did_in(records)
    }
}

/// The rest of the only record that starts with `did=`; none if there are several.
fn did_in(records: impl Iterator<Item = Vec<u8>>) -> Option<String> {
    let mut dids =
        records.filter_map(|text| Some(String::from_utf8(text).ok()?.strip_prefix("did=")?.to_owned()));
    let did = dids.next().filter(|did| !did.is_empty())?;
    dids.next().is_none().then_some(did)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(records: &[&str]) -> Option<String> {
        did_in(records.iter().map(|text| text.as_bytes().to_vec()))
    }

    #[test]
    fn exactly_one_record_must_name_a_did() {
        assert_eq!(read(&["v=spf1", "did=did:plc:a"]).as_deref(), Some("did:plc:a"));
        assert_eq!(read(&["did=did:plc:a", "did=did:plc:a"]), None);
        assert_eq!(read(&["v=spf1"]), None);
        assert_eq!(read(&[" did=did:plc:a"]), None);
        assert_eq!(read(&["did="]), None);
        // Verbatim and unchecked: it is compared with a DID later.
        assert_eq!(read(&["did= x"]).as_deref(), Some(" x"));
    }
}
