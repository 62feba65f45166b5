//! What is asked about.

use anyhow::bail;

use super::facts::Path;
use crate::index_repo::account;
use crate::index_repo::settings::Settings as Network;
use crate::text::at_uri::AtUri;

/// An account, or one of its records.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// DID or handle, as given.
    pub(super) name: String,
    pub(super) path: Option<Path>,
}

impl Target {
    /// Reads a DID, a handle, or an at-uri.
    ///
    /// # Errors
    /// It is none of them.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix("at://") else {
            return Ok(Self { name: text.to_owned(), path: None });
        };
        // Without a host the scheme would be read as one.
        let Some(uri) = AtUri::parse(text).filter(|_| !rest.is_empty() && !rest.starts_with('/')) else {
            bail!("{text:?} is not an at-uri")
        };
        let (name, collection, rkey) = (uri.host().to_owned(), uri.collection(), uri.rkey());
        match (collection.is_empty(), rkey.is_empty()) {
            (true, _) => Ok(Self { name, path: None }),
            (false, true) => bail!("{text:?} names a collection and no record of it"),
            (false, false) => {
                let path = Path { collection: collection.to_owned(), rkey: rkey.to_owned() };
                Ok(Self { name, path: Some(path) })
            }
        }
    }

    /// Whose it is.
    ///
    /// # Errors
    /// The name is no DID and leads to none.
    pub(super) async fn did(&self, network: &Network) -> anyhow::Result<String> {
        account::did_of(&self.name, network).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_records_are_told_apart() {
        let parse = |text: &str| Target::parse(text).map(|target| (target.name, target.path)).ok();
        let path = Some(Path { collection: "app.bsky.feed.post".to_owned(), rkey: "3k".to_owned() });
        assert_eq!(parse(" did:plc:a "), Some(("did:plc:a".to_owned(), None)));
        assert_eq!(parse("at://did:plc:a"), Some(("did:plc:a".to_owned(), None)));
        assert_eq!(parse("at://a.test/app.bsky.feed.post/3k"), Some(("a.test".to_owned(), path)));
        assert_eq!(parse("at://did:plc:a/app.bsky.feed.post"), None);
        assert_eq!((parse("at://"), parse("at:///app.bsky.feed.post/3k")), (None, None));
    }
}
