//! Tests that need a part of the machine for themselves: their own network, their own file systems.

use std::process::{Command, Stdio};

/// Set in the process that has them.
const INSIDE: &str = "RSKY_TEST_INSIDE";

/// Runs `test` in namespaces of its own: this test program is started again for the test `name` alone, behind `script`,
/// which prepares them as their root and ends with `exec "$@"`. Where the machine does not give them it says so, and the
/// test is skipped.
pub fn run_in_own(kinds: &[&str], script: &str, name: &str, test: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == name) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.unwrap().block_on(test());
    }
    let inside = |program: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user"]).args(kinds).args(["sh", "-c", script, "sh", program]);
        unshare
    };
    let tried = inside("true").stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("{name} is skipped: this machine gives no namespaces ({})", kinds.join(" "));
        return;
    }
    let program = std::env::current_exe().unwrap();
    let mut again = inside(program.to_str().unwrap());
    again.args(["--exact", name, "--nocapture"]).env(INSIDE, name);
    assert!(again.status().unwrap().success(), "{name} failed in its own namespaces");
}
