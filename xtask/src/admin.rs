//! The admin ports of the daemons: a GET and the numbers of a metrics page.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Time for connecting, and for every read.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest page read; a metrics page has some 50 KiB.
const MAX_PAGE: u64 = 4 << 20;

/// The body of `http://127.0.0.1:<port><path>`.
///
/// # Errors
/// No connection or no answer in time, or a status other than 200.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the answer ends with the connection, and is never chunked.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_PAGE).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        status => bail!("{path}: HTTP status {}", status.unwrap_or("missing")),
    }
}

/// The sum of all samples of one metric, whatever their labels; `None` when the page has none.
pub(crate) fn sum(page: &str, metric: &str) -> Option<f64> {
    samples(page, metric).reduce(|sum, value| sum + value)
}

/// The largest sample of one metric, whatever its labels; `None` when the page has none.
pub(crate) fn largest(page: &str, metric: &str) -> Option<f64> {
    samples(page, metric).reduce(f64::max)
}

fn samples<'p>(page: &'p str, metric: &'p str) -> impl Iterator<Item = f64> + 'p {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(metric)?;
        // A longer name that begins alike is another metric. Label values may hold blanks; the value comes last,
        // unless a timestamp follows, which none of our pages has.
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn sums_the_samples_of_one_metric() {
        let page = "# HELP in_total frames\n# TYPE in_total counter\nin_total{host=\"a b\"} 3\nin_total{host=\"c\"} 4.5\n\
                    in_total_other 100\nplain 2\n";
        assert_eq!(sum(page, "in_total"), Some(7.5));
        assert_eq!(sum(page, "plain"), Some(2.0));
        assert_eq!((sum(page, "absent"), largest(page, "in_total")), (None, Some(4.5)));
    }

    fn answered(answer: &'static str) -> Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // The request may come in pieces.
            let mut request = Vec::new();
            let mut piece = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let length = stream.read(&mut piece).unwrap();
                assert!(length > 0, "the request ended early");
                request.extend_from_slice(&piece[..length]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        let body = get(port, "/metrics");
        assert!(server.join().unwrap().starts_with("GET /metrics HTTP/1.0\r\n"));
        body
    }

    #[test]
    fn gives_the_body_of_a_good_answer_only() {
        assert_eq!(answered("HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody\r\n\r\nmore").unwrap(), "body\r\n\r\nmore");
        assert!(answered("HTTP/1.1 503 Service Unavailable\r\n\r\nno").is_err());
        assert!(answered("nonsense").is_err());
    }
}
