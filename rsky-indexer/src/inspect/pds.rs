//! What the PDS says of an account and a record.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, StatusCode};
use rsky_common::net::{self, Outbound};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;
use url::Url;

use super::facts::{Asked, Held, Hosted, Path, Pds};
use crate::index_repo::account;
use crate::index_repo::fetch::USER_AGENT;
use crate::index_repo::report::printable;
use crate::index_repo::settings::Settings as Network;
use crate::lexicon::validate;
use crate::text::json::Json;

/// Time for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer: a record has 1 MiB at most, as CBOR.
const MOST: usize = 8 << 20;

/// Asks the account's PDS.
pub(super) async fn ask(did: &str, path: Option<&Path>, network: &Network) -> Asked<Pds> {
    Asked::of(try_ask(did, path, network).await)
}

async fn try_ask(did: &str, path: Option<&Path>, network: &Network) -> anyhow::Result<Pds> {
    let document = account::document_of(did, network).await?;
    let pds = account::pds_of(&document)?;
    network.outbound.check(&pds).with_context(|| format!("the PDS {pds}"))?;
    let client = net::build(network.outbound.client().user_agent(USER_AGENT).timeout(TIMEOUT))?;
    let host = Host { client, pds, outbound: network.outbound };
    let account = host.account(did).await;
    let record = match path {
        None => None,
        Some(path) => Some(host.record(did, path).await),
    };
    Ok(Pds { host: host.pds.to_string(), account, record })
}

struct Host {
    client: Client,
    pds: Url,
    outbound: Outbound,
}

/// An answer: its status and its body.
type Answer = (StatusCode, Vec<u8>);

#[derive(Deserialize, Default)]
#[serde(default)]
struct XrpcError {
    error: String,
    message: String,
}

impl Host {
    async fn account(&self, did: &str) -> Hosted {
        #[derive(Deserialize)]
        struct Status {
            active: Option<bool>,
            status: Option<String>,
            rev: Option<String>,
        }
        // Hosts of before 2024 know only the second.
        for method in ["com.atproto.sync.getRepoStatus", "com.atproto.sync.getLatestCommit"] {
            match self.get(method, &[("did", did)]).await {
                Err(error) => return Hosted::Unknown { error: format!("{error:#}") },
                Ok((status, body)) if status.is_success() => {
                    return match serde_json::from_slice::<Status>(&body) {
                        Ok(said) if said.active == Some(false) => Hosted::Inactive {
                            status: printable(said.status.as_deref().unwrap_or("inactive")),
                        },
                        Ok(said) => Hosted::Active { rev: said.rev },
                        Err(error) => Hosted::Unknown { error: format!("{method}: {error}") },
                    };
                }
                Ok((status, body)) => {
                    let said: XrpcError = serde_json::from_slice(&body).unwrap_or_default();
                    match said.error.as_str() {
                        "RepoNotFound" | "AccountNotFound" => return Hosted::Gone,
                        word if inactive(word).is_some() => {
                            return Hosted::Inactive {
                                status: inactive(word).unwrap_or_default().to_owned(),
                            };
                        }
                        _ if matches!(status.as_u16(), 404 | 501) => {}
                        _ => return Hosted::Unknown { error: words(status, &said) },
                    }
                }
            }
        }
        Hosted::Unknown { error: "it answers neither getRepoStatus nor getLatestCommit".to_owned() }
    }

    async fn record(&self, did: &str, path: &Path) -> Held {
        let parameters = [("repo", did), ("collection", &path.collection), ("rkey", &path.rkey)];
        match self.get("com.atproto.repo.getRecord", &parameters).await {
            Err(error) => Held::Unknown { error: format!("{error:#}") },
            Ok((status, body)) if status.is_success() => read(&path.collection, &body),
            Ok((status, body)) => {
                let said: XrpcError = serde_json::from_slice(&body).unwrap_or_default();
                let is_gone =
                    said.error == "RecordNotFound" || said.message.starts_with("Could not locate record");
                if is_gone { Held::Gone } else { Held::Unknown { error: words(status, &said) } }
            }
        }
    }

    async fn get(&self, method: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut url = self.pds.join(&format!("/xrpc/{method}")).context("the URL of the PDS")?;
        url.query_pairs_mut().clear().extend_pairs(parameters);
        self.outbound.check(&url)?;
        let asked = async {
            let mut answer = self.client.get(url).send().await.map_err(reqwest::Error::without_url)?;
            let status = answer.status();
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
                if body.len().saturating_add(piece.len()) > MOST {
                    bail!("{method}: an answer of more than {MOST} bytes");
                }
                body.extend_from_slice(&piece);
            }
            Ok((status, body))
        };
        timeout(TIMEOUT, asked).await.with_context(|| format!("{method}: no answer within {TIMEOUT:?}"))?
    }
}

/// The record in an answer, and whether it could be indexed.
fn read(collection: &str, body: &[u8]) -> Held {
    #[derive(Deserialize)]
    struct Record<'a> {
        cid: Option<String>,
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let record: Record<'_> = match serde_json::from_slice(body) {
        Ok(record) => record,
        Err(error) => return Held::Unknown { error: format!("com.atproto.repo.getRecord: {error}") },
    };
    let invalid = match Json::parse(record.value.get()) {
        Ok(json) => validate(collection, &json).err().map(|invalid| invalid.to_string()),
        Err(error) => Some(error.to_string()),
    };
    Held::Has { cid: record.cid.unwrap_or_default(), invalid }
}

/// The network's word for an account that is not given out.
fn inactive(error: &str) -> Option<&'static str> {
    match error {
        "RepoDeactivated" | "AccountDeactivated" => Some("deactivated"),
        "RepoSuspended" | "AccountSuspended" => Some("suspended"),
        "RepoTakendown" | "RepoTakenDown" | "AccountTakedown" | "AccountTakenDown" => Some("takendown"),
        _ => None,
    }
}

fn words(status: StatusCode, said: &XrpcError) -> String {
    printable(format!("HTTP {} {} {}", status.as_u16(), said.error, said.message).trim_end())
}
