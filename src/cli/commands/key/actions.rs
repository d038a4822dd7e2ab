//! Actions on keys: each rests on the key as it was just seen, and ends with what is true then.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use serde_json::Value;

use crate::cli::client::{Answer, Change, Verb};
use crate::cli::commands::key::{Asked, Named, Targets, Wait};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find::{self, key_path};
use crate::cli::status;
use crate::cli::wait;
use crate::model::text::printable;
use crate::rest::extension::TargetsPut;
use crate::rest::list::IdRef;
use crate::rest::managed_key::ManagedKey;
use crate::rest::status::{Phase, StatusInKeystores};

/// What can be asked of a key without saying more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// POST …/activate
    Activate,
    /// POST …/deactivate
    Deactivate,
    /// POST …/compromise
    Compromise,
    /// POST …/destroy
    Destroy,
    /// POST …/cancel_destruction
    CancelDestruction,
    /// POST …/rotate
    Rotate,
    /// POST …/update_from_template
    UpdateFromTemplate,
    /// POST …/sync_status_in_keystores
    Sync,
}

impl Action {
    fn path(self, id: &str) -> String {
        let name = match self {
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
            Self::Compromise => return extension(id, "compromise"),
            Self::Destroy => "destroy",
            Self::CancelDestruction => return extension(id, "cancel_destruction"),
            Self::Rotate => "rotate",
            Self::UpdateFromTemplate => "update_from_template",
            Self::Sync => "sync_status_in_keystores",
        };
        format!("{}/{name}", key_path(id))
    }
}

fn extension(id: &str, name: &str) -> String {
    format!("/api/lockstep/v1/managed_keys/{id}/{name}")
}

/// Finds a key by what people call it.
pub(in crate::cli::commands::key) fn named(
    named: &Named,
    context: &Context<'_, '_>,
) -> anyhow::Result<Answer<ManagedKey>> {
    let vault = named.vault.as_deref();
    Ok(find::key(&context.client, vault, &named.key)?)
}

/// Asks for the action.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn act(asked: &Asked, action: Action, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let seen = named(&asked.named, context)?;
    let path = action.path(&seen.value.id);
    let change = Change::default().resting_on(&seen);
    send(Verb::Post, &path, change, &seen, asked.wait, context)
}

/// Asks back on a terminal, then destroys.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn destroy(asked: &Asked, yes: bool, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let input = std::io::stdin();
    if yes || !input.is_terminal() {
        return act(asked, Action::Destroy, context);
    }
    let seen = named(&asked.named, context)?;
    let label = printable(&seen.value.label);
    writeln!(
        context.terminal.err,
        "This erases the key everywhere, for ever. Type its label ({label}) to go on:"
    )?;
    let mut typed = String::new();
    input.read_line(&mut typed)?;
    if typed.trim() != seen.value.label {
        writeln!(context.terminal.err, "Not the label: nothing was done.")?;
        return Ok(Exit::Usage);
    }
    act(asked, Action::Destroy, context)
}

/// Sends a change of a key, waits if that was asked for, and shows the key as it is then.
fn send(
    verb: Verb,
    path: &str,
    mut change: Change,
    seen: &Answer<ManagedKey>,
    wait: Wait,
    context: &mut Context<'_, '_>,
) -> anyhow::Result<Exit> {
    if wait.limit_s.is_some() {
        change = change.at_once();
    }
    context.client.change::<Value>(verb, path, &change)?;
    settled(&seen.value.id, wait, context)
}

/// Waits if that was asked for, and shows the key as it is then.
pub(in crate::cli::commands::key) fn settled(
    id: &str,
    wait: Wait,
    context: &mut Context<'_, '_>,
) -> anyhow::Result<Exit> {
    let key = match wait.limit_s {
        Some(limit_s) => wait::until_settled(context, id, Duration::from_secs(limit_s))?,
        None => context.client.one(&key_path(id))?.value,
    };
    let now = context.now;
    let in_step = key.progress.phase == Phase::InStep;
    context.show(&key, |key| {
        if in_step {
            status::headline(key)
        } else {
            status::page(key, now)
        }
    })?;
    match wait.limit_s {
        Some(_) if !in_step && wait::is_refused(&key) => Ok(Exit::Refused),
        Some(_) if !in_step => Ok(Exit::NotYet),
        Some(_) | None => Ok(Exit::Done),
    }
}

/// Shows what is true of a key; with `--wait` waits until it is as wanted.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn status(asked: &Asked, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let mut key = named(&asked.named, context)?.value;
    if let Some(limit_s) = asked.wait.limit_s {
        key = wait::until_in_step(context, &key.id, Duration::from_secs(limit_s))?;
    }
    let now = context.now;
    context.show(&key, |key| status::page(key, now))?;
    if asked.wait.limit_s.is_some() && key.progress.phase != Phase::InStep {
        return Ok(Exit::NotYet);
    }
    Ok(Exit::Done)
}

/// Looks at, or tries, a key on all its keystores now.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn look(key: &Named, how: &str, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let mut seen = named(key, context)?;
    let change = Change::default().resting_on(&seen);
    let path = extension(&seen.value.id, how);
    let looked: StatusInKeystores = context.client.change(Verb::Post, &path, &change)?.value;
    seen.value.progress = looked.progress;
    seen.value.status_in_keystores = looked.status_in_keystores;
    let now = context.now;
    context.show(&seen.value, |key| status::page(key, now))?;
    match seen.value.progress.phase {
        Phase::InStep => Ok(Exit::Done),
        Phase::Changing | Phase::OutOfStep | Phase::Unknown => Ok(Exit::NotYet),
    }
}

/// Wants a key on more keystores.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn assign(targets: &Targets, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    put(targets, context, |mut wanted, named| {
        wanted.extend(named);
        wanted
    })
}

/// Wants a key on fewer keystores.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn unassign(targets: &Targets, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    put(targets, context, |wanted, named| &wanted - &named)
}

/// Wants a key on exactly these keystores.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn targets(targets: &Targets, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    put(targets, context, |_wanted, named| named)
}

type Ids = BTreeSet<String>;

fn put(
    targets: &Targets,
    context: &mut Context<'_, '_>,
    combine: impl FnOnce(Ids, Ids) -> Ids,
) -> anyhow::Result<Exit> {
    let asked = &targets.asked;
    let seen = named(&asked.named, context)?;
    // A name is looked for in the key's own vault: keystores of another one cannot be its targets.
    let vault = seen.value.vault.id.as_str();
    let mut ids = Ids::new();
    for keystore in &targets.keystores {
        ids.insert(find::keystore_id(&context.client, Some(vault), keystore)?);
    }
    let wanted: Ids = seen
        .value
        .referenced_keystores
        .iter()
        .map(|keystore| keystore.id.clone())
        .collect();
    let body = TargetsPut {
        keystores: combine(wanted, ids)
            .into_iter()
            .map(|id| IdRef { id })
            .collect(),
    };
    let change = Change::with_body(&body)?.resting_on(&seen);
    let path = extension(&seen.value.id, "targets");
    send(Verb::Put, &path, change, &seen, asked.wait, context)
}
