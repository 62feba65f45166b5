//! The run of 500 hosts as the daemon runs in the open: https at public addresses, private ones not allowed.
//!
//! Nothing in the daemon knows of it. The test has a network namespace for itself, in which the public addresses of the
//! hosts lead to this machine; the hosts have a certificate that the daemon finds where an operator would put one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::hosts::{Hosts, PUBLIC, own_address};
use crate::many_hosts::{BAD, HEALTHY, healthy_address, settle_all};
use crate::namespaces::run_in_own;

const NAME: &str = "public_addresses::private_addresses_are_not_contacted_among_500_public_hosts";
/// Accounts of troubled hosts that have an address in the certificate.
const MOST_TROUBLED: usize = 240;

#[test]
fn private_addresses_are_not_contacted_among_500_public_hosts() {
    if !has_openssl() {
        println!("{NAME} is skipped: this machine has no openssl");
        return;
    }
    // The hosts' addresses, and those of the link, lead to this machine.
    let script = format!(
        "ip link set lo up && ip route add local {PUBLIC}.0.0.0/8 dev lo && ip route add local 169.254.0.0/16 dev lo && exec \"$@\""
    );
    run_in_own(&["--net"], &script, NAME, inside);
}

fn has_openssl() -> bool {
    Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

async fn inside() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (certificate, tls) = certificate(&directory);
    let hosts = Hosts::start_public(tls).await;
    let settings = [("ALLOW_PRIVATE_ADDRESSES", "false"), ("SSL_CERT_FILE", certificate.to_str().unwrap())];
    settle_all(&hosts, &settings).await;
    assert_eq!(hosts.trespasses(), 0, "connections to addresses that are not public");
    std::fs::remove_dir_all(directory).unwrap();
}

/// A certificate for all hosts, also for those that must not be contacted: that they cannot be is not to be its merit.
fn certificate(directory: &Path) -> (PathBuf, TlsAcceptor) {
    let healthy = (0..HEALTHY).map(|host| (4, healthy_address(host)));
    let troubled = (BAD..BAD + MOST_TROUBLED).map(|number| (1, own_address(number)));
    let mut names: Vec<String> =
        healthy.chain(troubled).map(|(net, [a, b])| format!("IP:{PUBLIC}.{net}.{a}.{b}")).collect();
    names.extend(["IP:127.0.0.1", "IP:169.254.169.254", "DNS:localhost"].map(str::to_owned));
    let config = format!(
        "[req]\ndistinguished_name = name\nx509_extensions = ext\nprompt = no\n[name]\nCN = hosts\n[ext]\n\
         basicConstraints = critical, CA:FALSE\nextendedKeyUsage = serverAuth\nsubjectAltName = {}\n",
        names.join(",")
    );
    let [config_file, key_file, certificate_file] =
        ["openssl.cnf", "key.pem", "certificate.pem"].map(|name| directory.join(name));
    std::fs::write(&config_file, config).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl.arg("-config").arg(&config_file).arg("-keyout").arg(&key_file).arg("-out").arg(&certificate_file);
    let made = openssl.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = CertificateDer::from_pem_file(&certificate_file).unwrap();
    let key = PrivateKeyDer::from_pem_file(&key_file).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (certificate_file, TlsAcceptor::from(Arc::new(config)))
}
