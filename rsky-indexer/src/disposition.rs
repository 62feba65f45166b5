//! Whose fault an error of the database is, and what to do about it: one table.
//!
//! An error is sorted by its type and SQLSTATE into a [`Condition`], never by its text; what follows from each is one
//! `match` without a catch-all ([`Condition::ruling`]). **Only what cannot be anything but the entry's own fault is
//! buried.** A table that is gone, a column renamed, a right taken away, a session that is not what it was: good entries
//! fail for all of these, so they are waited out. What nobody foresaw is neither buried nor waited for by everybody:
//! see [`Act::SetApart`].

use crate::engine::EngineError;

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The same batch again on a new connection, after a pause, for as long as it takes. Not ready meanwhile.
    Wait,
    /// The same batch again, at once; after a few times as [`Self::Wait`].
    Again,
    /// Find out which entries need what somebody holds, and set them aside.
    Locked,
    /// The halves, one after the other; a single entry as [`Self::Wait`], and after some tries as [`Self::SetApart`].
    Halve,
    /// A bounded number of tries on new connections; then the halves, until the entries are found that fail by themselves.
    /// These are set aside and tried again now and then: nothing else waits for them, and nothing of them is lost.
    SetApart,
    /// The halves, until the entries are found that are refused. These become dead letters.
    Bury,
}

/// Who is told, beside the metric of retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nobody: it happens on good days.
    Nobody,
    /// Whoever looks at readiness and the log.
    Operator,
    /// Whoever looks at the dead letters.
    DeadLetter,
}

/// What to do about a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// What the caller does next.
    pub act: Act,
    /// Who is told.
    pub told: Told,
    /// What it means and what would help, for the operator; goes before the server's own words.
    pub advice: &'static str,
}

/// What an error of the database says about whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The connection is lost, or out of step.
    ConnectionLost,
    /// Out of connections, memory or disk.
    OutOfResources,
    /// The server stops, starts, or an operator has ended the session.
    ServerUnavailable,
    /// The server's own system fails.
    SystemFailure,
    /// A statement was cancelled: its time was over, or an operator did it.
    Cancelled,
    /// A lock was not to be had within the transaction's own limit.
    LockTimeout,
    /// An object is in use, or not in a state for this.
    ObjectNotReady,
    /// The transaction or the session is not in a state for this: read-only after a failover, aborted, ended.
    SessionState,
    /// What was prepared is not there any more, or somebody else's is there.
    PreparedStatement,
    /// The server does not let us in, or has no such database.
    LoginRefused,
    /// A right was taken away.
    NotPermitted,
    /// A table, a column, a schema or a type is not what it was at the start.
    SchemaChanged,
    /// Transactions met: one of them has to go again.
    Conflict,
    /// More than is done in one transaction.
    TooMuch,
    /// What an entry says cannot be stored: its values, its keys, its size.
    EntryRefused,
    /// A column that must have a value, and was not there at the start: no statement fills it.
    UnknownColumn,
    /// A server or a routine behind the server fails.
    BeyondTheServer,
    /// Nobody foresaw it: an internal error, a trigger of somebody's own, a state that is not in the table.
    Unforeseen,
}

impl Condition {
    /// Sorts an error.
    pub fn of(error: &EngineError) -> Self {
        match error {
            EngineError::Overtaken => Self::Conflict,
            EngineError::TooMuch => Self::TooMuch,
            EngineError::TooLong => Self::Cancelled,
            EngineError::Database(error) => Self::of_database(error),
        }
    }

    /// Sorts an error of opening a connection: no entry has a part in it.
    pub fn of_connecting(error: &sqlx::Error) -> Self {
        match Self::of_database(error) {
            Self::EntryRefused
            | Self::UnknownColumn
            | Self::Unforeseen
            | Self::Conflict
            | Self::Cancelled
            | Self::LockTimeout => Self::ConnectionLost,
            condition => condition,
        }
    }

