//! Which rows are recounted, from the command line.

use rsky_common::atproto::syntax::is_did;

use super::place::Place;

/// The arguments of `indexer recount`.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// An account whose followers, follows and posts are counted (its row of profile_agg). May be repeated.
    #[arg(long = "did", value_name = "DID", value_parser = did)]
    dids: Vec<String>,
    /// A post, or whatever was liked or reposted, whose likes, reposts, replies and quotes are counted (its row of
    /// post_agg). May be repeated.
    #[arg(long = "uri", value_name = "AT-URI", value_parser = uri)]
    uris: Vec<String>,
    /// Every row of both tables, and those that are missing.
    #[arg(long, conflicts_with_all = ["dids", "uris"])]
    all: bool,
    /// Goes on where a recount of everything was stopped, with what it printed then.
    #[arg(long, value_name = "TABLE:KEY")]
    resume_after: Option<Place>,
}

/// What is recounted.
#[derive(Debug, PartialEq, Eq)]
pub enum Selection {
    /// The rows of some accounts and some records, each once and in order.
    Some {
        /// Of `profile_agg`.
        dids: Vec<String>,
        /// Of `post_agg`.
        uris: Vec<String>,
    },
    /// Every row.
    All {
        /// Where it goes on, if it was stopped.
        resume_after: Option<Place>,
    },
}

impl Arguments {
    /// What the arguments select.
    ///
    /// # Errors
    /// They select nothing.
    pub fn selection(self) -> Result<Selection, String> {
        if self.all {
            return Ok(Selection::All { resume_after: self.resume_after });
        }
        if self.resume_after.is_some() {
            return Err("--resume-after goes with --all".to_owned());
        }
        if self.dids.is_empty() && self.uris.is_empty() {
            return Err("nothing to recount: say --did, --uri (each as often as needed) or --all".to_owned());
        }
        Ok(Selection::Some { dids: once(self.dids), uris: once(self.uris) })
    }
}

fn once(mut keys: Vec<String>) -> Vec<String> {
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn did(text: &str) -> Result<String, String> {
    if is_did(text) { Ok(text.to_owned()) } else { Err("expected a DID, such as did:plc:…".to_owned()) }
}

fn uri(text: &str) -> Result<String, String> {
    let is_uri = text.starts_with("at://did:") && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_uri {
        Ok(text.to_owned())
    } else {
        Err("expected a record's URI with its DID, such as at://did:plc:…/app.bsky.feed.post/…".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn selected(arguments: &[&str]) -> Result<Selection, String> {
        let words = ["recount"].iter().chain(arguments);
        Command::try_parse_from(words).map_err(|error| error.to_string())?.arguments.selection()
    }

    #[test]
    fn keys_are_taken_once_and_in_order() {
        let some = selected(&["--did", "did:plc:b", "--did", "did:plc:a", "--did", "did:plc:b"]).unwrap();
        let dids = vec!["did:plc:a".to_owned(), "did:plc:b".to_owned()];
        assert_eq!(some, Selection::Some { dids, uris: Vec::new() });
    }

    #[test]
    fn everything_may_begin_somewhere() {
        let all = selected(&["--all", "--resume-after", "like.subject:at://did:plc:a/x/1"]).unwrap();
        assert_eq!(all, Selection::All { resume_after: "like.subject:at://did:plc:a/x/1".parse().ok() });
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (arguments, reason) in [
            (&[][..], "--did, --uri (each as often as needed) or --all"),
            (&["--all", "--did", "did:plc:a"], "cannot be used with"),
            (&["--did", "did:plc:a", "--resume-after", "post_agg:x"], "--all"),
            (&["--did", "alice.example"], "expected a DID"),
            (&["--uri", "at://alice.example/app.bsky.feed.post/1"], "with its DID"),
            (&["--all", "--resume-after", "posts:x"], "<table>:<key>"),
        ] {
            let said = selected(arguments).unwrap_err();
            assert!(said.contains(reason), "{arguments:?}: {said}");
        }
    }
}
