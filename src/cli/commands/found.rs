//! `lockstep keystore unmanaged`, `adopt`, `ignore`, `unignore`: keys on a token that others made.

use clap::Args;

use crate::cli::client::{Change, Verb};
use crate::cli::commands::keystore::{Named, id};
use crate::cli::commands::words::algorithm;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::status::state_words;
use crate::cli::table::{Table, or_dash, words};
use crate::model::key::Algorithm;
use crate::model::text::printable;
use crate::rest::found::{
    Adopt, AdoptResult, Adopted, AdoptedKey, Finding, FoundKey, FoundKeyList, Ignore, IgnoreDone,
};
use crate::rest::managed_key::VerificationPattern;
use crate::rest::status::Phase;

/// Which keys to list.
#[derive(Debug, Args)]
pub struct UnmanagedArgs {
    #[command(flatten)]
    named: Named,
    /// Those that were left to others, instead.
    #[arg(long, conflicts_with = "every")]
    ignored: bool,
    /// Managed and ignored ones too.
    #[arg(long = "every-state")]
    every: bool,
    /// Only those whose label fits; * stands for any characters.
    #[arg(long, value_name = "PATTERN")]
    label: Option<String>,
    /// Only those of this algorithm.
    #[arg(long, value_parser = algorithm)]
    algorithm: Option<Algorithm>,
    /// Do not have the token take fingerprints: quicker where it holds many keys.
    #[arg(long)]
    no_fingerprints: bool,
}

/// Says which keys on a token are meant.
#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = true)]
pub struct Which {
    /// The one with this CKA_ID.
    #[arg(long, value_name = "HEX", conflicts_with_all = ["label", "algorithm", "all"])]
    cka_id: Option<String>,
    /// Those whose label fits; * stands for any characters.
    #[arg(long, value_name = "PATTERN", conflicts_with = "all")]
    label: Option<String>,
    /// Those of this algorithm.
    #[arg(long, value_parser = algorithm, conflicts_with = "all")]
    algorithm: Option<Algorithm>,
    /// All of them.
    #[arg(long)]
    all: bool,
}

/// What to adopt, and as what.
#[derive(Debug, Args)]
pub struct AdoptArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    which: Which,
    /// The template that new keys belong to: it must be for keys of their kind.
    #[arg(long)]
    template: String,
    /// The managed key's label, where it is not to be the one on the token; for one key.
    #[arg(long = "as", value_name = "LABEL")]
    managed_label: Option<String>,
    /// What it is for, at most 200 characters.
    #[arg(long)]
    description: Option<String>,
    /// Show what would come of it; nothing is changed.
    #[arg(long)]
    dry_run: bool,
}

/// What to leave to others.
#[derive(Debug, Args)]
pub struct IgnoreArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    which: Which,
    /// Why, at most 200 characters.
    #[arg(long)]
    reason: String,
}

/// What to take back.
#[derive(Debug, Args)]
pub struct UnignoreArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    which: Which,
}

fn path(id: &str, action: &str) -> String {
    format!("/api/lockstep/v1/keystores/{id}/unmanaged{action}")
}

/// Lists keys on a token.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn list(args: &UnmanagedArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let at = path(&id(&args.named, context)?, "");
    let state = match (args.every, args.ignored) {
        (true, _) => "all",
        (false, true) => "ignored",
        (false, false) => "unmanaged",
    };
    let mut query = vec![("state", state)];
    if !args.no_fingerprints {
        query.push(("fingerprints", "true"));
    }
    query.extend(args.label.as_deref().map(|p| ("label_in_keystore", p)));
    query.extend(args.algorithm.map(|a| ("algorithm", a.name())));
    let found = context.client.all::<FoundKeyList>(&at, &query)?;
    let header = [
        "LABEL",
        "CKA_ID",
        "STATE",
        "KEY",
        "USAGE",
        "EXTRACTABLE",
        "FINGERPRINT",
        "FINDINGS",
        "REMARK",
    ];
    context.show_list(&found, &header, row)
}

