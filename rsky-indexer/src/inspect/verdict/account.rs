//! An account: whether the tables know of it what its PDS says.

use super::way::on_its_way;
use super::{State, Verdict, text, verdict};
use crate::inspect::facts::{Asked, Facts, Hosted, Tables};

/// Judges an account.
pub(super) fn judge(facts: &Facts, tables: &Tables) -> Verdict {
    let did = &facts.did;
    let status = tables.actor.as_ref().and_then(|actor| text(Some(actor), "upstreamStatus"));
    let way = on_its_way(facts, &|_| true);
    let pds = match &facts.pds {
        Asked::Known(pds) => pds,
        Asked::Unknown { error } => {
            let known = if tables.actor.is_some() {
                "The tables know the account"
            } else {
                "The tables do not know it"
            };
            return verdict(State::Unknown, format!("{known}; who hosts it cannot be told: {error}"));
        }
    };
    match &pds.account {
        Hosted::Unknown { error } => way.unwrap_or_else(|| {
            verdict(State::Unknown, format!("Its PDS {} does not say whether it has it: {error}", pds.host))
        }),
        Hosted::Gone if tables.actor.is_none() && tables.records.is_empty() => {
            verdict(State::InOrder, "Its PDS does not have it, nor do the tables.")
        }
        Hosted::Gone => way.unwrap_or_else(|| {
            verdict(
                State::Amiss,
                "Its PDS does not have it any more, and the tables still do: the event of its deletion was lost, or has not \
                 come. It goes with the next account event that says deleted.",
            )
        }),
        Hosted::Inactive { status: said } if status == Some(said.as_str()) => {
            verdict(State::InOrder, format!("It is {said}, and the tables know: nothing of it is shown."))
        }
        Hosted::Inactive { status: said } => way.unwrap_or_else(|| {
            verdict(
                State::Amiss,
                format!(
                    "Its PDS says it is {said}; the tables say {}. That comes with an account event of the relay, and none \
                     waits.",
                    status.unwrap_or("nothing of the kind")
                ),
            )
        }),
        Hosted::Active { rev } => active(facts, tables, rev.as_deref(), status, way),
    }
    .or_command(did)
}

impl Verdict {
    /// Where nothing else is to be said, a look at everything that is in order.
    fn or_command(mut self, did: &str) -> Self {
        if self.state == State::InOrder && self.command.is_none() {
            self.command = Some(format!("indexer verify {did}   (compares record by record)"));
        }
        self
    }
}

fn active(
    facts: &Facts,
    tables: &Tables,
    rev: Option<&str>,
    status: Option<&str>,
    way: Option<Verdict>,
) -> Verdict {
    let enqueue = format!("backfiller enqueue --priority {}", facts.did);
    let Some(actor) = &tables.actor else {
        return way.unwrap_or_else(|| {
            let records: i64 = tables.records.iter().map(|(_, count)| count).sum();
            let says = match records {
                0 => "The tables know nothing of it, and nothing of it waits.".to_owned(),
                some => format!("It has no row in actor, so none of its {some} records is shown."),
            };
            verdict(State::Amiss, says).by(enqueue)
        });
    };
    if let Some(status) = status {
        return way.unwrap_or_else(|| {
            verdict(
                State::Amiss,
                format!(
                    "Its PDS says it is active; the tables say {status}, so it is not shown. That ends with an account event of \
                     the relay, and none waits."
                ),
            )
        });
    }
    if text(Some(actor), "takedownRef").is_some() {
        return verdict(
            State::InOrder,
            "It is taken down by moderation (actor.takedownRef): it is not shown.",
        );
    }
    match (rev, tables.rev.as_deref()) {
        (Some(rev), Some(seen)) if seen >= rev => {}
        (None, Some(_)) => {}
        (rev, seen) => {
            return way.unwrap_or_else(|| {
                let (rev, seen) = (rev.unwrap_or("not known"), seen.unwrap_or("none"));
                let says = format!(
                    "The last commit that was indexed is {seen}, its PDS is at {rev}, and nothing of it waits: commits were \
                     lost, or are still to come from the relay."
                );
                verdict(State::Amiss, says).by(enqueue)
            });
        }
    }
    if text(Some(actor), "handle").is_none() {
        return verdict(
            State::Amiss,
            "It is indexed up to its last commit; its handle leads nowhere (actor.handle is empty), so readers show it as \
             invalid. It is resolved again with its next identity, account or profile event.",
        );
    }
    way.filter(|way| way.state == State::Amiss)
        .unwrap_or_else(|| verdict(State::InOrder, "It is indexed up to its last commit."))
}
