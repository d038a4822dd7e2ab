//! `lockstep vault`.

use clap::{Args, Subcommand};

use crate::cli::client::{Change, Verb};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find::{self, vault_path};
use crate::cli::table::fields;
use crate::model::capabilities::Strategy;
use crate::model::vault::{DriftPolicy, NO_HOLD};
use crate::rest::vault::{Vault, VaultCreate, VaultList, VaultPatch};

/// What to do with vaults.
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Make one.
    Create {
        /// Its name, 1 to 100 characters.
        #[arg(long)]
        name: String,
        /// The rest.
        #[command(flatten)]
        settings: Settings,
    },
    /// List them.
    List,
    /// Show one.
    Show {
        /// Its name or id.
        vault: String,
    },
    /// Change its name, its description, or how its keys are disabled.
    Update {
        /// Its name or id.
        vault: String,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// The rest.
        #[command(flatten)]
        settings: Settings,
    },
    /// Delete it; it must be empty.
    Delete {
        /// Its name or id.
        vault: String,
    },
}

/// What is written about a vault and how its keys are treated.
#[derive(Debug, Args)]
pub struct Settings {
    /// What it is for, at most 200 characters.
    #[arg(long)]
    description: Option<String>,
    /// The weakest way to disable its keys: flags, copy or withdraw; keys follow with their next change or sync.
    #[arg(long, value_parser = strategy)]
    strategy: Option<Strategy>,
    /// Internal keystores that must hold a key before it is first activated, 1 to 100.
    #[arg(long)]
    min_copies: Option<u32>,
    /// How long a destroyed key is only disabled and can be brought back: P0D (not at all) to P90D.
    #[arg(long)]
    destruction_hold: Option<String>,
    /// What is done about what somebody else changes on a token: report, restrict (what became too permissive is put right
    /// at once) or enforce (all that a sync would put right).
    #[arg(long, value_parser = drift)]
    drift_policy: Option<DriftPolicy>,
}

/// Runs it.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(command: VaultCommand, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    match command {
        VaultCommand::Create { name, settings } => {
            let body = VaultCreate {
                name,
                description: settings.description,
                recovery_key_label: None,
                pkcs11_strategy: settings.strategy,
                min_copies: settings.min_copies,
                destruction_hold: settings.destruction_hold,
                drift_policy: settings.drift_policy,
            };
            let change = Change::with_body(&body)?;
            let made = context
                .client
                .change::<Vault>(Verb::Post, "/api/v4/vaults", &change)?;
            context.show(&made.value, |vault| {
                format!("vault {} made: {}", vault.name, vault.id)
            })?;
        }
        VaultCommand::List => {
            let found = context.client.all::<VaultList>("/api/v4/vaults", &[])?;
            let header = [
                "NAME",
                "KEYS",
                "TEMPLATES",
                "KEYSTORES",
                "DESCRIPTION",
                "ID",
            ];
            return context.show_list(&found, &header, row);
        }
        VaultCommand::Show { vault } => {
            let vault = find::vault(&context.client, &vault)?.value;
            context.show(&vault, page)?;
        }
        VaultCommand::Update {
            vault,
            name,
            settings,
        } => {
            let now = find::vault(&context.client, &vault)?;
            let body = VaultPatch {
                name,
                description: settings.description,
                recovery_key_label: None,
                pkcs11_strategy: settings.strategy,
                min_copies: settings.min_copies,
                destruction_hold: settings.destruction_hold,
                drift_policy: settings.drift_policy,
            };
            let change = Change::with_body(&body)?.resting_on(&now);
            let path = vault_path(&now.value.id);
            let changed = context.client.change(Verb::Patch, &path, &change)?.value;
            context.show(&changed, page)?;
        }
        VaultCommand::Delete { vault } => {
            let now = find::vault(&context.client, &vault)?;
            let change = Change::default().resting_on(&now);
            context.client.remove(&vault_path(&now.value.id), &change)?;
            context.say(&format!("vault {} deleted", now.value.name))?;
        }
    }
    Ok(Exit::Done)
}

fn strategy(name: &str) -> Result<Strategy, String> {
    Strategy::from_name(name).ok_or_else(|| "flags, copy or withdraw".to_owned())
}

fn drift(name: &str) -> Result<DriftPolicy, String> {
    DriftPolicy::from_name(name).ok_or_else(|| "report, restrict or enforce".to_owned())
}

/// Nothing where nothing is demanded.
fn disables_by(vault: &Vault) -> String {
    match vault.pkcs11_strategy {
        Strategy::Flags => String::new(),
        demanded @ (Strategy::Copy | Strategy::Withdraw) => {
            format!("at least {}", demanded.name())
        }
    }
}

/// Nothing where one is enough.
fn demanded(vault: &Vault) -> String {
    match vault.min_copies {
        0 | 1 => String::new(),
        copies => format!("{copies} before a key is activated"),
    }
}

fn row(vault: &Vault) -> Vec<String> {
    vec![
        vault.name.clone(),
        vault.keys_count.to_string(),
        vault.key_templates_count.to_string(),
        vault.keystores_count.to_string(),
        vault.description.clone(),
        vault.id.clone(),
    ]
}

/// Nothing where destruction is not held.
fn hold(vault: &Vault) -> String {
    Some(&vault.destruction_hold)
        .filter(|period| *period != NO_HOLD)
        .cloned()
        .unwrap_or_default()
}

/// Nothing where people see to it.
fn drift_text(policy: DriftPolicy) -> String {
    match policy {
        DriftPolicy::Report => String::new(),
        DriftPolicy::Restrict => "restrict: what became too permissive is put right".to_owned(),
        DriftPolicy::Enforce => "enforce: what a sync puts right is put right".to_owned(),
    }
}

fn page(vault: &Vault) -> String {
    fields(&[
        ("Vault", vault.name.clone()),
        ("Id", vault.id.clone()),
        ("Description", vault.description.clone()),
        ("Disables by", disables_by(vault)),
        ("Copies", demanded(vault)),
        ("Destruction held for", hold(vault)),
        ("Drift", drift_text(vault.drift_policy)),
        ("Keys", vault.keys_count.to_string()),
        ("Templates", vault.key_templates_count.to_string()),
        ("Keystores", vault.keystores_count.to_string()),
        (
            "Made",
            format!("{} by {}", vault.stamps.created_at, vault.stamps.created_by),
        ),
        (
            "Changed",
            format!("{} by {}", vault.stamps.updated_at, vault.stamps.updated_by),
        ),
    ])
}
