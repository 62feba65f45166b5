//! What was expected beside what stands.

use rsky_common::admin::shown;

use super::expected::{Beside, Cells, Form, Place, clock_column, own_place, own_row, sort_at};
use super::item::Expected;
use super::stands::{Asked, Stands};
use super::tables::Recorded;
use crate::engine::{Change, Content, SeenCommit, Statements};
use crate::labels::LabelRow;
use crate::schema::RevMode;
use crate::text::json::Json;

/// Most bytes of a value that are told.
const SHOWN: usize = 160;

/// What differs in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A row that ours would have is not there.
    Missing,
    /// A row stands that ours would not have.
    TooMuch,
    /// A column of a row.
    Column(&'static str),
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) table: &'static str,
    pub(super) what: What,
    /// Fit for a terminal, as the other.
    pub(super) ours: String,
    pub(super) stands: String,
}

/// What is no difference, and told all the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// A row says another time of indexing: that of another entry of the record.
    pub(super) times: bool,
    /// The JSON says the same in another spelling, or is that of another entry of the same version.
    pub(super) spelling: bool,
    /// A record that was never there was deleted: ours would leave a tombstone.
    pub(super) tombstone: bool,
}

/// What came of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Same(Notes),
    /// The tables are further than the entry.
    Superseded,
    /// Not valid by us, and not in the tables either.
    RefusedByBoth,
    Differs(Vec<Difference>),
    /// The database does not take the question.
    Failed(String),
}

/// Judges the item at a place of what was looked at.
pub(super) fn judge(
    stands: &Stands,
    statements: &Statements,
    besides: &[Beside],
    at: usize,
    asked: &Asked,
) -> Verdict {
    let mut judge = Judge { stands, statements, asked, notes: Notes::default(), found: Vec::new() };
    let superseded = match &asked.item.expected {
        Expected::Record(work) => match &work.change {
            Some(change) if judge.record(besides, change) => true,
            _ => {
                work.seen.iter().for_each(|commit| judge.commit(commit));
                false
            }
        },
        Expected::Refused { uri, cid, why } => return judge.refused(uri, cid, why),
        Expected::Commit(commit) => {
            judge.commit(commit);
            false
        }
        Expected::Status { did, status } => judge.status(did, *status),
        Expected::Label(label) => judge.label(at, label),
    };
    let Judge { notes, found, .. } = judge;
    match (found.is_empty(), superseded || asked.gone) {
        (true, false) => Verdict::Same(notes),
        (_, true) => Verdict::Superseded,
        (false, false) => Verdict::Differs(found),
    }
}

struct Judge<'a> {
    stands: &'a Stands,
    statements: &'a Statements,
    asked: &'a Asked,
    notes: Notes,
    found: Vec<Difference>,
}

