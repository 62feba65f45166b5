//! `<daemon> healthcheck`: a daemon is asked by its own binary how it is, for containers and scripts.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::text::{SHOWN, shown};
use crate::config::{ConfigError, Environment, METRICS_HOST, Settings, Variable};

/// Time for the connection, and for every read and write. Less than a supervisor gives a check.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Longest answer that is read: reasons are cut before that.
const MOST_BYTES: u64 = 64 << 10;
const EXIT_BAD_CONFIG: u8 = 64;

/// Asks `/healthz` (whether the process is alive and its work moves) or `/readyz` (also whether it is connected to what it
/// needs) of the daemon with this environment, and prints the answer. `port` is the daemon's declaration of `METRICS_PORT`.
///
/// The exit code is 0 when it is well, 1 when it is not or does not answer, 64 when the environment does not say where it is.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people and supervisors; nothing is logged"
)]
pub fn healthcheck(daemon: &str, environment: Environment, port: &Variable, ready: bool) -> ExitCode {
    let address = match address(environment, port) {
        Ok(address) => address,
        Err(error) => {
            eprintln!("{daemon} healthcheck: {error}");
            return ExitCode::from(EXIT_BAD_CONFIG);
        }
    };
    match ask(address, if ready { "/readyz" } else { "/healthz" }) {
        Ok((true, said)) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Ok((false, said)) => {
            eprintln!("{daemon} healthcheck: {said}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{daemon} healthcheck: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the daemon with this environment can be asked from the machine it runs on.
fn address(environment: Environment, port: &Variable) -> Result<SocketAddr, ConfigError> {
    let mut settings = Settings::new(environment);
    let host = settings.parse(&METRICS_HOST, IpAddr::from(Ipv4Addr::LOCALHOST), |text| text.parse().ok());
    let number: u16 = settings.integer(port, 0..=u16::MAX);
    if number == 0 {
        settings
            .fault(format!("{} is 0: the daemon took a free port, and which is not known here", port.name));
    }
    let host = match host {
        IpAddr::V4(any) if any.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::V6(any) if any.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
        one => one,
    };
    settings.finish(SocketAddr::new(host, number))
}

/// Whether the answer is 200, and what it says.
fn ask(address: SocketAddr, path: &str) -> anyhow::Result<(bool, String)> {
    let mut stream =
        TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n")
        .with_context(|| format!("ask {address}"))?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).with_context(|| format!("answer of {address}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("{address} did not answer in HTTP") };
    let well = head.split_whitespace().nth(1) == Some("200");
    let said: Vec<String> = body.lines().map(|line| shown(line, SHOWN)).collect();
    Ok((well, said.join("\n")))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PORT: Variable =
        Variable { name: "METRICS_PORT", alias: None, expects: "a port", default: Some("4000"), help: "" };

    fn address_of(pairs: &[(&str, &str)]) -> Result<String, String> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let address = address(Environment::from_pairs(pairs), &PORT);
        address.map(|address| address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn asks_where_the_daemon_listens() {
        assert_eq!(address_of(&[]).unwrap(), "127.0.0.1:4000");
        assert_eq!(address_of(&[("METRICS_HOST", "0.0.0.0"), ("METRICS_PORT", "1")]).unwrap(), "127.0.0.1:1");
        assert_eq!(address_of(&[("METRICS_HOST", "::")]).unwrap(), "[::1]:4000");
        assert_eq!(address_of(&[("METRICS_HOST", "10.1.2.3")]).unwrap(), "10.1.2.3:4000");
        assert!(address_of(&[("METRICS_PORT", "0")]).unwrap_err().contains("METRICS_PORT is 0"));
        assert!(address_of(&[("METRICS_HOST", "here")]).unwrap_err().contains("METRICS_HOST"));
    }

    fn answered(answer: &'static str) -> anyhow::Result<(bool, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut piece = [0; 256];
            while !asked.ends_with(b"\r\n\r\n") {
                let length = stream.read(&mut piece).unwrap();
                assert!(length > 0, "the request ended early");
                asked.extend_from_slice(&piece[..length]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let said = ask(address, "/healthz");
        server.join().unwrap();
        said
    }

    #[test]
    fn well_is_200_and_nothing_else() {
        assert_eq!(answered("HTTP/1.0 200 OK\r\na: b\r\n\r\nok\n").unwrap(), (true, "ok".to_owned()));
        let (well, said) = answered("HTTP/1.1 503 No\r\n\r\nlanes: \u{1b}[2J\nredis: gone\n").unwrap();
        assert!(!well && said == "lanes: \\u{1b}[2J\nredis: gone", "{said}");
        assert!(answered("nonsense").is_err());
    }

    #[test]
    fn nobody_there_is_not_well() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(format!("{:#}", ask(free, "/healthz").unwrap_err()).starts_with("connect to"));
    }
}
