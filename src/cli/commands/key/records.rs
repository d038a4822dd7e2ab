//! Keys as records: make, list, show, change, remove.

use clap::Args;

use crate::cli::client::{Change, Verb};
use crate::cli::commands::key::actions::{named, settled};
use crate::cli::commands::key::{Named, Wait};
use crate::cli::commands::words::state;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find::{self, key_path, keystore_path};
use crate::cli::status;
use crate::cli::table::{fields, or_dash};
use crate::model::lifecycle::ManagedState;
use crate::model::vault::UnixMs;
use crate::rest::list::IdRef;
use crate::rest::managed_key::{
    Alignment, ManagedKey, ManagedKeyCreate, ManagedKeyList, ManagedKeyPatch, Tag,
};
use crate::rest::status::Phase;

/// What a new key needs.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The vault it belongs to.
    #[arg(long)]
    vault: String,
    /// The template's name.
    #[arg(long)]
    template: String,
    /// Its label, which its objects on tokens carry too; left out: the naming scheme makes it.
    #[arg(long)]
    label: Option<String>,
    /// What it is for, at most 200 characters.
    #[arg(long)]
    description: Option<String>,
    /// Value of a tag in the naming scheme; may be given more than once.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<Tag>,
    #[command(flatten)]
    wait: Wait,
}

/// Which keys to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this vault.
    #[arg(long)]
    vault: Option<String>,
    /// Only those in these states, joined by commas.
    #[arg(long, value_delimiter = ',', value_parser = state)]
    state: Vec<ManagedState>,
    /// Only those made from this template.
    #[arg(long)]
    template: Option<String>,
    /// Only those on this keystore.
    #[arg(long)]
    keystore: Option<String>,
    /// Only those with this label.
    #[arg(long)]
    label: Option<String>,
}

/// What of a key can change.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    named: Named,
    /// The new label: its objects are renamed too.
    #[arg(long)]
    label: Option<String>,
    /// The new description.
    #[arg(long)]
    description: Option<String>,
    /// YYYY-MM-DD, UTC; empty takes it away.
    #[arg(long, value_name = "DATE")]
    activation_date: Option<String>,
    /// YYYY-MM-DD, UTC; empty takes it away.
    #[arg(long, value_name = "DATE")]
    expiration_date: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

fn tag(text: &str) -> Result<Tag, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Tag {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        Some(_) | None => Err("NAME=VALUE".to_owned()),
    }
}

/// Makes a key.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn create(args: CreateArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let body = ManagedKeyCreate {
        template_name: args.template,
        vault: IdRef {
            id: find::vault_id(&context.client, &args.vault)?,
        },
        label: args.label,
        description: args.description,
        tags: (!args.tags.is_empty()).then_some(args.tags),
    };
    let mut change = Change::with_body(&body)?;
    if args.wait.limit_s.is_some() {
        change = change.at_once();
    }
    let made: ManagedKey = context
        .client
        .change(Verb::Post, "/api/v4/managed_keys", &change)?
        .value;
    context.note(&format!("key {} made: {}", made.label, made.id))?;
    settled(&made.id, args.wait, context)
}

/// Lists keys.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn list_all(args: &ListArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let client = &context.client;
    let vault = args.vault.as_deref();
    let vault_id = vault
        .map(|named| find::vault_id(client, named))
        .transpose()?;
    let template = args
        .template
        .as_deref()
        .map(|named| find::template(client, vault, named))
        .transpose()?;
    let path = match &args.keystore {
        None => "/api/v4/managed_keys".to_owned(),
        Some(named) => {
            let id = find::keystore_id(client, vault, named)?;
            format!("{}/managed_keys", keystore_path(&id))
        }
    };
    let states: Vec<&str> = args.state.iter().map(|state| state.name()).collect();
    let states = states.join(",");
    let mut query = Vec::new();
    if args.keystore.is_none() {
        query.extend(vault_id.as_deref().map(|id| ("vault.id", id)));
    }
    query.extend(
        template
            .as_ref()
            .map(|found| ("template.id", found.value.id.as_str())),
    );
    query.extend(args.label.as_deref().map(|label| ("label", label)));
    if !states.is_empty() {
        query.push(("state", &states));
    }
    let found = client.all::<ManagedKeyList>(&path, &query)?;
    list(&found, context)
}

/// Shows a list of keys.
///
/// # Errors
/// If standard output is closed.
pub fn list(keys: &[ManagedKey], context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let header = [
        "LABEL",
        "WANTED",
        "PHASE",
        "KEY",
        "TEMPLATE",
        "VAULT",
        "KEYSTORES",
        "ID",
    ];
    context.show_list(keys, &header, row)
}