    /// Sorts an error of the driver.
    pub fn of_database(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                error.code().map_or(Self::Unforeseen, |code| Self::of_sqlstate(&code))
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::PoolClosed => Self::ConnectionLost,
            // None was given back in time.
            sqlx::Error::PoolTimedOut => Self::OutOfResources,
            sqlx::Error::Encode(_) => Self::EntryRefused,
            // The driver may come to know more kinds.
            _ => Self::Unforeseen,
        }
    }

    /// Sorts a SQLSTATE: five letters and digits, of which the first two are its class.
    pub fn of_sqlstate(code: &str) -> Self {
        match code {
            "42501" => Self::NotPermitted,
            "42P05" => Self::PreparedStatement,
            "55P03" => Self::LockTimeout,
            "57014" => Self::Cancelled,
            // What must have a value is held against the catalogue at the start, and has one: somebody has added a column. The
            // others of class 23 refuse what an entry says (DECISIONS 31), also a check that somebody has added to that end.
            "23502" => Self::UnknownColumn,
            // A plan that was kept and does not fit its table any more is the commonest of its class.
            "0A000" => Self::SchemaChanged,
            _ => match code.get(..2) {
                Some("08") => Self::ConnectionLost,
                Some("53") => Self::OutOfResources,
                Some("57") => Self::ServerUnavailable,
                Some("58" | "F0") => Self::SystemFailure,
                Some("55") => Self::ObjectNotReady,
                Some("0B" | "24" | "25" | "2D" | "34" | "3B" | "72") => Self::SessionState,
                Some("26") => Self::PreparedStatement,
                Some("28" | "3D") => Self::LoginRefused,
                Some("0L" | "0P") => Self::NotPermitted,
                Some("42" | "3F") => Self::SchemaChanged,
                Some("40") => Self::Conflict,
                Some("21" | "22" | "23" | "54") => Self::EntryRefused,
                Some("HV") => Self::BeyondTheServer,
                _ => Self::Unforeseen,
            },
        }
    }

    /// The table.
    pub fn ruling(self) -> Ruling {
        let wait = |advice| Ruling { act: Act::Wait, told: Told::Operator, advice };
        match self {
            Self::ConnectionLost => wait("Postgres cannot be reached, or the connection was lost"),
            Self::OutOfResources => wait(
                "no connection, memory or disk is left: give Postgres (or DB_POOL_MAX_SIZE) more, or ask for less",
            ),
            Self::ServerUnavailable => wait("Postgres is stopping or starting, or has ended this session"),
            Self::SystemFailure => wait("Postgres' own files or settings fail: look at its log"),
            Self::Cancelled => Ruling {
                act: Act::Halve,
                told: Told::Operator,
                advice: "a statement took longer than it may, or was cancelled: if it stays so, look for what slows \
                         Postgres down",
            },
            Self::LockTimeout => Ruling {
                act: Act::Locked,
                told: Told::Operator,
                advice: "another session holds rows or a table: end it, or wait for it",
            },
            Self::ObjectNotReady => wait("something in Postgres is in use or not ready"),
            Self::SessionState => wait(
                "the session does not take what is sent: a server that is read-only after a failover, or a pooler \
                 that does not keep transactions together",
            ),
            Self::PreparedStatement => wait(
                "a prepared statement was lost or met another: there is a pooler, and from now on no statement stays \
                 prepared (as with DATABASE_STATEMENT_CACHE=0)",
            ),
            Self::LoginRefused => wait("Postgres does not let us in: check DATABASE_URL and the role"),
            Self::NotPermitted => wait("the role of DATABASE_URL lacks a right that it had: grant it again"),
            Self::SchemaChanged => wait(
                "a table, a column or a type is not what it was at the start: undo the change, or finish it and restart \
                 the indexer",
            ),
            Self::Conflict => Ruling {
                act: Act::Again,
                told: Told::Nobody,
                advice: "two transactions met; the batch is done again",
            },
            Self::TooMuch => Ruling {
                act: Act::Halve,
                told: Told::Nobody,
                advice: "more than is done in one transaction; the batch is halved",
            },
            Self::EntryRefused => Ruling {
                act: Act::Bury,
                told: Told::DeadLetter,
                advice: "Postgres cannot store what an entry says",
            },
            Self::UnknownColumn => Ruling {
                act: Act::SetApart,
                told: Told::Operator,
                advice: "a column that was not there at the start must have a value: give it a default, take it back, or \
                         restart the indexer to have the schema looked at",
            },
            Self::BeyondTheServer => wait("a server behind Postgres (a foreign table) fails"),
            Self::Unforeseen => Ruling {
                act: Act::SetApart,
                told: Told::Operator,
                advice: "Postgres fails in a way that nobody foresaw: look at its log, its triggers, its indexes",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes of Postgres 18, appendix A of its manual, that can end a statement.
    const CLASSES: &[&str] = &[
        "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25", "26",
        "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55",
        "57", "58", "72", "F0", "HV", "P0", "XX",
    ];

    #[test]
    fn only_four_classes_are_buried() {
        for class in CLASSES {
            for code in ["000", "001", "505", "P01", "P02", "P05"].map(|rest| format!("{class}{rest}")) {
                let act = Condition::of_sqlstate(&code).ruling().act;
                let is_the_entrys = ["21", "22", "23", "54"].contains(class);
                assert_eq!(act == Act::Bury, is_the_entrys, "{code}: {act:?}");
            }
        }
    }

    #[test]
    fn what_is_done_about_what_happens() {
        let cases: [(Act, &[&str]); 6] = [
            (
                Act::Wait,
                &[
                    "57P01", "57P03", "53300", "53100", "08006", "08P01", "25006", "25P02", "55006", "58030",
                    "28P01", "42501", "42P01", "42703", "42P05", "26000", "0A000", "3F000", "3D000", "HV000",
                ],
            ),
            (Act::Again, &["40001", "40P01", "40003"]),
            (Act::Locked, &["55P03"]),
            (Act::Halve, &["57014"]),
            (
                Act::SetApart,
                &["23502", "XX000", "XX001", "XX002", "P0001", "44000", "38000", "99999", "", "é"],
            ),
            (Act::Bury, &["22021", "22P05", "23503", "23505", "23514", "54000", "21000"]),
        ];
        for (act, codes) in cases {
            for code in codes {
                assert_eq!(Condition::of_sqlstate(code).ruling().act, act, "{code}");
            }
        }
        assert_eq!(Condition::of_database(&sqlx::Error::PoolClosed).ruling().act, Act::Wait);
        assert_eq!(Condition::of_database(&sqlx::Error::RowNotFound).ruling().act, Act::SetApart);
        let unencodable = sqlx::Error::Encode("no".into());
        assert_eq!(Condition::of_database(&unencodable).ruling().told, Told::DeadLetter);
        assert_eq!(Condition::of(&EngineError::TooLong).ruling().act, Act::Halve);
    }
}
