//! `lockstep differences`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::status::sentence;
use crate::cli::table::{age, or_dash, words};
use crate::rest::extension::DifferenceList;

/// Which differences.
#[derive(Debug, Args)]
pub struct DifferencesArgs {
    /// Only those of this vault.
    #[arg(long)]
    vault: Option<String>,
    /// Only those on this keystore.
    #[arg(long)]
    keystore: Option<String>,
    /// Only those with this reason, such as wrong_key.
    #[arg(long)]
    reason: Option<String>,
    /// Exit with 75 if there are any.
    #[arg(long)]
    check: bool,
}

/// Runs it.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(args: &DifferencesArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let client = &context.client;
    let vault = args.vault.as_deref();
    let vault_id = vault
        .map(|named| find::vault_id(client, named))
        .transpose()?;
    let keystore = args.keystore.as_deref();
    let keystore_id = keystore
        .map(|named| find::keystore_id(client, vault, named))
        .transpose()?;
    let mut query = Vec::new();
    query.extend(vault_id.as_deref().map(|id| ("vault.id", id)));
    query.extend(keystore_id.as_deref().map(|id| ("keystore.id", id)));
    query.extend(args.reason.as_deref().map(|reason| ("reason", reason)));
    let found = client.all::<DifferenceList>("/api/lockstep/v1/differences", &query)?;
    let now = context.now;
    let header = ["KEY", "KEYSTORE", "REASON", "SINCE", "WHAT"];
    context.show_list(&found, &header, |item| {
        let difference = &item.difference;
        let since = difference.since.as_deref().unwrap_or_default();
        vec![
            item.managed_key.label.clone(),
            item.keystore.name.clone(),
            words(difference.reason.name()),
            if since.is_empty() {
                or_dash("")
            } else {
                age(now, since)
            },
            sentence(difference),
        ]
    })?;
    if args.check && !found.is_empty() {
        return Ok(Exit::NotYet);
    }
    Ok(Exit::Done)
}
