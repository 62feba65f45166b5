//! What to do about an error of Redis.

use redis::{ErrorKind, RedisError};

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It passes: hold what there is, wait, try again.
    Transient,
    /// It stays until somebody changes something: stop and say what.
    Fatal,
}

/// Codes of replies that pass by themselves or by an operator's hand on the *server*.
const TRANSIENT_CODES: &[&str] = &[
    "LOADING",    // reads its file after a restart
    "OOM",        // full; consumers make room
    "MISCONF",    // cannot write its file; refuses writes until it can
    "READONLY",   // we reached a replica during a failover
    "MASTERDOWN", // a replica without its master
    "NOREPLICAS", // min-replicas-to-write is not met
    "BUSY",       // a script runs
    "TRYAGAIN",
    "CLUSTERDOWN",
    "UNBLOCKED",
    "NOTREADY",
];

/// Decides what to do about an error. Unknown replies are fatal: repeating a command the server does not understand
/// would hide a fault for ever.
pub fn disposition(error: &RedisError) -> Disposition {
    if let Some(replies) = error.clone().into_server_errors()
        && !replies.is_empty()
    {
        // Of a transaction with several refusals, one that stays decides.
        let all_pass =
            replies.iter().all(|(_, reply)| passes(reply.code(), reply.details().unwrap_or_default()));
        return if all_pass { Disposition::Transient } else { Disposition::Fatal };
    }
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Io => Disposition::Transient,
        // A transaction that was aborted without a reason given (a WATCHed key, a failover in between).
        ErrorKind::Server(redis::ServerErrorKind::ExecAbort) => Disposition::Transient,
        // Handshake failures are wrapped; the reply is in the text.
        _ if TRANSIENT_CODES.iter().any(|code| text.contains(code)) => Disposition::Transient,
        // A reply cut off by a dying server.
        ErrorKind::Parse => Disposition::Transient,
        _ => Disposition::Fatal,
    }
}

fn passes(code: &str, details: &str) -> bool {
    // EXECABORT beside the refusals it reports adds nothing; too many connections is a plain ERR.
    code == "EXECABORT" || TRANSIENT_CODES.contains(&code) || details.contains("max number of clients")
}

/// The error in words for an operator, with the setting that most likely causes it.
pub fn explain(error: &RedisError) -> String {
    let text = error.to_string();
    let mentions = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let hint = if error.kind() == ErrorKind::AuthenticationFailed || mentions(&["NOAUTH", "WRONGPASS"]) {
        "; check user and password in REDIS_URL"
    } else if mentions(&["NOPERM", "NoPerm"]) {
        "; the user in REDIS_URL lacks a permission"
    } else if mentions(&["WRONGTYPE"]) {
        "; a key of that name holds something else: check the stream names (…_STREAM) and the database in REDIS_URL"
    } else if mentions(&["MOVED", "Moved"]) {
        "; REDIS_URL points into a Redis Cluster, which is not supported"
    } else if mentions(&["OOM"]) {
        "; the server is full (maxmemory): consumers must make room"
    } else {
        ""
    };
    format!("{text}{hint}")
}

/// Whether the connection cannot be used any more after this error.
pub fn breaks_connection(error: &RedisError) -> bool {
    // A timed-out response may still arrive; on a connection of its own it would be taken for the next one's.
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)
        || error.is_unrecoverable_error()
        // After a failover the same address may lead to another server.
        || error.kind() == ErrorKind::Server(redis::ServerErrorKind::ReadOnly)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: &str, text: &str) -> RedisError {
        redis::make_extension_error(code.to_owned(), Some(text.to_owned()))
    }

    #[test]
    fn waits_out_what_passes_and_only_that() {
        for code in ["LOADING", "OOM", "READONLY", "MASTERDOWN", "BUSY", "MISCONF", "TRYAGAIN", "NOREPLICAS"]
        {
            assert_eq!(disposition(&reply(code, "x")), Disposition::Transient, "{code}");
        }
        for code in ["WRONGTYPE", "NOAUTH", "NOPERM", "WRONGPASS", "MOVED", "ERR"] {
            assert_eq!(disposition(&reply(code, "x")), Disposition::Fatal, "{code}");
        }
        assert_eq!(disposition(&reply("ERR", "max number of clients reached")), Disposition::Transient);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(disposition(&refused.into()), Disposition::Transient);
    }

    #[test]
    fn names_the_setting() {
        assert!(explain(&reply("NOAUTH", "Authentication required.")).contains("password in REDIS_URL"));
        assert!(explain(&reply("WRONGTYPE", "Operation against a key")).contains("_STREAM"));
    }

    #[test]
    fn io_errors_break_the_connection_and_replies_do_not() {
        assert!(breaks_connection(&std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()));
        assert!(!breaks_connection(&reply("OOM", "full")));
    }
}
