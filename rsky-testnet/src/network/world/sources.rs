//! Who answers over HTTP for a world, and what each knows.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::super::directory::{RepoAnswer, Source};
use super::super::wrong::{Asked, Asker, Wrong};
use super::stage::Stage;

/// What the directory and a relay know: everything.
pub(super) struct Everywhere {
    pub(super) stage: Arc<Stage>,
}

/// What one host knows: its own accounts.
pub(super) struct Host {
    pub(super) stage: Arc<Stage>,
    pub(super) number: usize,
}

/// What the host of a did:web knows: its document.
pub(super) struct Web {
    pub(super) stage: Arc<Stage>,
}

impl Source for Everywhere {
    fn document(&self, did: &str) -> Option<Value> {
        self.stage.document(did).filter(|_| !did.starts_with("did:web:"))
    }

    fn handle(&self, handle: &str) -> Option<String> {
        self.stage.handle(handle)
    }

    fn repo(&self, did: &str) -> Option<RepoAnswer> {
        self.stage.repo(did, None)
    }

    fn wrong(&self, asked: Asked<'_>, by: Asker) -> Option<Wrong> {
        self.stage.wrong(asked, by)
    }
}

impl Source for Host {
    fn document(&self, _did: &str) -> Option<Value> {
        None
    }

    fn handle(&self, handle: &str) -> Option<String> {
        self.stage.handle(handle)
    }

    fn repo(&self, did: &str) -> Option<RepoAnswer> {
        self.stage.repo(did, Some(self.number))
    }
}

impl Source for Web {
    fn document(&self, did: &str) -> Option<Value> {
        self.stage.document(did).filter(|_| did.starts_with("did:web:"))
    }

    fn handle(&self, _handle: &str) -> Option<String> {
        None
    }

    fn repo(&self, _did: &str) -> Option<RepoAnswer> {
        None
    }

    fn wrong(&self, asked: Asked<'_>, by: Asker) -> Option<Wrong> {
        self.stage.wrong(asked, by)
    }
}

impl fmt::Debug for Everywhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the world")
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.number)
    }
}

impl fmt::Debug for Web {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hosts of did:web")
    }
}