fn row(key: &FoundKey) -> Vec<String> {
    let usage: Vec<&str> = key.usage.iter().map(|usage| usage.name()).collect();
    let extractable = match key.extractable {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    vec![
        or_dash(&key.label_in_keystore),
        or_dash(&key.key_id_in_keystore),
        key.state.name().to_owned(),
        kind(key),
        or_dash(&usage.join(",")),
        extractable.to_owned(),
        fingerprint(key.fingerprint.as_ref()),
        findings(&key.findings),
        or_dash(&remark(key)),
    ]
}

fn kind(key: &FoundKey) -> String {
    if key.algorithm.is_some() {
        return spec(key.algorithm, key.size.as_deref());
    }
    let classes: Vec<String> = key.objects.iter().map(|o| words(&o.kind)).collect();
    or_dash(&classes.join(" + "))
}

fn spec(algorithm: Option<Algorithm>, size: Option<&str>) -> String {
    algorithm.map_or_else(
        || "-".to_owned(),
        |algorithm| {
            let name = algorithm.name().to_uppercase();
            size.map_or_else(|| name.clone(), |size| format!("{name}-{size}"))
        },
    )
}

fn fingerprint(pattern: Option<&VerificationPattern>) -> String {
    pattern.map_or_else(|| "-".to_owned(), |pattern| pattern.value.clone())
}

fn findings(found: &[Finding]) -> String {
    let one = |finding: &Finding| format!("{} ({})", finding.code, finding.severity.name());
    or_dash(&found.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn remark(key: &FoundKey) -> String {
    if let Some(managed) = &key.managed_key {
        return format!("managed as {}", managed.label);
    }
    if let Some(ignored) = &key.ignored {
        let gone = if key.objects.is_empty() {
            " (not on the token)"
        } else {
            ""
        };
        return format!("{}{gone}", ignored.reason);
    }
    let obstacle = key.obstacle.as_ref();
    obstacle.map_or_else(String::new, |obstacle| obstacle.code.clone())
}

/// Adopts keys; exits with 3 if any was refused, else with 75 if any is not in step yet.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn adopt(args: AdoptArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let at = path(&id(&args.named, context)?, "/adopt");
    let which = args.which;
    let body = Adopt {
        template_name: args.template,
        key_id_in_keystore: which.cka_id,
        label_in_keystore: which.label,
        algorithm: which.algorithm,
        all: which.all.then_some(true),
        label: args.managed_label,
        description: args.description,
    };
    let mut change = Change::with_body(&body)?;
    if args.dry_run {
        change = change.asking("dry_run", "true");
    }
    let done: Adopted = context.client.change(Verb::Post, &at, &change)?.value;
    context.show(&done, adoption)?;
    let refused = |key: &AdoptedKey| key.result == AdoptResult::Refused;
    let pending = |key: &AdoptedKey| key.phase.is_some_and(|phase| phase != Phase::InStep);
    Ok(if done.results.iter().any(refused) {
        Exit::Refused
    } else if done.results.iter().any(pending) {
        Exit::NotYet
    } else {
        Exit::Done
    })
}

fn adoption(done: &Adopted) -> String {
    if done.results.is_empty() {
        return "no such key on the token that is not managed".to_owned();
    }
    let header = [
        "LABEL ON TOKEN",
        "CKA_ID",
        "RESULT",
        "MANAGED KEY",
        "KEY",
        "WANTED",
        "PHASE",
        "FINGERPRINT",
        "FINDINGS",
    ];
    let mut table = Table::new(&header);
    for key in &done.results {
        let managed = key
            .managed_key
            .as_ref()
            .map(|managed| managed.label.as_str());
        let phase = key.phase.map(|phase| words(phase.name()));
        table.row(vec![
            or_dash(&key.label_in_keystore),
            or_dash(&key.key_id_in_keystore),
            key.result.name().to_owned(),
            or_dash(managed.unwrap_or_default()),
            spec(key.algorithm, key.size.as_deref()),
            key.state.map_or_else(|| "-".to_owned(), state_words),
            or_dash(&phase.unwrap_or_default()),
            fingerprint(key.fingerprint.as_ref()),
            findings(&key.findings),
        ]);
    }
    let mut lines = vec![table.render()];
    let refused = done.results.iter().filter_map(|key| {
        let why = key.refused.as_ref()?;
        let field = why.field.as_ref().map(|field| format!("{field}: "));
        let name = printable(&key.label_in_keystore);
        let (id, field) = (&key.key_id_in_keystore, field.unwrap_or_default());
        Some(format!(
            "{name} ({id}): {field}{} [{}]",
            printable(&why.message),
            why.code
        ))
    });
    lines.extend(refused);
    if done.dry_run {
        lines.push("nothing was changed: this is what would be".to_owned());
    }
    lines.join("\n")
}

/// Leaves keys to others.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn ignore(args: IgnoreArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let at = path(&id(&args.named, context)?, "/ignore");
    send(&at, args.which, Some(args.reason), "ignored", context)
}

/// Takes keys back that were left to others.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn unignore(args: UnignoreArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let at = path(&id(&args.named, context)?, "/unignore");
    send(&at, args.which, None, "not ignored any more", context)
}

fn send(
    at: &str,
    which: Which,
    reason: Option<String>,
    now: &str,
    context: &mut Context<'_, '_>,
) -> anyhow::Result<Exit> {
    let body = Ignore {
        key_id_in_keystore: which.cka_id,
        label_in_keystore: which.label,
        algorithm: which.algorithm,
        all: which.all.then_some(true),
        reason,
    };
    let change = Change::with_body(&body)?;
    let done: IgnoreDone = context.client.change(Verb::Post, at, &change)?.value;
    context.show(&done, |done| {
        if done.keys.is_empty() {
            return "no such key: nothing was changed".to_owned();
        }
        let one = |key: &crate::rest::found::NamedKey| {
            let (label, id) = (printable(&key.label_in_keystore), &key.key_id_in_keystore);
            format!("{label} ({id}): {now}")
        };
        done.keys.iter().map(one).collect::<Vec<_>>().join("\n")
    })?;
    Ok(Exit::Done)
}
