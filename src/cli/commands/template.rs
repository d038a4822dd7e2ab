//! `lockstep template`.

use clap::{Args, Subcommand};

use crate::cli::client::{Change, ClientError, Verb};
use crate::cli::commands::words::{algorithm, deactivated_usage, on_expiry, state, usage};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find::{self, template_path};
use crate::cli::status::state_words;
use crate::cli::table::fields;
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec, Usage};
use crate::model::lifecycle::ManagedState;
use crate::model::template::OnExpiry;
use crate::rest::keystore::PKCS11;
use crate::rest::list::IdRef;
use crate::rest::template::{
    KeyProperties, KeyPropertiesPatch, Template, TemplateCreate, TemplateKeystore,
    TemplateKeystorePatch, TemplateList, TemplatePatch, TemplateState,
};

/// What to do with templates.
#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Make one.
    Create(Box<CreateArgs>),
    /// List them.
    List {
        /// Only those of this vault.
        #[arg(long)]
        vault: Option<String>,
    },
    /// Show one.
    Show(Named),
    /// Change what keys made from now on look like; keys there are follow by `key update-from-template`.
    Update(Box<UpdateArgs>),
    /// Hide it: it makes no more keys.
    Archive(Named),
    /// Bring it back.
    Unarchive(Named),
    /// Delete it; no key may refer to it.
    Delete(Named),
}

/// Names a template.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name or id.
    template: String,
    /// The vault it is in, where its name is not unique.
    #[arg(long)]
    vault: Option<String>,
}

/// What a new template needs.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The vault it belongs to.
    #[arg(long)]
    vault: String,
    /// Its name: 1 to 30 letters, digits and -, a letter first.
    #[arg(long)]
    name: String,
    /// aes, hmac, ec, rsa or des.
    #[arg(long, value_parser = algorithm)]
    algorithm: Algorithm,
    /// Bits.
    #[arg(long)]
    size: u32,
    /// The keystore group that its keys go to.
    #[arg(long)]
    group: String,
    /// What active keys may do, such as encrypt,decrypt; left out: what is usual for the algorithm.
    #[arg(long, value_delimiter = ',', value_parser = usage)]
    usage: Option<Vec<Usage>>,
    /// What deactivated keys may still do: none, or process_only (decrypt, verify, unwrap).
    #[arg(long, value_parser = deactivated_usage)]
    deactivated_usage: Option<DeactivatedUsage>,
    /// Allow usages that undo each other's protection.
    #[arg(long)]
    allow_mixed_usage: bool,
    /// State of a new key: pre_activation or active.
    #[arg(long, default_value = "pre_activation", value_parser = state)]
    state: ManagedState,
    /// From creation to activation, an ISO 8601 period.
    #[arg(long, default_value = "P0D")]
    activation_period: String,
    /// From creation to expiration, an ISO 8601 period.
    #[arg(long, default_value = "P1Y")]
    expiration_period: String,
    /// Have rotating a key deactivate the version before.
    #[arg(long)]
    deactivate_on_rotation: bool,
    /// Rotate its keys by themselves, each after this ISO 8601 period, such as P90D.
    #[arg(long)]
    rotation_interval: Option<String>,
    /// What a key's expiration date does: warn, or deactivate.
    #[arg(long, default_value = "warn", value_parser = on_expiry)]
    on_expiry: OnExpiry,
    /// Labels of its keys, with `<TAG>` places.
    #[arg(long)]
    naming_scheme: Option<String>,
    /// What it is for, at most 200 characters.
    #[arg(long)]
    description: Option<String>,
}

