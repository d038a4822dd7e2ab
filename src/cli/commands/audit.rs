//! `lockstep audit`.

use clap::Subcommand;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::listing::Listing;
use crate::rest::extension::{AuditEntry, AuditList};
use crate::rest::list::LIMIT_MAX;

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List its newest entries, newest first.
    List {
        /// Only those about this, such as `key/<id>`.
        #[arg(long)]
        subject: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
        limit: u32,
    },
}

/// Runs it.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(command: AuditCommand, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let AuditCommand::List { subject, limit } = command;
    let limit = limit.to_string();
    let mut query = vec![("limit", limit.as_str())];
    query.extend(subject.as_deref().map(|subject| ("subject", subject)));
    let page: AuditList = context.client.get("/api/lockstep/v1/audit", &query)?.value;
    let (_page, entries) = page.parts();
    context.show_list(&entries, &["AT", "WHO", "WHAT", "ABOUT", "DETAIL"], row)
}

fn row(entry: &AuditEntry) -> Vec<String> {
    vec![
        entry.at.clone(),
        entry.actor.clone(),
        entry.action.clone(),
        entry.subject.clone(),
        match &entry.bulk_change {
            None => entry.detail.clone(),
            Some(bulk) => format!("{}; bulk/{bulk}", entry.detail),
        },
    ]
}