/// Shows one key.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn show(key: &Named, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let key = named(key, context)?.value;
    let now = context.now;
    context.show(&key, |key| page(key, now))?;
    Ok(Exit::Done)
}

/// Lists a key's versions, the one in use first.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn versions(key: &Named, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let key = named(key, context)?.value;
    let path = format!("{}/versions", key_path(&key.id));
    let found = context.client.all::<ManagedKeyList>(&path, &[])?;
    let header = [
        "VERSION",
        "WANTED",
        "PHASE",
        "LABEL ON KEYSTORES",
        "CKA_ID",
        "FINGERPRINT",
    ];
    context.show_list(&found, &header, |version| {
        let instance = version.instances.first();
        let pattern = version.verification_patterns.first();
        vec![
            version.version.to_string(),
            status::key_state(version),
            status::phase(&version.progress),
            instance.map_or_else(String::new, |one| one.label_in_keystore.clone()),
            instance.map_or_else(String::new, |one| one.id.replace('-', "")),
            pattern.map_or_else(String::new, |one| one.value.clone()),
        ]
    })
}

/// Changes a key's label, description or dates.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn update(args: UpdateArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let seen = named(&args.named, context)?;
    let date = |text: Option<String>| text.map(|text| Some(text).filter(|text| !text.is_empty()));
    let body = ManagedKeyPatch {
        label: args.label,
        description: args.description,
        activation_date: date(args.activation_date),
        expiration_date: date(args.expiration_date),
    };
    let mut change = Change::with_body(&body)?.resting_on(&seen);
    if args.wait.limit_s.is_some() {
        change = change.at_once();
    }
    let path = key_path(&seen.value.id);
    context
        .client
        .change::<ManagedKey>(Verb::Patch, &path, &change)?;
    settled(&seen.value.id, args.wait, context)
}

/// Removes the record of a destroyed key.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn delete(key: &Named, force: bool, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let seen = named(key, context)?;
    let mut change = Change::default().resting_on(&seen);
    if force {
        change = change.asking("force", "true");
    }
    context.client.remove(&key_path(&seen.value.id), &change)?;
    context.say(&format!(
        "the record of key {} is removed",
        seen.value.label
    ))?;
    Ok(Exit::Done)
}

fn kind(key: &ManagedKey) -> String {
    format!("{}-{}", key.algorithm.name(), key.size)
}

fn keystores(key: &ManagedKey) -> String {
    let names = key.referenced_keystores.iter().map(|k| k.name.as_str());
    or_dash(&names.collect::<Vec<_>>().join(", "))
}

fn row(key: &ManagedKey) -> Vec<String> {
    vec![
        key.label.clone(),
        status::key_state(key),
        status::phase(&key.progress),
        kind(key),
        key.template.name.clone(),
        key.vault.name.clone(),
        keystores(key),
        key.id.clone(),
    ]
}

fn page(key: &ManagedKey, now: UnixMs) -> String {
    let state = status::key_state(key);
    let state = match key.progress.phase {
        Phase::InStep => state,
        Phase::Changing | Phase::OutOfStep | Phase::Unknown => format!("wanted {state}"),
    };
    let alignment = match key.template.alignment_status {
        Alignment::Aligned => "aligned",
        Alignment::Unaligned => "not aligned",
    };
    let patterns = key
        .verification_patterns
        .iter()
        .map(|pattern| format!("{} ({})", pattern.value, pattern.method));
    let about = fields(&[
        ("Key", key.label.clone()),
        ("Id", key.id.clone()),
        ("Vault", key.vault.name.clone()),
        ("Template", format!("{} ({alignment})", key.template.name)),
        ("Description", key.description.clone()),
        ("State", state),
        ("Kind", format!("{}, version {}", kind(key), key.version)),
        ("Fingerprint", patterns.collect::<Vec<_>>().join(", ")),
        ("Material in", key.key_material_present.join(", ")),
        ("Wanted on", keystores(key)),
        (
            "Activation",
            key.activation_date.clone().unwrap_or_default(),
        ),
        (
            "Expiration",
            key.expiration_date.clone().unwrap_or_default(),
        ),
        ("Rotation", key.rotation_date.clone().unwrap_or_default()),
        (
            "Held until",
            key.destruction_held_until.clone().unwrap_or_default(),
        ),
        ("Can be done now", key.allowed_actions.join(", ")),
        (
            "Made",
            format!("{} by {}", key.stamps.created_at, key.stamps.created_by),
        ),
        (
            "Changed",
            format!("{} by {}", key.stamps.updated_at, key.stamps.updated_by),
        ),
    ]);
    format!("{about}\n\n{}", status::page(key, now))
}