/// What of a template can change.
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
    /// Another keystore group.
    #[arg(long)]
    group: Option<String>,
    /// Other bits.
    #[arg(long)]
    size: Option<u32>,
    /// Another state of new keys.
    #[arg(long, value_parser = state)]
    state: Option<ManagedState>,
    /// Another period to activation.
    #[arg(long)]
    activation_period: Option<String>,
    /// Another period to expiration.
    #[arg(long)]
    expiration_period: Option<String>,
    /// Whether rotating a key deactivates the version before.
    #[arg(long)]
    deactivate_on_rotation: Option<bool>,
    /// Another period from rotation to rotation; empty: only people rotate.
    #[arg(long)]
    rotation_interval: Option<String>,
    /// What a key's expiration date does: warn, or deactivate.
    #[arg(long, value_parser = on_expiry)]
    on_expiry: Option<OnExpiry>,
    /// Another usage of active keys.
    #[arg(long, value_delimiter = ',', value_parser = usage)]
    usage: Option<Vec<Usage>>,
    /// Another usage of deactivated keys.
    #[arg(long, value_parser = deactivated_usage)]
    deactivated_usage: Option<DeactivatedUsage>,
}

/// Runs it.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(command: TemplateCommand, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    match command {
        TemplateCommand::Create(args) => create(*args, context)?,
        TemplateCommand::List { vault } => {
            let vault = vault.map(|named| find::vault_id(&context.client, &named));
            let vault = vault.transpose()?;
            let query: Vec<_> = vault.iter().map(|id| ("vault.id", id.as_str())).collect();
            let found = context
                .client
                .all::<TemplateList>("/api/v4/templates", &query)?;
            let header = [
                "NAME", "KEYS OF", "USAGE", "GROUP", "STATE", "KEYS", "VAULT", "ID",
            ];
            return context.show_list(&found, &header, row);
        }
        TemplateCommand::Show(named) => {
            let found = find::template(&context.client, named.vault.as_deref(), &named.template)?;
            context.show(&found.value, page)?;
        }
        TemplateCommand::Update(args) => update(*args, context)?,
        TemplateCommand::Archive(named) => act(&named, "archive", context)?,
        TemplateCommand::Unarchive(named) => act(&named, "unarchive", context)?,
        TemplateCommand::Delete(named) => {
            let now = find::template(&context.client, named.vault.as_deref(), &named.template)?;
            let change = Change::default().resting_on(&now);
            context
                .client
                .remove(&template_path(&now.value.id), &change)?;
            context.say(&format!("template {} deleted", now.value.name))?;
        }
    }
    Ok(Exit::Done)
}

fn create(args: CreateArgs, context: &mut Context<'_, '_>) -> anyhow::Result<()> {
    // Said here already, with the sizes there are; the coordinator checks again.
    KeySpec::new(args.algorithm, args.size)
        .map_err(|invalid| ClientError::Usage(invalid.to_string()))?;
    let body = TemplateCreate {
        vault: IdRef {
            id: find::vault_id(&context.client, &args.vault)?,
        },
        name: args.name,
        key: KeyProperties {
            size: args.size.to_string(),
            algorithm: args.algorithm,
            activation_date: args.activation_period,
            expiration_date: args.expiration_period,
            state: args.state,
            deactivate_on_rotation: args.deactivate_on_rotation,
            rotation_interval: args.rotation_interval,
            on_expiry: args.on_expiry,
        },
        keystores: vec![TemplateKeystore {
            group: args.group,
            kind: PKCS11.to_owned(),
            naming_scheme: None,
            pkcs11_usage: args.usage,
            pkcs11_deactivated_usage: args.deactivated_usage,
            pkcs11_allow_mixed_usage: args.allow_mixed_usage.then_some(true),
        }],
        description: args.description,
        naming_scheme: args.naming_scheme,
        kinds: None,
        state: None,
    };
    let change = Change::with_body(&body)?;
    let made = context
        .client
        .change::<Template>(Verb::Post, "/api/v4/templates", &change)?;
    context.show(&made.value, |template| {
        format!("template {} made: {}", template.name, template.id)
    })
}

