//! The string formats: how each is checked and what the reference calls it.

use rsky_common::atproto::cid_text::check_cid;
use rsky_common::atproto::syntax::{is_did, is_handle, is_nsid, is_uri};

use super::language::is_language;
use super::schema::Format;
use crate::text::at_uri::is_valid_at_uri;
use crate::text::datetime::is_valid_datetime;

impl Format {
    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Format::AtUri => is_valid_at_uri(text),
            Format::Cid => check_cid(text).is_ok(),
            Format::Datetime => is_valid_datetime(text),
            Format::Did => is_did(text),
            Format::Handle => is_handle(text),
            Format::Language => is_language(text),
            Format::Nsid => is_nsid(text),
            Format::Uri => is_uri(text),
        }
    }

    pub(super) fn noun(self) -> &'static str {
        match self {
            Format::AtUri => "a valid at-uri",
            Format::Cid => "a cid string",
            Format::Datetime => "an valid atproto datetime (both RFC-3339 and ISO-8601)",
            Format::Did => "a valid did",
            Format::Handle => "a valid handle",
            Format::Language => "a well-formed BCP 47 language tag",
            Format::Nsid => "a valid nsid",
            Format::Uri => "a uri",
        }
    }
}
