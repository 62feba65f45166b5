//! Free ports below the range the kernel hands to outgoing connections.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lowest port that is handed out.
const FIRST: u32 = 15_000;
/// Number of ports tried; the last lies below 32768, where Linux' `ip_local_port_range` begins.
const COUNT: u32 = 17_000;

/// A port of 127.0.0.1 nobody listens on at this moment.
///
/// Not simply port 0: that gives one from the range of outgoing connections, and a server which is down for a while
/// would lose it to its own client. A client that retries against a loopback port of that range even connects to
/// itself sooner or later, after which the server cannot bind any more.
///
/// Another process may take the port before it is used; callers retry with a new one.
pub fn free_port() -> std::io::Result<u16> {
    static STEP: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let start = nanos.wrapping_add(std::process::id().wrapping_mul(7919));
    for _ in 0..COUNT {
        // 7 does not divide COUNT, so the walk visits every port.
        let step = STEP.fetch_add(7, Ordering::Relaxed);
        let offset = start.wrapping_add(step) % COUNT;
        let Ok(port) = u16::try_from(FIRST + offset) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(std::io::Error::other("no free port between 15000 and 32000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_different_bindable_ports() {
        let first = free_port().unwrap();
        let second = free_port().unwrap();
        assert_ne!(first, second);
        TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, second)).unwrap();
    }

    #[test]
    fn passes_over_a_port_in_use() {
        let held: Vec<TcpListener> = (0..20)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap())
            .collect();
        let next = free_port().unwrap();
        assert!(held.iter().all(|listener| listener.local_addr().unwrap().port() != next));
    }
}
