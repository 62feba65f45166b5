//! What records and documents name things by.

use rsky_common::atproto::cid_text::check_cid;
use rsky_common::atproto::{syntax, tid};
use rsky_common::repo::VerifyingKey;
use rsky_indexer::text::at_uri::{AtUri, is_valid_at_uri};
use rsky_indexer::text::datetime::{epoch_millis, is_valid_datetime, normalize_datetime};

use crate::Target;
use crate::cost::Cost;

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// At-uris; DIDs, handles, NSIDs and TIDs by the way.
pub const AT_URI: Target = Target {
    name: "at_uri",
    seeds: || {
        texts(&[
            "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/3jzfcijpj2z2a",
            "at://alice.example.com/app.bsky.feed.like/self?a=b#/c",
            "at://did:web:example.com%3A8080",
            "did:plc:a/app.bsky.feed.post/1",
            "3jzfcijpj2z2a",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        is_valid_at_uri(text);
        if let Some(uri) = AtUri::parse(text) {
            let normal = uri.normalized();
            let again = AtUri::parse(&normal).map(|uri| uri.normalized());
            assert_eq!(again.as_deref(), Some(normal.as_str()), "{text:?}");
        }
        for is_one in [syntax::is_did, syntax::is_handle, syntax::is_nsid, syntax::is_uri] {
            is_one(text);
        }
        if tid::is_tid(text) {
            assert_eq!(tid::to_number(text).map(tid::of_number).as_deref(), Some(text));
        }
    },
    cost: Cost::of(20, 100),
};

/// Datetimes: what is stored is the form that it would be stored in again.
pub const DATETIME: Target = Target {
    name: "datetime",
    seeds: || {
        texts(&[
            "2024-01-01T00:00:00.000Z",
            "1985-04-12T23:20:50.123456789+01:30",
            "2024-02-30T24:00:00-00:00",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "2024-1-1",
            "+275760-09-13T00:00:00.000Z",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        is_valid_datetime(text);
        let normal = normalize_datetime(text).into_owned();
        assert_eq!(normalize_datetime(&normal), normal, "{text:?}");
        if let Some(millis) = epoch_millis(text) {
            assert_eq!(epoch_millis(&normal), Some(millis), "{text:?} {normal}");
        }
    },
    cost: Cost::of(20, 100),
};

/// CIDs as text: taken and refused as by the library that others use.
pub const CID: Target = Target {
    name: "cid",
    seeds: || {
        texts(&[
            "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq",
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
            "zdpuAyvkgEDQm9TenwGkd5eNaosSxjgEYd8QatfPetgB1CdEZ",
            "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        // The library also takes other bases, capitals, and what comes after the end; what it would write is one of ours.
        if let Ok(taken) = cid::Cid::try_from(text)
            && taken.to_string() == text
            && text.len() < 1000
        {
            assert_eq!(check_cid(text), Ok(()), "{text:?}");
        }
    },
    cost: Cost::of(20, 100),
};

/// Keys of documents.
pub const KEY: Target = Target {
    name: "key",
    seeds: || {
        texts(&[
            "zQ3shQo6TF2moaqMTrUZEM1jeuYRQXeHEx4evX9751y2qPqRA",
            "zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo",
        ])
    },
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        drop(VerifyingKey::from_multikey(text));
    },
    cost: Cost::of(40, 400),
};
