//! Whose repository it is: its DID, and what its document says, asked for now.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rsky_common::atproto::syntax::{is_did, is_handle};
use rsky_common::identity::{
    DidDocument, DidResolver, HandleResolver, HandleResolverConfig, ResolveError, ResolverConfig,
};
use rsky_common::repo::VerifyingKey;
use url::Url;

use super::fetch::USER_AGENT;
use super::report::printable;
use super::settings::Settings;

/// Time for one answer of a directory.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An account whose repository can be fetched and verified.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) did: String,
    /// URL of its PDS.
    pub(crate) pds: Url,
    /// What its commits are signed with.
    pub(crate) key: VerifyingKey,
}

/// The network says that there is no such account, or its host that it does not give it out: no fault that another try or
/// an operator here could cure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotGivenOut(pub(crate) String);

/// Finds the account that a DID or a handle names.
///
/// # Errors
/// Nobody is called so, the directory does not answer, or the document lacks what is needed.
pub(crate) async fn find(name: &str, settings: &Settings) -> anyhow::Result<Account> {
    let did = did_of(name, settings).await?;
    let document = document_of(&did, settings).await?;
    let pds = pds_of(&document)?;
    let key = document.signing_key().with_context(|| format!("the signing key of {did}"))?;
    let key = key.with_context(|| format!("the DID document of {did} names no signing key (#atproto)"))?;
    Ok(Account { did, pds, key })
}

/// The DID that is named, by itself or by a handle.
///
/// # Errors
/// It is neither, or the handle leads nowhere.
pub(crate) async fn did_of(name: &str, settings: &Settings) -> anyhow::Result<String> {
    let name = name.trim();
    if !name.starts_with("did:") {
        return did_of_handle(name, settings).await;
    }
    if !is_did(name) {
        bail!("{name:?} is not a DID");
    }
    Ok(name.to_owned())
}

/// The DID document, asked for now.
///
/// # Errors
/// There is none, or the directory does not answer.
pub(crate) async fn document_of(did: &str, settings: &Settings) -> anyhow::Result<DidDocument> {
    let plc = settings.plc.clone().context("PLC_URL is not set")?;
    let directory = plc.to_string();
    let resolver = DidResolver::new(ResolverConfig {
        plc,
        timeout: TIMEOUT,
        outbound: settings.outbound,
        user_agent: USER_AGENT.to_owned(),
    })
    .context("set up TLS")?;
    match resolver.resolve(did).await {
        Ok(resolved) => Ok(resolved.document),
        Err(ResolveError::NotFound) if did.starts_with("did:plc:") => {
            let said = format!("{did} is not known: the directory {directory} has no document for it");
            Err(NotGivenOut(said).into())
        }
        Err(ResolveError::NotFound) => {
            Err(NotGivenOut(format!("{did} is not known: its host has no document for it")).into())
        }
        Err(error) => bail!("the DID document of {did}: {}", printable(&error.to_string())),
    }
}

/// Where the account's repository is, by its document.
///
/// # Errors
/// The document names no PDS.
pub(crate) fn pds_of(document: &DidDocument) -> anyhow::Result<Url> {
    let pds = document.pds.as_deref().and_then(|pds| Url::parse(pds).ok());
    pds.with_context(|| format!("the DID document of {} names no PDS (#atproto_pds)", document.did))
}

async fn did_of_handle(name: &str, settings: &Settings) -> anyhow::Result<String> {
    let handle = name.trim_start_matches('@').to_ascii_lowercase();
    if !is_handle(&handle) {
        bail!("{name:?} is neither a DID nor a handle");
    }
    let resolver = HandleResolver::new(HandleResolverConfig {
        service: settings.handle_resolver.clone(),
        timeout: TIMEOUT,
        outbound: settings.outbound,
        user_agent: USER_AGENT.to_owned(),
    })
    .context("set up TLS")?;
    let did = resolver.resolve(&handle).await.with_context(|| format!("resolve the handle {handle}"))?;
    let did = did.with_context(|| format!("the handle {handle} leads to no account"))?;
    if !is_did(&did) {
        bail!("the handle {handle} leads to {:?}, which is not a DID", printable(&did));
    }
    Ok(did)
}
