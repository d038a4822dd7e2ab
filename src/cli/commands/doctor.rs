//! `lockstep doctor`.

use clap::Args;

use crate::cli::context::{Context, Format};
use crate::cli::exit::Exit;
use crate::cli::table::{Table, words};
use crate::model::text::printable;
use crate::rest::doctor::{Check, Doctor, Verdict};

/// The form of the findings.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The same as `--output json`.
    #[arg(long)]
    json: bool,
}

/// Runs it: 0 if no promise is broken, 1 if one is.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(args: &DoctorArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    if args.json {
        context.format = Format::Json;
    }
    let told: Doctor = context.client.get("/api/lockstep/v1/doctor", &[])?.value;
    context.show(&told, text)?;
    Ok(match told.verdict {
        Verdict::Ok | Verdict::Warning => Exit::Done,
        Verdict::Violated => Exit::Failed,
    })
}

fn text(told: &Doctor) -> String {
    let mut table = Table::new(&["CHECK", "PROMISE", "VERDICT"]);
    for check in &told.checks {
        table.row(vec![
            words(&check.name),
            check.invariant.clone().unwrap_or_else(|| "-".to_owned()),
            check.verdict.name().to_owned(),
        ]);
    }
    let mut parts = vec![table.render()];
    let found = |check: &&Check| check.verdict != Verdict::Ok;
    parts.extend(told.checks.iter().filter(found).map(paragraph));
    parts.join("\n\n")
}

fn paragraph(check: &Check) -> String {
    let mut lines = vec![format!("{}: {}", words(&check.name), check.verdict.name())];
    let found = check.found.iter();
    lines.extend(found.map(|what| format!("  - {}", printable(what))));
    let named = u64::try_from(check.found.len()).unwrap_or(u64::MAX);
    if check.count > named {
        lines.push(format!("  and {} more", check.count - named));
    }
    lines.push(format!("  What it means: {}", check.meaning));
    lines.push(format!("  What to do: {}", check.advice));
    lines.join("\n")
}
