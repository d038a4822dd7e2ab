//! `lockstep keystore`.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::client::{Change, Verb};
use crate::cli::commands::found::{self, AdoptArgs, IgnoreArgs, UnignoreArgs, UnmanagedArgs};
use crate::cli::commands::key::records;
use crate::cli::commands::probe::probe;
use crate::cli::commands::rotate_kek::rotate_kek;
use crate::cli::commands::words::variant;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find::{self, keystore_path};
use crate::cli::status::weighed;
use crate::cli::table::{age, fields, or_dash};
use crate::cli::wait::{Pace, WAIT_S_DEFAULT};
use crate::model::keystore::Variant;
use crate::model::vault::UnixMs;
use crate::rest::keystore::{
    HealthStatus, Keystore, KeystoreCreate, KeystoreList, KeystorePatch, KeystoreStatus, PKCS11,
    StrategyChoice,
};
use crate::rest::list::IdRef;
use crate::rest::managed_key::ManagedKeyList;
use crate::rest::status::Difference;

/// What to do with keystores.
#[derive(Debug, Subcommand)]
pub enum KeystoreCommand {
    /// Add one: its agent is asked who it is first.
    Create(Box<CreateArgs>),
    /// Try to reach an agent and show who it is; nothing is stored.
    Test(Box<CreateArgs>),
    /// List them.
    List {
        /// Only those of this vault.
        #[arg(long)]
        vault: Option<String>,
        /// Only those in this group.
        #[arg(long)]
        group: Option<String>,
    },
    /// Show one.
    Show(Named),
    /// Show how well one is; exits with 75 while it is not well.
    Status {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        wait: Wait,
    },
    /// Change its groups, its description, or how its agent is reached.
    Update(Box<UpdateArgs>),
    /// Take it out.
    Delete {
        #[command(flatten)]
        named: Named,
        /// What becomes of the keys on it: restrict (refuse while there are any), disconnect (leave them),
        /// deactivate or destroy (there, first).
        #[arg(long, default_value = "restrict", value_parser = ["restrict", "disconnect", "deactivate", "destroy"])]
        mode: String,
    },
    /// List the keys that are on it.
    Keys(Named),
    /// List the keys on its token that nobody manages, with what is known of them.
    Unmanaged(UnmanagedArgs),
    /// Make managed keys of keys on its token that others made, as they are: nothing on the token changes. The same key on
    /// several keystores is one managed key. Exits with 3 if one of them was refused.
    Adopt(Box<AdoptArgs>),
    /// Leave keys on its token to others, with a reason: they count as unmanaged no longer.
    Ignore(IgnoreArgs),
    /// Take keys back that were left to others.
    Unignore(UnignoreArgs),
    /// Have its agent try what the token can do, and show what that means for keys; exits with 75 while the token lacks what
    /// it could once.
    Probe {
        #[command(flatten)]
        named: Named,
        /// Take what the token can do now as what it should.
        #[arg(long)]
        accept: bool,
    },
    /// Give an internal keystore a new wrapping key: all its copies are wrapped under it, then the old one is destroyed. Keys
    /// stay usable. Exits with 75 while it is under way; it goes on by itself whoever is restarted.
    RotateKek {
        #[command(flatten)]
        named: Named,
        /// Ask for nothing, only show how far the last one is.
        #[arg(long)]
        show: bool,
        #[command(flatten)]
        wait: RotationWait,
    },
}

/// How long to wait for a rotation.
#[derive(Debug, Clone, Copy, Args)]
pub struct RotationWait {
    /// Wait for its end, at most this many seconds, and say how far it is.
    #[arg(
        long = "wait",
        value_name = "SECS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = WAIT_S_DEFAULT,
        value_parser = clap::value_parser!(u64).range(0..=86_400)
    )]
    limit_s: Option<u64>,
}

/// Names a keystore.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name or id.
    keystore: String,
    /// The vault it is in, where its name is not unique.
    #[arg(long)]
    vault: Option<String>,
}