impl Judge<'_> {
    fn differs(&mut self, table: &'static str, what: What, ours: Option<&str>, stands: Option<&str>) {
        let told = |text: Option<&str>| text.map_or_else(|| "nothing".to_owned(), |text| shown(text, SHOWN));
        self.found.push(Difference { table, what, ours: told(ours), stands: told(stands) });
    }

    /// Whether the account has a later commit by the tables.
    fn is_behind(&self, change: &Change) -> bool {
        let rev = self.stands.commits.get(&change.did).and_then(|(_, rev)| rev.as_deref());
        rev.is_some_and(|rev| rev > change.rev.as_str())
    }

    /// Whether what stands of a record is of a later commit.
    fn is_newer(&self, recorded: &Recorded, change: &Change) -> bool {
        match self.statements.schema().rev() {
            RevMode::None => self.is_behind(change),
            RevMode::NotNull | RevMode::Nullable => {
                recorded.rev.as_deref().is_some_and(|rev| rev > change.rev.as_str())
            }
        }
    }

    /// `true`: the tables are further.
    fn record(&mut self, besides: &[Beside], change: &Change) -> bool {
        match (change.content(), self.stands.records.get(&change.uri)) {
            (Some(content), None) => {
                // Where a deletion leaves nothing, a later commit may have been one.
                let leaves_nothing = self.statements.schema().rev() != RevMode::NotNull;
                let may_be_gone = self.asked.blind && !self.stands.commits.contains_key(&change.did);
                if leaves_nothing && self.is_behind(change) || may_be_gone {
                    return true;
                }
                self.differs("record", What::Missing, Some(&content.cid), None);
            }
            (Some(content), Some(recorded)) if recorded.live && recorded.cid == content.cid => {
                self.recorded(change, content, recorded);
                self.own(change, content);
                if self.found.iter().all(|difference| difference.what != What::Missing) {
                    self.beside(besides, change, content);
                }
                if self.stands.hidden.contains(&change.uri) {
                    self.differs("post", What::Column("invalidReplyRoot"), None, Some("true"));
                }
            }
            (_, Some(recorded)) if self.is_newer(recorded, change) => return true,
            (Some(content), Some(recorded)) => {
                let stands = if recorded.live { recorded.cid.as_str() } else { "deleted" };
                self.differs("record", What::Column("cid"), Some(&content.cid), Some(stands));
            }
            (None, Some(recorded)) if recorded.live => {
                self.differs("record", What::TooMuch, None, Some(&recorded.cid));
            }
            (None, recorded) => {
                self.notes.tombstone =
                    recorded.is_none() && self.statements.schema().rev() == RevMode::NotNull;
                self.deleted(besides, change);
            }
        }
        false
    }

    fn recorded(&mut self, change: &Change, content: &Content, recorded: &Recorded) {
        if recorded.did != change.did {
            self.differs("record", What::Column("did"), Some(&change.did), Some(&recorded.did));
        }
        if recorded.json != content.json {
            // The same may be written in several ways; another entry of this version may have had it in one of them.
            let of_another = recorded.indexed_at != change.time;
            let ours = Json::parse(&content.json).ok();
            if of_another || ours.is_some() && ours == Json::parse(&recorded.json).ok() {
                self.notes.spelling = true;
            } else {
                let (ours, stands) = around_first_difference(&content.json, &recorded.json);
                self.differs("record", What::Column("json"), Some(ours), Some(stands));
            }
        }
        let rev = recorded.rev.as_deref();
        if self.statements.schema().rev() != RevMode::None && rev.is_none_or(|rev| rev < change.rev.as_str())
        {
            self.differs("record", What::Column("rev"), Some(&change.rev), rev);
        }
        self.notes.times |= recorded.indexed_at != change.time;
    }

    /// The row of the collection's table.
    fn own(&mut self, change: &Change, content: &Content) {
        let Some(place) = own_place(change.collection, self.statements) else { return };
        let ours = own_row(change, content, self.statements);
        let stands = self.stands.own_row(change.collection, &change.uri);
        match (ours, stands) {
            (None, None) => {}
            (None, Some(_)) => self.differs(place.table, What::TooMuch, None, Some(&change.uri)),
            (Some(ours), Some(stands)) => {
                let skipped = clock_column(change, content);
                self.columns(&place, &ours, stands, skipped);
            }
            // Another record says the same, and has the row.
            (Some(_), None) if self.stands.waiting.contains_key(&change.uri) => {}
            (Some(_), None) => match self.stands.holders.get(&change.uri) {
                Some(holder) => self.differs("duplicate_record", What::Missing, Some(holder), None),
                None => self.differs(place.table, What::Missing, Some(&content.cid), None),
            },
        }
    }

    fn beside(&mut self, besides: &[Beside], change: &Change, content: &Content) {
        let time = self.indexed_at(change);
        for (beside, found) in besides.iter().zip(&self.stands.beside) {
            if !(beside.has)(change.collection) {
                continue;
            }
            let mut ours = (beside.rows)(change, content);
            let found = found.get(&change.uri).map(Vec::as_slice).unwrap_or_default();
            if let (Some(time), Some(at)) = (&time, sort_column(&beside.place)) {
                for cells in &mut ours {
                    if let Some(cell) = cells.get_mut(at) {
                        *cell = Some(sort_at(change, content, time));
                    }
                }
            }
            if found.is_empty() {
                ours.retain(|cells| self.stays(beside, change, cells, time.as_deref()));
            }
            self.rows(&beside.place, &ours, found);
        }
    }

    /// When the tables say that the record was indexed.
    fn indexed_at(&self, change: &Change) -> Option<String> {
        let place = own_place(change.collection, self.statements)?;
        let at = place.columns.iter().position(|(_, form)| *form == Form::Time)?;
        self.stands.own_row(change.collection, &change.uri)?.get(at)?.clone()
    }

    /// Whether a row that is not there should be: it goes with the post that it is about, and when that is replaced.
    fn stays(&self, beside: &Beside, change: &Change, cells: &Cells, time: Option<&str>) -> bool {
        let subject = beside.goes_with.and_then(|at| cells.get(at)?.as_deref());
        let Some(subject) = subject.filter(|subject| *subject != change.uri) else { return true };
        let time = time.unwrap_or(&change.time);
        self.stands.subjects.get(subject).is_some_and(|indexed_at| indexed_at.as_str() <= time)
    }

    fn deleted(&mut self, besides: &[Beside], change: &Change) {
        if let Some(table) = change.collection.table
            && self.stands.own_row(change.collection, &change.uri).is_some()
        {
            self.differs(table.name, What::TooMuch, None, Some(&change.uri));
        }
        if let Some(holder) = self.stands.waiting.get(&change.uri) {
            self.differs("duplicate_record", What::TooMuch, None, Some(holder));
        }
        for (beside, found) in besides.iter().zip(&self.stands.beside) {
            if (beside.has)(change.collection)
                && let Some(found) = found.get(&change.uri)
            {
                self.rows(&beside.place, &[], found);
            }
        }
    }

    /// The rows of a record in a table, each beside its like.
    fn rows(&mut self, place: &Place, ours: &[Cells], stands: &[Cells]) {
        let is_same = |ours: &Cells, stands: &Cells| !place.several || ours.first() == stands.first();
        for cells in ours {
            match stands.iter().find(|other| is_same(cells, other)) {
                Some(other) => self.columns(place, cells, other, None),
                None => self.differs(place.table, What::Missing, Some(&told(cells)), None),
            }
        }
        for cells in stands.iter().filter(|cells| ours.iter().all(|other| !is_same(other, cells))) {
            self.differs(place.table, What::TooMuch, None, Some(&told(cells)));
        }
    }

    fn columns(&mut self, place: &Place, ours: &Cells, stands: &Cells, skipped: Option<&str>) {
        for ((name, form), (ours, stands)) in place.columns.iter().zip(ours.iter().zip(stands)) {
            if ours == stands || skipped == Some(*name) {
                continue;
            }
            let is_same_json = || {
                let (Some(ours), Some(stands)) = (ours, stands) else { return false };
                Json::parse(ours).ok().is_some_and(|ours| Json::parse(stands).ok() == Some(ours))
            };
            match form {
                Form::Time => self.notes.times = true,
                Form::Json if is_same_json() => {}
                Form::Json | Form::Text => {
                    let (column, ours, stands) = (What::Column(name), ours.as_deref(), stands.as_deref());
                    self.differs(place.table, column, ours, stands);
                }
            }
        }
    }

    fn refused(mut self, uri: &str, cid: &str, why: &str) -> Verdict {
        let stands = self.stands.records.get(uri).is_some_and(|stands| stands.live && stands.cid == *cid);
        if !stands {
            return Verdict::RefusedByBoth;
        }
        self.differs("record", What::TooMuch, Some(&format!("nothing, since {why}")), Some(cid));
        Verdict::Differs(self.found)
    }

    fn commit(&mut self, commit: &SeenCommit) {
        match self.stands.commits.get(&commit.did) {
            // It may have gone with its account.
            None if self.asked.blind => {}
            None => self.differs("actor_sync", What::Missing, Some(&commit.rev), None),
            Some((cid, Some(rev))) if *rev == commit.rev => {
                if *cid != commit.commit {
                    self.differs("actor_sync", What::Column("commitCid"), Some(&commit.commit), Some(cid));
                }
            }
            Some((_, Some(rev))) if *rev > commit.rev => {}
            Some((_, rev)) => {
                self.differs("actor_sync", What::Column("repoRev"), Some(&commit.rev), rev.as_deref());
            }
        }
    }

    /// `true`: another may have come since.
    fn status(&mut self, did: &str, status: Option<&'static str>) -> bool {
        match self.stands.statuses.get(did) {
            None if status.is_none() => {}
            None => self.differs("actor", What::Missing, status, None),
            Some(stands) if stands.as_deref() == status => {}
            Some(stands) => {
                self.differs("actor", What::Column("upstreamStatus"), status, stands.as_deref());
            }
        }
        self.asked.blind && !self.found.is_empty()
    }

    /// `true`: a newer one stands.
    fn label(&mut self, at: usize, label: &LabelRow) -> bool {
        let Some(stands) = self.stands.labels.get(&at) else {
            self.differs("label", What::Missing, Some(&label.cts), None);
            return false;
        };
        if stands.is_newer {
            return true;
        }
        if stands.is_older {
            self.differs("label", What::Column("cts"), Some(&label.cts), Some(&stands.cts));
            return false;
        }
        let flag = |set| if set { "true" } else { "false" };
        if stands.neg != label.neg {
            self.differs("label", What::Column("neg"), Some(flag(label.neg)), Some(flag(stands.neg)));
        }
        let schema = self.statements.schema();
        if schema.label_expiry() && stands.exp != label.exp {
            self.differs("label", What::Column("exp"), label.exp.as_deref(), stands.exp.as_deref());
        }
        let sig =
            label.sig.as_deref().map(|sig| sig.iter().take(1000).map(|byte| format!("{byte:02x}")).collect());
        if schema.label_signatures() && stands.sig != sig {
            self.differs("label", What::Column("sig"), sig.as_deref(), stands.sig.as_deref());
        }
        false
    }
}

fn sort_column(place: &Place) -> Option<usize> {
    place.columns.iter().position(|(name, _)| *name == "sortAt")
}

fn told(cells: &Cells) -> String {
    cells.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(" ")
}

/// Two texts from a little before the place where they part.
fn around_first_difference<'t>(ours: &'t str, stands: &'t str) -> (&'t str, &'t str) {
    const BEFORE: usize = 40;
    let parts = ours.bytes().zip(stands.bytes()).take_while(|(a, b)| a == b).count();
    let from = |text: &'t str| {
        text.get(text.floor_char_boundary(parts.saturating_sub(BEFORE))..).unwrap_or_default()
    };
    (from(ours), from(stands))
}