fn update(args: UpdateArgs, context: &mut Context<'_, '_>) -> anyhow::Result<()> {
    let named = &args.named;
    let now = find::template(&context.client, named.vault.as_deref(), &named.template)?;
    let keystore = TemplateKeystorePatch {
        group: args.group,
        kind: None,
        pkcs11_usage: args.usage,
        pkcs11_deactivated_usage: args.deactivated_usage,
        pkcs11_allow_mixed_usage: None,
    };
    let key = KeyPropertiesPatch {
        size: args.size.map(|bits| bits.to_string()),
        activation_date: args.activation_period,
        expiration_date: args.expiration_period,
        state: args.state,
        deactivate_on_rotation: args.deactivate_on_rotation,
        rotation_interval: args.rotation_interval,
        on_expiry: args.on_expiry,
    };
    let body = TemplatePatch {
        name: args.name,
        description: args.description,
        keystores: (keystore != TemplateKeystorePatch::default()).then(|| vec![keystore]),
        key: (key != KeyPropertiesPatch::default()).then_some(key),
    };
    let change = Change::with_body(&body)?.resting_on(&now);
    let path = template_path(&now.value.id);
    let changed = context.client.change(Verb::Patch, &path, &change)?.value;
    context.show(&changed, page)
}

fn act(named: &Named, action: &str, context: &mut Context<'_, '_>) -> anyhow::Result<()> {
    let now = find::template(&context.client, named.vault.as_deref(), &named.template)?;
    let path = format!("{}/{action}", template_path(&now.value.id));
    let change = Change::default().resting_on(&now);
    let changed = context.client.change(Verb::Post, &path, &change)?.value;
    context.show(&changed, page)
}

fn usages(keystore: &TemplateKeystore) -> String {
    let names = keystore.pkcs11_usage.iter().flatten().map(|u| u.name());
    names.collect::<Vec<_>>().join(",")
}

fn groups(template: &Template) -> String {
    let groups = template.keystores.iter().map(|k| k.group.as_str());
    groups.collect::<Vec<_>>().join(", ")
}

const fn state_name(state: TemplateState) -> &'static str {
    match state {
        TemplateState::Archived => "archived",
        TemplateState::Unarchived => "in use",
    }
}

fn row(template: &Template) -> Vec<String> {
    vec![
        template.name.clone(),
        format!("{}-{}", template.key.algorithm.name(), template.key.size),
        template.keystores.first().map(usages).unwrap_or_default(),
        groups(template),
        state_name(template.state).to_owned(),
        template.keys_count.to_string(),
        template.vault.name.clone(),
        template.id.clone(),
    ]
}

fn rotation(template: &Template) -> String {
    let key = &template.key;
    let before = if key.deactivate_on_rotation {
        "deactivates the version before"
    } else {
        "leaves the version before"
    };
    match &key.rotation_interval {
        None => format!("by hand; {before}"),
        Some(interval) => format!("every {interval}; {before}"),
    }
}

fn page(template: &Template) -> String {
    let keystore = template.keystores.first();
    let deactivated = keystore.and_then(|k| k.pkcs11_deactivated_usage);
    let deactivated = match deactivated {
        Some(DeactivatedUsage::ProcessOnly) => "process only",
        Some(DeactivatedUsage::None) | None => "none",
    };
    fields(&[
        ("Template", template.name.clone()),
        ("Id", template.id.clone()),
        ("Vault", template.vault.name.clone()),
        ("Description", template.description.clone()),
        ("Version", template.version.to_string()),
        ("State", state_name(template.state).to_owned()),
        (
            "Keys of",
            format!("{}-{}", template.key.algorithm.name(), template.key.size),
        ),
        ("Usage", keystore.map(usages).unwrap_or_default()),
        ("Deactivated usage", deactivated.to_owned()),
        ("New keys are", state_words(template.key.state)),
        ("Activation after", template.key.activation_date.clone()),
        ("Expiration after", template.key.expiration_date.clone()),
        ("At expiration", template.key.on_expiry.name().to_owned()),
        ("Rotation", rotation(template)),
        ("Keystore group", groups(template)),
        (
            "Naming scheme",
            template.naming_scheme.clone().unwrap_or_default(),
        ),
        ("Keys", template.keys_count.to_string()),
    ])
}
