//! Whose repository it is: its DID, and what its document says, asked for now.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rsky_common::atproto::syntax::{is_did, is_handle};
use rsky_common::identity::{
    DidResolver, HandleResolver, HandleResolverConfig, ResolveError, ResolverConfig,
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
pub(super) struct Account {
    pub(super) did: String,
    /// URL of its PDS.
    pub(super) pds: Url,
    /// What its commits are signed with.
    pub(super) key: VerifyingKey,
}

/// Finds the account that a DID or a handle names.
///
/// # Errors
/// Nobody is called so, the directory does not answer, or the document lacks what is needed.
pub(super) async fn find(name: &str, settings: &Settings) -> anyhow::Result<Account> {
    let name = name.trim();
    let did = if name.starts_with("did:") {
        if !is_did(name) {
            bail!("{name:?} is not a DID");
        }
        name.to_owned()
    } else {
        did_of_handle(name, settings).await?
    };
    let plc = settings.plc.clone().context("PLC_URL is not set")?;
    let directory = plc.to_string();
    let resolver = DidResolver::new(ResolverConfig {
        plc,
        timeout: TIMEOUT,
        outbound: settings.outbound,
        user_agent: USER_AGENT.to_owned(),
    })
    .context("set up TLS")?;
    let document = match resolver.resolve(&did).await {
        Ok(resolved) => resolved.document,
        Err(ResolveError::NotFound) if did.starts_with("did:plc:") => {
            bail!("{did} is not known: the directory {directory} has no document for it")
        }
        Err(ResolveError::NotFound) => bail!("{did} is not known: its host has no document for it"),
        Err(error) => bail!("the DID document of {did}: {}", printable(&error.to_string())),
    };
    let pds = document.pds.as_deref().and_then(|pds| Url::parse(pds).ok());
    let pds = pds.with_context(|| format!("the DID document of {did} names no PDS (#atproto_pds)"))?;
    let key = document.signing_key().with_context(|| format!("the signing key of {did}"))?;
    let key = key.with_context(|| format!("the DID document of {did} names no signing key (#atproto)"))?;
    Ok(Account { did, pds, key })
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