/// What a new keystore needs.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The vault it belongs to.
    #[arg(long)]
    vault: String,
    /// Its name, 1 to 100 characters; left out: the token's label.
    #[arg(long)]
    name: Option<String>,
    /// Its agent's address, `https://host:port`.
    #[arg(long)]
    endpoint: String,
    /// The URI name in its agent's certificate, spiffe://lockstep/agent/NAME.
    #[arg(long)]
    agent: String,
    /// internal: may make keys; external: only receives them.
    #[arg(long, default_value = "external", value_parser = variant)]
    variant: Variant,
    /// Group that it is in; may be given more than once.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// What it is, at most 200 characters.
    #[arg(long)]
    description: Option<String>,
    /// Where it stands.
    #[arg(long)]
    location: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// How long to wait for its agent and token.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Wait until its agent answers and its token is open, at most this many seconds; exits with 75 if they do not.
    #[arg(
        long = "wait",
        value_name = "SECS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = WAIT_S_DEFAULT,
        value_parser = clap::value_parser!(u64).range(0..=86_400)
    )]
    limit_s: Option<u64>,
}

/// What of a keystore can change.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    named: Named,
    /// The new name.
    #[arg(long)]
    name: Option<String>,
    /// The new description.
    #[arg(long)]
    description: Option<String>,
    /// The new location.
    #[arg(long)]
    location: Option<String>,
    /// Group to join; keys follow by `key update-from-template`.
    #[arg(long = "add-group", value_name = "GROUP")]
    add_groups: Vec<String>,
    /// Group to leave; keys follow by `key update-from-template`.
    #[arg(long = "remove-group", value_name = "GROUP")]
    remove_groups: Vec<String>,
    /// Its agent's new address.
    #[arg(long)]
    endpoint: Option<String>,
    /// Its agent's new URI name.
    #[arg(long)]
    agent: Option<String>,
    /// The weakest way to disable keys there: auto (what its token needs), flags, copy or withdraw; keys follow with their
    /// next change or sync.
    #[arg(long, value_parser = choice)]
    strategy: Option<StrategyChoice>,
}

/// Runs it.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(command: KeystoreCommand, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let now = context.now;
    match command {
        KeystoreCommand::Create(args) => {
            let wait = args.wait;
            let made = create(*args, false, context)?;
            let made = well(made, wait, context)?;
            context.show(&made, |keystore| {
                format!("keystore {} added: {}", keystore.name, keystore.id)
            })?;
            if wait.limit_s.is_some() {
                return Ok(exit(&made.status));
            }
        }
        KeystoreCommand::Test(args) => {
            let seen = create(*args, true, context)?;
            context.show(&seen, |keystore| page(keystore, now))?;
        }
        KeystoreCommand::List { vault, group } => return list(vault, group, context),
        KeystoreCommand::Show(named) => {
            let found = find::keystore(&context.client, named.vault.as_deref(), &named.keystore)?;
            context.show(&found.value, |keystore| page(keystore, now))?;
        }
        KeystoreCommand::Status { named, wait } => return status(&named, wait, context),
        KeystoreCommand::Update(args) => {
            let changed = update(*args, context)?;
            context.show(&changed, |keystore| page(keystore, now))?;
        }
        KeystoreCommand::Delete { named, mode } => {
            let seen = find::keystore(&context.client, named.vault.as_deref(), &named.keystore)?;
            let change = Change::default().resting_on(&seen).asking("mode", mode);
            let path = keystore_path(&seen.value.id);
            context.client.remove(&path, &change)?;
            context.say(&format!("keystore {} taken out", seen.value.name))?;
        }
        KeystoreCommand::Keys(named) => {
            let id = id(&named, context)?;
            let path = format!("{}/managed_keys", keystore_path(&id));
            let found = context.client.all::<ManagedKeyList>(&path, &[])?;
            return records::list(&found, context);
        }
        KeystoreCommand::Unmanaged(args) => return found::list(&args, context),
        KeystoreCommand::Adopt(args) => return found::adopt(*args, context),
        KeystoreCommand::Ignore(args) => return found::ignore(args, context),
        KeystoreCommand::Unignore(args) => return found::unignore(args, context),
        KeystoreCommand::Probe { named, accept } => {
            return probe(&id(&named, context)?, accept, context);
        }
        KeystoreCommand::RotateKek { named, show, wait } => {
            let limit = wait.limit_s.map(Duration::from_secs);
            return rotate_kek(&id(&named, context)?, show, limit, context);
        }
    }
    Ok(Exit::Done)
}

