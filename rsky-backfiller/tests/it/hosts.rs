//! A simulated network of hosts that do what they are told, good or bad.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rsky_testnet::servers::Redis;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use rsky_common::net::is_public;

use crate::support::events;
use crate::synthetic;

/// What a host does with a request for a repository.
#[derive(Clone)]
pub enum Host {
    Car(Bytes),
    /// With further headers.
    CarWith(String, Bytes),
    /// After a while, as over long distances.
    Later(Duration, Bytes),
    /// An answer as it stands.
    Raw(Vec<u8>),
    /// The first few requests are answered with this, then with the repository.
    First(u32, Vec<u8>, Bytes),
    /// Accepts, and says nothing.
    Hangs,
    /// Begins, then a byte a second.
    Trickles,
    /// Begins, and breaks off.
    Breaks(Bytes),
    /// Begins, and resets the connection.
    Resets(Bytes),
    /// Begins after a second, and resets the connection seven seconds later; the next time it answers whole.
    LosesPatience(Bytes),
    /// Never ends.
    Endless,
    /// Compressed, and never ends.
    Bomb,
}

/// What its host does, its DID document, and when its repository was asked for.
type Account = (Host, serde_json::Value, Mutex<Vec<Instant>>);

/// What is asked of a connection beside bytes.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Connection for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Connection for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Everything is served at one port: each repository's PDS has an address of its own, so each is a host of its own. The
/// addresses are those of 127.0.0.0/8, or, where the test has a network for itself (`public_addresses.rs`), public ones.
#[derive(Default)]
pub struct Hosts {
    pub port: u16,
    /// Where the directory is.
    directory: u16,
    public: bool,
    hosts: RwLock<BTreeMap<String, Account>>,
    /// Given to whoever asks for any document, or for that of a DID.
    instead: RwLock<BTreeMap<String, Vec<u8>>>,
    asked: AtomicU32,
    trespasses: AtomicU32,
}

/// First part of the addresses that are public.
pub const PUBLIC: u8 = 5;

/// Third and fourth part of the address of an account's own host.
pub fn own_address(number: usize) -> [usize; 2] {
    [number / 250, number % 250 + 1]
}

pub fn did(number: usize) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    let (a, b, c) = (LETTERS[number / 676 % 26], LETTERS[number / 26 % 26], LETTERS[number % 26]);
    format!("did:plc:aaaaaaaaaaaaaaaaaaaaa{}{}{}", a as char, b as char, c as char)
}

