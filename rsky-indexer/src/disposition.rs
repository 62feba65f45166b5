//! What to do about an error of the database: one table.

use crate::engine::EngineError;

/// What the caller does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The way to the database or its present state: the same batch again, after a while, for as long as it takes.
    Transient,
    /// Two processes met: the same batch again, at once.
    Again,
    /// Somebody holds a row for too long: find out which entries need it, and set them aside.
    Locked,
    /// More than a transaction can do in its time: the halves, one after the other; a single entry again, after a
    /// while.
    Halve,
    /// Something in the batch: find it and set it aside.
    Data,
    /// Nobody foresaw it: a bounded number of tries, then as [`Self::Data`].
    Unknown,
}

/// Sorts an error by type and SQLSTATE, never by its text.
pub fn disposition(error: &EngineError) -> Disposition {
    match error {
        EngineError::Overtaken => Disposition::Again,
        EngineError::TooLong | EngineError::TooMuch => Disposition::Halve,
        EngineError::Database(sqlx::Error::Database(error)) => {
            error.code().map_or(Disposition::Unknown, |code| of_sqlstate(&code))
        }
        EngineError::Database(sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed) => {
            Disposition::Transient
        }
        EngineError::Database(sqlx::Error::Encode(_)) => Disposition::Data,
        EngineError::Database(_) => Disposition::Unknown,
    }
}

fn of_sqlstate(code: &str) -> Disposition {
    match code {
        // serialization failure, deadlock
        "40001" | "40P01" => Disposition::Again,
        // lock not available: the transaction's own limit (lock_timeout)
        "55P03" => Disposition::Locked,
        // a statement's time is over (statement_timeout), or an operator has cancelled it
        "57014" => Disposition::Halve,
        // a permission taken away: an operator's hand, no entry's fault
        "42501" => Disposition::Transient,
        _ => match code.get(..2) {
            // connection, resources (disk full, too many connections), operator intervention (shutdown,
            // starting up, terminated), system error, object in use, read-only transaction; password or database
            // changed under a running process
            Some("08" | "53" | "57" | "58" | "55" | "25" | "28" | "3D") => Disposition::Transient,
            // data, integrity
            Some("22" | "23" | "21" | "54") => Disposition::Data,
            _ => Disposition::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_sorted_by_what_helps() {
        for code in ["57P01", "57P03", "53300", "53100", "08006", "25006", "55006", "58030", "28P01", "42501"]
        {
            assert_eq!(of_sqlstate(code), Disposition::Transient, "{code}");
        }
        for code in ["22021", "22P05", "23502", "23505", "54000"] {
            assert_eq!(of_sqlstate(code), Disposition::Data, "{code}");
        }
        assert_eq!(of_sqlstate("40P01"), Disposition::Again);
        assert_eq!(of_sqlstate("55P03"), Disposition::Locked);
        assert_eq!(of_sqlstate("57014"), Disposition::Halve);
        assert_eq!(of_sqlstate("42P01"), Disposition::Unknown);
    }
}
