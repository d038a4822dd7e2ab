//! `lockstep differences`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::status::weighed;
use crate::cli::table::{age, or_dash, words};
use crate::model::difference::Weight;
use crate::rest::extension::{DifferenceList, EstateDifference};

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
    /// Only those of this weight: out_of_sync or warning.
    #[arg(long, value_parser = weight)]
    weight: Option<Weight>,
    /// Exit with 75 if anything is out of sync; warnings alone do not count.
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
    query.extend(args.weight.map(|weight| ("weight", weight.name())));
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
            weighed(difference),
        ]
    })?;
    let is_out = |item: &EstateDifference| item.difference.weight == Weight::OutOfSync;
    if args.check && found.iter().any(is_out) {
        return Ok(Exit::NotYet);
    }
    Ok(Exit::Done)
}

fn weight(name: &str) -> Result<Weight, String> {
    Weight::from_name(name).ok_or_else(|| "out_of_sync or warning".to_owned())
}
