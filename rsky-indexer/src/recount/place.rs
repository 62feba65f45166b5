//! Where a recount of everything stands, as `--resume-after` takes it.

use std::fmt;
use std::str::FromStr;

use super::tables::STAGES;

/// A stage, and the last key of it that is done. In text `<table>:<key>`: the counters' table, or for subjects without
/// a row of it the table and column that names them (`like.subject:at://…`). An empty key is the stage's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    stage: usize,
    key: String,
}

impl Place {
    pub(super) fn new(stage: usize, key: &str) -> Self {
        Self { stage, key: key.to_owned() }
    }

    pub(super) fn stage(&self) -> usize {
        self.stage
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = STAGES.get(self.stage).map_or("", |stage| stage.name());
        write!(f, "{name}:{}", self.key)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, key) = text.split_once(':').unwrap_or((text, ""));
        match STAGES.iter().position(|stage| stage.name() == name) {
            Some(stage) if text.contains(':') => Ok(Self { stage, key: key.to_owned() }),
            _ => {
                let names: Vec<&str> = STAGES.iter().map(super::tables::Stage::name).collect();
                Err(format!(
                    "expected <table>:<key>, as printed by a recount that was stopped; <table> is one of {}",
                    names.join(", ")
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in
            ["post_agg:at://did:plc:a/app.bsky.feed.post/1", "follow.subjectDid:did:plc:a", "like.subject:"]
        {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_told_what_is() {
        for text in ["", "post_agg", "posts:at://x", "at://did:plc:a/app.bsky.feed.post/1"] {
            let said = text.parse::<Place>().unwrap_err();
            assert!(said.contains("<table>:<key>") && said.contains("follow.subjectDid"), "{text}: {said}");
        }
    }
}