impl Hosts {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hosts = Arc::new(Self { port, directory: port, ..Self::default() });
        Arc::clone(&hosts).serve_plain(listener);
        hosts
    }

    /// With https at public addresses. The directory, which the operator names, stays where it was.
    pub async fn start_public(tls: TlsAcceptor) -> Arc<Self> {
        let directory = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let hosts = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            directory: directory.local_addr().unwrap().port(),
            public: true,
            ..Self::default()
        });
        Arc::clone(&hosts).serve_plain(directory);
        let serving = Arc::clone(&hosts);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if stream.local_addr().is_ok_and(|address| !is_public(address.ip())) {
                    serving.trespasses.fetch_add(1, Ordering::Relaxed);
                }
                let (hosts, tls) = (Arc::clone(&serving), tls.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(hosts.serve(stream).await);
                    }
                });
            }
        });
        hosts
    }

    fn serve_plain(self: Arc<Self>, listener: TcpListener) {
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hosts = Arc::clone(&self);
                tokio::spawn(async move { drop(hosts.serve(stream).await) });
            }
        });
    }

    /// The directory, and the host that listed everything.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.directory)
    }

    pub fn is_public(&self) -> bool {
        self.public
    }

    /// The URL of a host of its own: `[a, b]` in the network `net`.
    pub fn pds(&self, net: u8, [a, b]: [usize; 2]) -> String {
        let (scheme, first) = if self.public { ("https", PUBLIC) } else { ("http", 127) };
        format!("{scheme}://{first}.{net}.{a}.{b}:{}", self.port)
    }

    /// The host of an account that was added without naming one.
    pub fn own_pds(&self, number: usize) -> String {
        self.pds(1, own_address(number))
    }

    /// The directory's answer about a DID, or about all (`""`), instead of the document.
    pub fn answer_instead(&self, did: &str, answer: Option<Vec<u8>>) {
        let mut instead = self.instead.write().unwrap();
        match answer {
            Some(answer) => drop(instead.insert(did.to_owned(), answer)),
            None => drop(instead.remove(did)),
        }
    }

    /// Requests for documents so far.
    pub fn documents_asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Connections to hosts at addresses that are not public.
    pub fn trespasses(&self) -> u32 {
        self.trespasses.load(Ordering::Relaxed)
    }

    pub fn add(&self, number: usize, host: Host, key: u8) -> String {
        self.add_at(number, host, key, &self.own_pds(number))
    }

    pub fn add_at(&self, number: usize, host: Host, key: u8, pds: &str) -> String {
        let did = did(number);
        let document = synthetic::document(&did, &synthetic::key(key), pds);
        self.hosts.write().unwrap().insert(did.clone(), (host, document, Mutex::default()));
        did
    }

    /// Requests for a repository so far.
    pub fn requests(&self, did: &str) -> u32 {
        self.times(did).len().try_into().unwrap()
    }

    /// When they came.
    pub fn times(&self, did: &str) -> Vec<Instant> {
        self.hosts.read().unwrap()[did].2.lock().unwrap().clone()
    }

    async fn serve(&self, mut stream: impl Connection) -> std::io::Result<()> {
        let mut request = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            request.extend_from_slice(&buffer[..read]);
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            let line =
                String::from_utf8_lossy(&request).lines().next().unwrap_or_default().replace("%3A", ":");
            request.clear();
            let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            match target.strip_prefix("/xrpc/com.atproto.sync.getRepo?did=") {
                Some(did) => self.repository(&mut stream, did).await?,
                None => self.document(&mut stream, target.trim_start_matches('/')).await?,
            }
            stream.flush().await?;
        }
    }

    async fn document(&self, stream: &mut impl Connection, did: &str) -> std::io::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let instead = {
            let instead = self.instead.read().unwrap();
            instead.get(did).or_else(|| instead.get("")).cloned()
        };
        if let Some(answer) = instead {
            return stream.write_all(&answer).await;
        }
        let document = self.hosts.read().unwrap().get(did).map(|(_, document, _)| document.to_string());
        let (status, body) = document.map_or(("404 Not Found", String::new()), |body| ("200 OK", body));
        stream
            .write_all(
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            )
            .await
    }

    async fn repository(&self, stream: &mut impl Connection, did: &str) -> std::io::Result<()> {
        let found = self.hosts.read().unwrap().get(did).map(|(host, _, times)| {
            let mut times = times.lock().unwrap();
            times.push(Instant::now());
            (host.clone(), u32::try_from(times.len()).unwrap() - 1)
        });
        let Some((host, count)) = found else {
            return stream.write_all(&error(400, "RepoNotFound", "")).await;
        };
        match host {
            Host::Car(car) => send_car(stream, "", &car).await,
            Host::CarWith(headers, car) => send_car(stream, &headers, &car).await,
            Host::Later(delay, car) => {
                tokio::time::sleep(delay).await;
                send_car(stream, "", &car).await
            }
            Host::Raw(answer) => stream.write_all(&answer).await,
            Host::First(times, answer, _) if count < times => stream.write_all(&answer).await,
            Host::First(_, _, car) => send_car(stream, "", &car).await,
            Host::Hangs => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                Ok(())
            }
            Host::Trickles => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"1\r\nx\r\n").await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Host::Breaks(car) => half(stream, &car).await,
            Host::Resets(car) => {
                stream.tcp().set_zero_linger()?;
                half(stream, &car).await
            }
            Host::LosesPatience(car) if count > 0 => send_car(stream, "", &car).await,
            Host::LosesPatience(car) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", car.len());
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&car[..car.len() - 1]).await?;
                tokio::time::sleep(Duration::from_secs(7)).await;
                stream.tcp().set_zero_linger()?;
                Err(std::io::ErrorKind::ConnectionReset.into())
            }
            Host::Endless => {
                let mut start = Vec::new();
                synthetic::header(&synthetic::block_cid(b""), &mut start);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                stream.write_all(&start).await?;
                let mut block = Vec::new();
                synthetic::block_section(&synthetic::block_cid(&[7; 1000]), &[7; 1000], &mut block);
                let many = block.repeat(64);
                loop {
                    stream.write_all(&many).await?;
                }
            }
            Host::Bomb => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n").await?;
                static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
                let bomb = tokio::task::spawn_blocking(|| BOMB.get_or_init(bomb)).await?;
                stream.write_all(bomb).await?;
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

/// 64 MiB of valid blocks in some hundred kilobytes.
fn bomb() -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut start = Vec::new();
    synthetic::header(&synthetic::block_cid(b""), &mut start);
    encoder.write_all(&start).unwrap();
    let block = vec![0; 1 << 20];
    let mut section = Vec::new();
    synthetic::block_section(&synthetic::block_cid(&block), &block, &mut section);
    for _ in 0..64 {
        encoder.write_all(&section).unwrap();
    }
    encoder.finish().unwrap()
}

/// Half of a repository, and an end.
async fn half(stream: &mut impl Connection, car: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", car.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&car[..car.len() / 2]).await?;
    stream.flush().await?;
    tokio::time::sleep(Duration::from_millis(50)).await;
    Err(std::io::ErrorKind::BrokenPipe.into())
}

async fn send_car(stream: &mut impl Connection, headers: &str, car: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\n{headers}content-type: application/vnd.ipld.car\r\ncontent-length: {}\r\n\r\n",
        car.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(car).await
}

pub fn error(status: u16, name: &str, headers: &str) -> Vec<u8> {
    let body = format!(r#"{{"error":"{name}","message":"said by the test"}}"#);
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

pub fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

/// Records and `repo` events of every account in the output.
pub fn counts(redis: &Redis) -> BTreeMap<String, (usize, usize)> {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for event in events(redis) {
        let count = counts.entry(event["did"].as_str().unwrap().to_owned()).or_default();
        if event["type"] == "repo" { count.1 += 1 } else { count.0 += 1 }
    }
    counts
}