/// The id of a keystore that was named.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn id(named: &Named, context: &Context<'_, '_>) -> anyhow::Result<String> {
    let vault = named.vault.as_deref();
    Ok(find::keystore_id(&context.client, vault, &named.keystore)?)
}

fn create(args: CreateArgs, dry_run: bool, context: &Context<'_, '_>) -> anyhow::Result<Keystore> {
    let body = KeystoreCreate {
        kind: PKCS11.to_owned(),
        vault: IdRef {
            id: find::vault_id(&context.client, &args.vault)?,
        },
        name: args.name,
        description: args.description,
        location: args.location,
        groups: Some(args.groups),
        pkcs11_agent_endpoint: args.endpoint,
        pkcs11_agent_identity: args.agent,
        pkcs11_variant: Some(args.variant),
        pkcs11_strategy: None,
    };
    let mut change = Change::with_body(&body)?;
    if dry_run {
        change = change.asking("dry_run", "true");
    }
    let made = context
        .client
        .change(Verb::Post, "/api/v4/keystores", &change)?;
    Ok(made.value)
}

fn list(
    vault: Option<String>,
    group: Option<String>,
    context: &mut Context<'_, '_>,
) -> anyhow::Result<Exit> {
    let vault = vault.map(|named| find::vault_id(&context.client, &named));
    let vault = vault.transpose()?;
    let mut query = Vec::new();
    query.extend(vault.as_deref().map(|id| ("vault.id", id)));
    query.extend(group.as_deref().map(|group| ("group", group)));
    let found = context
        .client
        .all::<KeystoreList>("/api/v4/keystores", &query)?;
    let header = [
        "NAME", "VARIANT", "GROUPS", "HEALTH", "TOKEN", "VAULT", "ID",
    ];
    context.show_list(&found, &header, row)
}

fn status(named: &Named, wait: Wait, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let path = keystore_path(&id(named, context)?);
    let seen = context.client.one(&path)?.value;
    let Keystore {
        status,
        differences,
        ..
    } = well(seen, wait, context)?;
    let now = context.now;
    context.show(&status, |status| {
        let facts = fields(&[
            ("Health", health(status.health_status).to_owned()),
            ("Message", status.message.clone()),
            ("Looked at", looked(status, now)),
            ("Unmanaged keys", status.unmanaged_count.to_string()),
        ]);
        facts + &lost(&differences)
    })?;
    Ok(exit(&status))
}

const fn exit(status: &KeystoreStatus) -> Exit {
    match status.health_status {
        HealthStatus::Ok => Exit::Done,
        HealthStatus::NotResponding
        | HealthStatus::ConfigurationError
        | HealthStatus::PendingCheck => Exit::NotYet,
    }
}

/// Waits until a keystore is well, if that was asked for; gives it as it was last.
fn well(
    mut keystore: Keystore,
    wait: Wait,
    context: &mut Context<'_, '_>,
) -> anyhow::Result<Keystore> {
    let Some(limit_s) = wait.limit_s else {
        return Ok(keystore);
    };
    let mut pace = Pace::new(Duration::from_secs(limit_s));
    let mut said = String::new();
    while keystore.status.health_status != HealthStatus::Ok {
        if said != keystore.status.message {
            said.clone_from(&keystore.status.message);
            context.note(&format!("  {}  {said}", keystore.name))?;
        }
        if !pace.pause() {
            break;
        }
        keystore = context.client.one(&keystore_path(&keystore.id))?.value;
    }
    Ok(keystore)
}

