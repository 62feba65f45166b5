//! The JSON of one stream entry, exact in size.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use redis::{RedisWrite, ToRedisArgs};

/// What an allocation takes beside its bytes, about.
const PER_ALLOCATION: usize = 16;

/// The JSON of one stream entry. Entries of the same record may share its text, so that a large record that is named
/// hundreds of times is in memory once.
#[derive(Clone)]
pub struct Entry {
    /// All of it, or what stands around the record.
    text: Box<str>,
    record: Option<Shared>,
}

#[derive(Clone)]
struct Shared {
    /// Where in the entry's own text it stands.
    at: usize,
    text: Arc<str>,
}

impl Entry {
    /// An entry whose record is shared: `around` is the entry without it, `at` the byte at which it stands (the end, if
    /// `around` is shorter).
    pub fn around(around: &str, at: usize, record: Arc<str>) -> Self {
        let at = around.floor_char_boundary(at);
        Self { text: around.into(), record: Some(Shared { at, text: record }) }
    }

    /// Its pieces in order.
    fn pieces(&self) -> [&str; 3] {
        let Some(Shared { at, text }) = &self.record else { return [&self.text, "", ""] };
        let (before, after) = self.text.split_at_checked(*at).unwrap_or((&self.text, ""));
        [before, text, after]
    }

    /// Bytes of the JSON.
    pub fn len(&self) -> usize {
        self.pieces().map(str::len).into_iter().fold(0, usize::saturating_add)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The end of the JSON: what follows the record if that is shared, otherwise all of it.
    pub fn end(&self) -> &str {
        let [all, _, after] = self.pieces();
        if self.record.is_some() { after } else { all }
    }

    /// Bytes of memory that go when it is dropped; a shared record is not among them.
    pub fn own_bytes(&self) -> usize {
        size_of::<Self>().saturating_add(heap_bytes(self.text.len()))
    }
}

/// Bytes of memory that an allocation of so many takes, about.
pub fn heap_bytes(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes.saturating_add(PER_ALLOCATION) }
}

impl From<&str> for Entry {
    fn from(text: &str) -> Self {
        Self { text: text.into(), record: None }
    }
}

impl From<String> for Entry {
    fn from(text: String) -> Self {
        Self { text: text.into_boxed_str(), record: None }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces().into_iter().try_for_each(|piece| f.write_str(piece))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.pieces().into_iter().flat_map(str::bytes).eq(other.pieces().into_iter().flat_map(str::bytes))
    }
}

impl Eq for Entry {}

impl PartialEq<str> for Entry {
    fn eq(&self, other: &str) -> bool {
        self.pieces().into_iter().flat_map(str::bytes).eq(other.bytes())
    }
}

impl PartialEq<&str> for Entry {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl PartialEq<String> for Entry {
    fn eq(&self, other: &String) -> bool {
        self == other.as_str()
    }
}

impl ToRedisArgs for Entry {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut argument = out.writer_for_next_arg();
        for piece in self.pieces() {
            // Into memory: it does not fail.
            let _written = argument.write_all(piece.as_bytes()).is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_whole_entries_read_alike() {
        let whole = Entry::from(r#"{"record":{"a":1},"rev":"3k"}"#);
        let shared = Entry::around(r#"{"record":,"rev":"3k"}"#, 10, r#"{"a":1}"#.into());
        assert_eq!(shared, whole);
        assert_eq!(shared.to_string(), whole.to_string());
        assert_eq!(shared.len(), whole.len());
        assert_eq!((shared.end(), whole.end()), (r#","rev":"3k"}"#, r#"{"record":{"a":1},"rev":"3k"}"#));
        assert_eq!(shared.to_redis_args(), whole.to_redis_args());
        let mut command = redis::cmd("XADD");
        command.arg(&shared).arg("after");
        assert!(String::from_utf8_lossy(&command.get_packed_command()).contains(&format!("\r\n{whole}\r\n")));
    }

    #[test]
    fn a_place_beyond_the_text_is_its_end() {
        assert_eq!(Entry::around("é", 1, "x".into()), "xé");
        assert_eq!(Entry::around("é", 9, "x".into()), "éx");
    }

    #[test]
    fn sizes_are_those_of_the_text() {
        let (whole, nothing) = (Entry::from(r#"{"a":1}"#), Entry::from(""));
        assert_eq!((whole.len(), whole.is_empty()), (7, false));
        assert_eq!((nothing.len(), nothing.is_empty()), (0, true));
        let shared = Entry::around("{}", 1, "x".repeat(1000).into());
        assert_eq!(shared.len(), 1002);
        // The shared text goes with the last entry that has it.
        assert_eq!(shared.own_bytes(), size_of::<Entry>() + 2 + PER_ALLOCATION);
        assert_eq!([0, 1].map(heap_bytes), [0, 1 + PER_ALLOCATION]);
    }

    #[test]
    fn entries_of_other_texts_are_others() {
        let (entry, text) = (Entry::from("{}"), "{}".to_owned());
        assert!(entry == *text.as_str() && entry == text.as_str() && entry == text);
        assert_ne!(entry, Entry::from("{ }"));
        let other = "{ }".to_owned();
        assert!(entry != *other.as_str() && entry != other.as_str() && entry != other);
    }
}
