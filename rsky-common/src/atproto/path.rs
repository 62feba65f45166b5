//! Paths of repository operations.

use thiserror::Error;

use super::syntax::{is_did, is_js_space};

/// A path or an account from which no record address can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// The account is not a DID.
    #[error("not a DID")]
    NotADid,
    /// The path does not name a collection and a record key.
    #[error("path is not collection/rkey")]
    NotARecord,
    /// A character that no address holds, or a query or fragment without content.
    #[error("path cannot stand in an at-uri")]
    NotInUri,
}

/// Collection and record key of an operation, read as the reference reads `did/path` as an at-uri (PIPELINE 4.3):
/// a query and a fragment are dropped. A path of fewer or more than two segments is refused: the reference would write
/// an entry under an address that the repository does not have.
///
/// # Errors
/// See [`PathError`]. One such operation makes its whole commit bad.
pub fn split_path<'a>(did: &str, path: &'a str) -> Result<(&'a str, &'a str), PathError> {
    if !is_did(did) {
        return Err(PathError::NotADid);
    }
    let (record, rest) = path.find(['?', '#']).and_then(|at| path.split_at_checked(at)).unwrap_or((path, ""));
    check_suffix(rest)?;
    if path.chars().any(is_js_space) {
        return Err(PathError::NotInUri);
    }
    let mut segments = record.split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next(), segments.next()) {
        (Some(collection), Some(rkey), None) => Ok((collection, rkey)),
        _ => Err(PathError::NotARecord),
    }
}

/// A query is `?` and at least one character other than `#`, a fragment `#` and at least one character.
fn check_suffix(suffix: &str) -> Result<(), PathError> {
    let (query, fragment) = match suffix.split_once('#') {
        Some((query, fragment)) => (query, Some(fragment)),
        None => (suffix, None),
    };
    if query == "?" || fragment == Some("") { Err(PathError::NotInUri) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn collection_and_rkey() {
        let good = [
            ("app.bsky.feed.post/3k", ("app.bsky.feed.post", "3k")),
            ("a.b.c//d", ("a.b.c", "d")),
            ("a.b.c/d/", ("a.b.c", "d")),
            ("a.b.c/d?x=1", ("a.b.c", "d")),
            ("a.b.c/d#frag", ("a.b.c", "d")),
            ("a.b.c/d?x#f#g", ("a.b.c", "d")),
            ("a.b.c/é", ("a.b.c", "é")),
        ];
        for (path, expected) in good {
            assert_eq!(split_path(DID, path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn what_is_no_record_path_is_refused() {
        let bad = [
            ("", PathError::NotARecord),
            ("nopath", PathError::NotARecord),
            ("a.b.c/", PathError::NotARecord),
            ("a.b.c/d/e", PathError::NotARecord),
            ("a.b.c?/d", PathError::NotARecord),
            ("a.b.c/d e", PathError::NotInUri),
            ("a.b.c/d\u{a0}", PathError::NotInUri),
            ("a.b.c/d\u{feff}", PathError::NotInUri),
            ("a.b.c/d?", PathError::NotInUri),
            ("a.b.c/d#", PathError::NotInUri),
            ("a.b.c/d?#f", PathError::NotInUri),
        ];
        for (path, error) in bad {
            assert_eq!(split_path(DID, path), Err(error), "{path}");
        }
    }

    #[test]
    fn accounts_must_be_dids() {
        for did in ["", "did:plc:", "alice.test"] {
            assert_eq!(split_path(did, "a.b.c/d"), Err(PathError::NotADid), "{did}");
        }
    }
}
