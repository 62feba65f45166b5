//! What to do about an error of Redis.

use redis::{ErrorKind, RedisError};

use crate::admin::shown;

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

/// Codes of replies that say that *this server* cannot take writes now, while another may: after a failover the same name
/// leads to the new master, but only for those who look it up again.
const ELSEWHERE_CODES: &[&str] = &[
    "READONLY",
    "MASTERDOWN",
    "LOADING",
    "CLUSTERDOWN",
    "UNBLOCKED", // a blocked command, when the server became a replica
    "NOREPLICAS",
    "NOTREADY",
];

/// Codes of replies to writes alone: reading goes on.
const WRITE_CODES: &[&str] = &["OOM", "MISCONF", "READONLY", "NOREPLICAS"];

/// Most characters of an error in logs and pages.
const SHOWN: usize = 500;

/// Calls `visit` with code and details of every reply of the server that the error is made of: one, or those of the
/// commands of a pipeline or transaction. Whether there was any.
fn replies(error: &RedisError, mut visit: impl FnMut(&str, &str)) -> bool {
    let Some(replies) = error.clone().into_server_errors() else { return false };
    for (_, reply) in replies.iter() {
        let (code, details) = (reply.code(), reply.details().unwrap_or_default());
        visit(code, details);
        // A transaction refused at its end says why: "Transaction discarded because of: READONLY You can't write …".
        if let ("EXECABORT", Some((_, why))) = (code, details.split_once("because of: ")) {
            let (code, details) = why.split_once(' ').unwrap_or((why, ""));
            visit(code, details);
        }
    }
    !replies.is_empty()
}

/// Decides what to do about an error. Unknown replies are fatal: repeating a command the server does not understand
/// would hide a fault for ever.
pub fn disposition(error: &RedisError) -> Disposition {
    // Of a transaction with several refusals, one that stays decides.
    let mut all_pass = true;
    if replies(error, |code, details| all_pass &= passes(code, details)) {
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

/// The error in words for an operator, with the setting that most likely causes it. A transaction of hundreds of commands
/// that are refused for one reason says it once.
pub fn explain(error: &RedisError) -> String {
    let text = told_once(error);
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
    } else if mentions(&["READONLY", "ReadOnly"]) {
        "; REDIS_URL leads to a replica, for now or for good"
    } else {
        ""
    };
    format!("{text}{hint}")
}

/// The error's text; of several replies each different one once, with how often it came.
fn told_once(error: &RedisError) -> String {
    let mut told: Vec<(String, usize)> = Vec::new();
    replies(error, |code, details| {
        let one = shown(&format!("{code} {details}"), SHOWN);
        match told.iter_mut().find(|(known, _)| *known == one) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => told.push((one, 1)),
        }
    });
    let texts = told.into_iter().map(|(text, count)| match count {
        1 => text,
        count => format!("{text} (of {count} commands)"),
    });
    let text = texts.collect::<Vec<_>>().join("; ");
    if text.is_empty() { shown(&error.to_string(), SHOWN) } else { shown(&text, SHOWN) }
}

/// Whether the connection cannot be used any more after this error.
pub fn breaks_connection(error: &RedisError) -> bool {
    is_reply_lost(error) || is_elsewhere(error)
}

/// Whether the error leaves open what became of the command: the connection was lost.
pub fn is_reply_lost(error: &RedisError) -> bool {
    // A timed-out response may still arrive; on a connection of its own it would be taken for the next one's.
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) || error.is_unrecoverable_error()
}

/// Whether a transaction was refused before any of it took effect.
pub fn is_abort(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(redis::ServerErrorKind::ExecAbort)
}

/// Whether any reply in the error says that the server takes no writes while it may well answer questions.
pub fn refuses_writes(error: &RedisError) -> bool {
    let mut found = false;
    replies(error, |code, _| found |= WRITE_CODES.contains(&code));
    found
}

/// Whether any reply in the error says that this server takes no writes: another may, at the same name.
fn is_elsewhere(error: &RedisError) -> bool {
    let mut found = false;
    replies(error, |code, _| found |= ELSEWHERE_CODES.contains(&code));
    found
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

    /// An error that no reply of the server is in.
    fn without_reply(kind: ErrorKind, text: &str) -> RedisError {
        RedisError::from((kind, "it failed", text.to_owned()))
    }

    #[test]
    fn what_the_server_has_not_said_passes_by_its_nature() {
        let aborted = ErrorKind::Server(redis::ServerErrorKind::ExecAbort);
        for (kind, text, then) in [
            (aborted, "", Disposition::Transient),
            (ErrorKind::Parse, "", Disposition::Transient),
            (ErrorKind::AuthenticationFailed, "LOADING Redis is loading", Disposition::Transient),
            (ErrorKind::AuthenticationFailed, "WRONGPASS", Disposition::Fatal),
        ] {
            assert_eq!(disposition(&without_reply(kind, text)), then, "{kind:?} {text}");
        }
        assert!(is_abort(&without_reply(aborted, "")) && !is_abort(&reply("OOM", "x")));
    }

    #[test]
    fn an_answer_that_comes_late_is_lost() {
        assert!(is_reply_lost(&std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        assert!(is_reply_lost(&without_reply(ErrorKind::Parse, "")));
        assert!(!is_reply_lost(&reply("OOM", "x")));
    }

    #[test]
    fn a_server_may_answer_questions_and_take_no_writes() {
        assert!(refuses_writes(&reply("OOM", "x")) && refuses_writes(&reply("READONLY", "x")));
        assert!(!refuses_writes(&reply("LOADING", "x")) && !refuses_writes(&reply("WRONGTYPE", "x")));
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

    #[test]
    fn what_cannot_take_writes_here_may_be_taken_at_the_same_name_elsewhere() {
        for code in ["READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "UNBLOCKED", "NOREPLICAS"] {
            assert!(breaks_connection(&reply(code, "x")), "{code}");
            assert!(!is_reply_lost(&reply(code, "x")), "{code}");
        }
        for code in ["OOM", "MISCONF", "BUSY", "WRONGTYPE"] {
            assert!(!breaks_connection(&reply(code, "x")), "{code}");
        }
        // What a server says that became a replica between the first command and EXEC.
        let aborted = |why: &str| reply("EXECABORT", &format!("Transaction discarded because of: {why}"));
        let readonly = aborted("READONLY You can't write against a read only replica.");
        assert!(breaks_connection(&readonly) && refuses_writes(&readonly));
        assert_eq!(disposition(&readonly), Disposition::Transient);
        assert_eq!(disposition(&aborted("NOPERM no")), Disposition::Fatal);
        assert_eq!(
            disposition(&reply("EXECABORT", "Transaction discarded because of previous errors.")),
            Disposition::Transient
        );
    }

    #[test]
    fn texts_are_one_short_line() {
        let said = explain(&reply("ERR", &"long\n".repeat(10_000)));
        assert!(said.len() < 1_000 && !said.contains('\n'), "{said}");
    }
}
