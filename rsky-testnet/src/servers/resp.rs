//! A synchronous Redis client small enough to need no runtime: readiness checks, tests and benchmarks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Largest bulk string taken, in bytes: more than any stream entry, less than Redis' own bound of 512 MiB.
const MAX_BULK: usize = 256 << 20;
/// Deepest nesting of arrays taken; XREADGROUP has 4.
const MAX_DEPTH: u32 = 8;

/// One reply of Redis (protocol version 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A null string or array.
    Nil,
    /// A number.
    Int(i64),
    /// A status (`OK`, `PONG`) or a string.
    Data(Vec<u8>),
    /// Several replies.
    Array(Vec<Value>),
    /// An error reply, its code first.
    Error(String),
}

impl Value {
    /// The number, also one written as a string.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Data(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Self::Nil | Self::Array(_) | Self::Error(_) => None,
        }
    }

    /// The text of a status or string, invalid UTF-8 replaced.
    pub fn as_text(&self) -> Option<String> {
        match self {
            Self::Data(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Nil | Self::Int(_) | Self::Array(_) | Self::Error(_) => None,
        }
    }

    /// The parts of an array; none for everything else.
    pub fn items(&self) -> &[Value] {
        match self {
            Self::Array(items) => items,
            Self::Nil | Self::Int(_) | Self::Data(_) | Self::Error(_) => &[],
        }
    }
}

/// One connection, one command (or pipeline) at a time.
#[derive(Debug)]
pub struct RespClient {
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
    queued: usize,
}

impl RespClient {
    /// Connects to 127.0.0.1; `timeout` holds for the connection and for every read and write.
    pub fn connect(port: u16, timeout: Duration) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(64 << 10, stream), out: Vec::new(), queued: 0 })
    }

    /// Sends one command and gives its reply.
    ///
    /// # Errors
    /// The connection fails, times out, or Redis replies with an error.
    pub fn command(&mut self, arguments: &[&str]) -> Result<Value> {
        let bytes: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        self.queue(&bytes);
        match self.flush()?.pop() {
            Some(Value::Error(error)) => bail!("{}: {error}", arguments.first().unwrap_or(&"")),
            Some(value) => Ok(value),
            None => bail!("no reply"),
        }
    }

    /// Adds a command to the pipeline, which grows until [`RespClient::flush`]. That sends all before it reads any
    /// reply, so keep the replies of one pipeline below what sockets buffer: some 100 KiB.
    pub fn queue(&mut self, arguments: &[&[u8]]) {
        self.out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
        for argument in arguments {
            self.out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            self.out.extend_from_slice(argument);
            self.out.extend_from_slice(b"\r\n");
        }
        self.queued += 1;
    }

    /// Sends the pipeline and gives the replies in order, error replies among them.
    pub fn flush(&mut self) -> Result<Vec<Value>> {
        let queued = std::mem::take(&mut self.queued);
        let written = self.reader.get_mut().write_all(&self.out).context("write to Redis");
        self.out.clear();
        written?;
        (0..queued).map(|_| read(&mut self.reader, 0)).collect()
    }
}

fn read(from: &mut impl BufRead, depth: u32) -> Result<Value> {
    let mut line = Vec::new();
    // A status or header line is short; 64 KiB leaves room for the longest error text.
    from.take(64 << 10).read_until(b'\n', &mut line).context("read from Redis")?;
    let Some(text) = line.strip_suffix(b"\r\n") else { bail!("connection closed by Redis") };
    let text = std::str::from_utf8(text)?;
    let mut characters = text.chars();
    let kind = characters.next();
    let rest = characters.as_str();
    match kind {
        Some('+') => Ok(Value::Data(rest.as_bytes().to_vec())),
        Some('-') => Ok(Value::Error(rest.to_owned())),
        Some(':') => Ok(Value::Int(rest.parse()?)),
        Some('$' | '*') if rest == "-1" => Ok(Value::Nil),
        Some('$') => {
            let length: usize = rest.parse()?;
            if length > MAX_BULK {
                bail!("a string of {length} bytes");
            }
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Value::Data(bytes))
        }
        Some('*') if depth < MAX_DEPTH => {
            let count: usize = rest.parse()?;
            (0..count).map(|_| read(from, depth + 1)).collect::<Result<_>>().map(Value::Array)
        }
        _ => bail!("not a Redis reply: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Value> {
        read(&mut BufReader::new(bytes), 0)
    }

    #[test]
    fn reads_every_kind_of_reply() {
        assert_eq!(parse(b"+PONG\r\n").unwrap(), Value::Data(b"PONG".to_vec()));
        assert_eq!(parse(b":-3\r\n").unwrap().as_int(), Some(-3));
        assert_eq!(parse(b"$-1\r\n").unwrap(), Value::Nil);
        assert_eq!(parse(b"-LOADING x\r\n").unwrap(), Value::Error("LOADING x".to_owned()));
        let nested = parse(b"*2\r\n$4\r\na\r\nb\r\n*1\r\n:1\r\n").unwrap();
        assert_eq!(nested.items(), [Value::Data(b"a\r\nb".to_vec()), Value::Array(vec![Value::Int(1)])]);
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for bad in [&b""[..], b"+PONG", b"?x\r\n", b"$99999999999\r\n", b"$5\r\nab\r\n", b":x\r\n"] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(parse(&b"*1\r\n".repeat(50)).is_err());
    }
}
