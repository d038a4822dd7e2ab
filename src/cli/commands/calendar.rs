//! `lockstep calendar`.

use clap::Args;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::status::state_words;
use crate::model::text::printable;
use crate::rest::calendar::Calendar;

/// Which dates.
#[derive(Debug, Args)]
pub struct CalendarArgs {
    /// Only from this day on (YYYY-MM-DD); left out: those that are overdue too.
    #[arg(long)]
    from: Option<String>,
    /// Only to this day; left out: 90 days from now.
    #[arg(long)]
    to: Option<String>,
    /// Only those of this vault.
    #[arg(long)]
    vault: Option<String>,
}

/// Runs it.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(args: &CalendarArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let vault = args.vault.as_deref();
    let vault_id = vault
        .map(|named| find::vault_id(&context.client, named))
        .transpose()?;
    let mut query = Vec::new();
    query.extend(args.from.as_deref().map(|day| ("from", day)));
    query.extend(args.to.as_deref().map(|day| ("to", day)));
    query.extend(vault_id.as_deref().map(|id| ("vault.id", id)));
    let path = "/api/lockstep/v1/calendar";
    let found: Calendar = context.client.get(path, &query)?.value;
    let header = [
        "DATE (00:00 UTC)",
        "WHAT",
        "KEY",
        "STATE",
        "",
        "WHAT IT DOES",
    ];
    context.show_list(&found.dates, &header, |date| {
        vec![
            date.date.clone(),
            date.kind.clone(),
            printable(&date.managed_key.label),
            state_words(date.state),
            if date.overdue { "overdue" } else { "" }.to_owned(),
            date.message.clone(),
        ]
    })
}