fn update(args: UpdateArgs, context: &Context<'_, '_>) -> anyhow::Result<Keystore> {
    let named = &args.named;
    let seen = find::keystore(&context.client, named.vault.as_deref(), &named.keystore)?;
    let mut groups: BTreeSet<String> = seen.value.groups.iter().cloned().collect();
    groups.retain(|group| !args.remove_groups.contains(group));
    groups.extend(args.add_groups.iter().cloned());
    let regrouped = !(args.add_groups.is_empty() && args.remove_groups.is_empty());
    let body = KeystorePatch {
        name: args.name,
        description: args.description,
        location: args.location,
        groups: regrouped.then(|| groups.into_iter().collect()),
        pkcs11_agent_endpoint: args.endpoint,
        pkcs11_agent_identity: args.agent,
        pkcs11_strategy: args.strategy,
    };
    let change = Change::with_body(&body)?.resting_on(&seen);
    let path = keystore_path(&seen.value.id);
    Ok(context.client.change(Verb::Patch, &path, &change)?.value)
}

fn choice(name: &str) -> Result<StrategyChoice, String> {
    StrategyChoice::from_name(name).ok_or_else(|| "auto, flags, copy or withdraw".to_owned())
}

const fn health(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Ok => "ok",
        HealthStatus::NotResponding => "not responding",
        HealthStatus::ConfigurationError => "configuration error",
        HealthStatus::PendingCheck => "pending check",
    }
}

fn row(keystore: &Keystore) -> Vec<String> {
    vec![
        keystore.name.clone(),
        keystore.pkcs11_variant.name().to_owned(),
        or_dash(&keystore.groups.join(", ")),
        health(keystore.status.health_status).to_owned(),
        or_dash(keystore.pkcs11_token.model.trim()),
        keystore.vault.name.clone(),
        keystore.id.clone(),
    ]
}

fn looked(status: &KeystoreStatus, now: UnixMs) -> String {
    let at = status.last_heartbeat.as_deref();
    at.map_or_else(String::new, |at| format!("{} ago", age(now, at)))
}

fn page(keystore: &Keystore, now: UnixMs) -> String {
    let token = &keystore.pkcs11_token;
    let health = health(keystore.status.health_status);
    let facts = fields(&[
        ("Keystore", keystore.name.clone()),
        ("Id", keystore.id.clone()),
        ("Vault", keystore.vault.name.clone()),
        ("Description", keystore.description.clone()),
        ("Location", keystore.location.clone()),
        ("Variant", keystore.pkcs11_variant.name().to_owned()),
        ("Groups", or_dash(&keystore.groups.join(", "))),
        ("Health", format!("{health}: {}", keystore.status.message)),
        ("Looked at", looked(&keystore.status, now)),
        (
            "Unmanaged keys",
            keystore.status.unmanaged_count.to_string(),
        ),
        ("Agent", keystore.pkcs11_agent_endpoint.clone()),
        ("Agent's name", keystore.pkcs11_agent_identity.clone()),
        ("Agent's key", keystore.pkcs11_agent_key.clone()),
        (
            "Token",
            format!("{} (serial {})", token.label, token.serial),
        ),
        (
            "Model",
            format!("{} {} {}", token.manufacturer, token.model, token.firmware)
                .trim_end()
                .to_owned(),
        ),
        ("Library", token.library.clone()),
        ("Disables by", keystore.pkcs11_strategy.clone()),
    ]);
    facts + &lost(&keystore.differences)
}

/// What its token can do no more, a line each.
fn lost(differences: &[Difference]) -> String {
    let line = |one: &Difference| format!("\n{}", weighed(one));
    let lines: String = differences.iter().map(line).collect();
    if lines.is_empty() {
        lines
    } else {
        format!("\n{lines}")
    }
}
