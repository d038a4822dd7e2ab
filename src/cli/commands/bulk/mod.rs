//! `lockstep bulk`: one action on many keys, in waves.

mod page;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::client::{Answer, Change, Verb};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::wait::{Pace, WAIT_S_DEFAULT};
use crate::model::bulk::{BulkAction, Late, Outcome, PauseReason, StopOn, WaveSize};
use crate::rest::bulk::{
    Bulk, BulkCreate, BulkFilter, BulkKeyList, BulkList, BulkPlan, BulkResume,
};
use crate::rest::list::IdRef;

const BULK: &str = "/api/lockstep/v1/bulk_changes";

/// What to do with many keys, or with a bulk change.
#[derive(Debug, Subcommand)]
pub enum BulkCommand {
    /// Activate keys.
    Activate(Box<Asked>),
    /// Deactivate keys: all at once, unless waves are asked for.
    Deactivate(Box<Asked>),
    /// Say that the material of keys is known to others: all at once, unless waves are asked for.
    Compromise(Box<Asked>),
    /// Erase the material of keys everywhere, for ever.
    Destroy {
        #[command(flatten)]
        asked: Box<Asked>,
        /// Do not ask back. Without a terminal nobody is asked.
        #[arg(long)]
        yes: bool,
    },
    /// Carry out again what is wanted of keys, wherever it is not so.
    Sync(Box<Asked>),
    /// Make the next version of keys.
    Rotate(Box<Asked>),
    /// Have keys follow their templates again.
    UpdateFromTemplate(Box<Asked>),
    /// List bulk changes, newest first.
    List {
        /// Only those that are running or paused.
        #[arg(long)]
        open: bool,
    },
    /// Show how far one is.
    Show {
        /// Its id.
        id: String,
        /// Its keys too: all, or those with these outcomes, joined by commas.
        #[arg(
            long,
            value_delimiter = ',',
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "pending,changing,done,refused,skipped",
            value_parser = outcome
        )]
        keys: Vec<Outcome>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Change nothing more until it is resumed.
    Pause {
        /// Its id.
        id: String,
    },
    /// Go on: what was refused is tried again.
    Resume {
        /// Its id.
        id: String,
        /// Leave what was refused as it is, and wait no more for a wave that is not confirmed.
        #[arg(long)]
        leave_behind: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Change nothing more, ever. What was changed stays.
    Cancel {
        /// Its id.
        id: String,
    },
}

/// How long to wait.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Wait until it has ended or is paused, at most this many seconds; exits with 75 if it goes on.
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

/// Which keys, and in which waves.
#[derive(Debug, Args)]
pub struct Asked {
    /// Keys that fit: state=A,B, template=NAME, keystore=NAME, label=TEXT; several must all fit.
    #[arg(long = "filter", value_name = "NAME=VALUE", value_parser = pair)]
    filters: Vec<(String, String)>,
    /// The vault they are in.
    #[arg(long)]
    vault: Option<String>,
    /// All keys that are not destroyed.
    #[arg(long, conflicts_with_all = ["filters", "vault"])]
    all: bool,
    /// A key, by label or id; may be given more than once, in the order in which they go.
    #[arg(long = "key", value_name = "KEY", conflicts_with_all = ["filters", "all"])]
    keys: Vec<String>,
    /// Sizes of the waves, joined by commas: a number of keys, a part of all (10%), group:NAME (keys whose keystores are all
    /// in that group), and last rest. Left out: 1,10%,rest; to deactivate: rest.
    #[arg(long, value_delimiter = ',')]
    waves: Option<Vec<WaveSize>>,
    /// What stops it: out_of_step, refusal or never.
    #[arg(long, value_parser = stop_on)]
    stop_on: Option<StopOn>,
    /// Seconds within which a wave must be confirmed after its last key.
    #[arg(long, value_name = "SECS")]
    within: Option<u32>,
    /// What happens when it is not: pause or go_on.
    #[arg(long, value_parser = late)]
    late: Option<Late>,
    /// Show what it would do, key by key; nothing is changed.
    #[arg(long)]
    dry_run: bool,
    /// Only if it would do what the plan of this digest says.
    #[arg(long, value_name = "DIGEST")]
    plan: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn names<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> String {
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    names.join(", ")
}

fn outcome(text: &str) -> Result<Outcome, String> {
    Outcome::from_name(text).ok_or_else(|| names(Outcome::ALL, Outcome::name))
}

fn stop_on(text: &str) -> Result<StopOn, String> {
    StopOn::from_name(text).ok_or_else(|| names(StopOn::ALL, StopOn::name))
}

fn late(text: &str) -> Result<Late, String> {
    Late::from_name(text).ok_or_else(|| names(Late::ALL, Late::name))
}

/// Runs it.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(command: BulkCommand, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    match command {
        BulkCommand::Activate(asked) => ask(BulkAction::Activate, &asked, context),
        BulkCommand::Deactivate(asked) => ask(BulkAction::Deactivate, &asked, context),
        BulkCommand::Compromise(asked) => ask(BulkAction::Compromise, &asked, context),
        BulkCommand::Destroy { asked, yes } => destroy(&asked, yes, context),
        BulkCommand::Sync(asked) => ask(BulkAction::Sync, &asked, context),
        BulkCommand::Rotate(asked) => ask(BulkAction::Rotate, &asked, context),
        BulkCommand::UpdateFromTemplate(asked) => {
            ask(BulkAction::UpdateFromTemplate, &asked, context)
        }
        BulkCommand::List { open } => list(open, context),
        BulkCommand::Show { id, keys, wait } => show(&id, &keys, wait, context),
        BulkCommand::Pause { id } => {
            let now = change(&id, "pause", &[], context)?;
            context.show(&now, page::bulk)?;
            Ok(Exit::Done)
        }
        BulkCommand::Cancel { id } => {
            let now = change(&id, "cancel", &[], context)?;
            context.show(&now, page::bulk)?;
            Ok(Exit::Done)
        }
        BulkCommand::Resume {
            id,
            leave_behind,
            wait,
        } => {
            let body = serde_json::to_vec(&BulkResume { leave_behind })?;
            let now = change(&id, "resume", &body, context)?;
            if wait.limit_s.is_some() {
                return show(&id, &[], wait, context);
            }
            context.show(&now, page::bulk)?;
            Ok(Exit::Done)
        }
    }
}

/// What is asked for, as the API has it.
fn request(
    action: BulkAction,
    asked: &Asked,
    context: &Context<'_, '_>,
) -> anyhow::Result<BulkCreate> {
    let client = &context.client;
    let vault = asked.vault.as_deref();
    let mut filter = BulkFilter {
        vault: vault
            .map(|named| find::vault_id(client, named))
            .transpose()?,
        ..BulkFilter::default()
    };
    for (name, value) in &asked.filters {
        let place = match name.as_str() {
            "state" => &mut filter.state,
            "label" => &mut filter.label,
            "template" | "template.id" => &mut filter.template,
            "keystore" | "keystore.id" => &mut filter.keystore,
            "vault" | "vault.id" => &mut filter.vault,
            _unknown => {
                let known = "state, template, keystore, label and vault";
                anyhow::bail!(usage(format!("no filter {name:?}: there are {known}")));
            }
        };
        if place.is_some() {
            anyhow::bail!(usage(format!("{name} is given twice")));
        }
        *place = Some(match name.as_str() {
            "template" => find::template(client, vault, value)?.value.id,
            "keystore" => find::keystore_id(client, vault, value)?,
            "vault" => find::vault_id(client, value)?,
            _as_it_is => value.clone(),
        });
    }
    let mut keys = Vec::new();
    for named in &asked.keys {
        let id = find::key(client, vault, named)?.value.id;
        keys.push(IdRef { id });
    }
    let is_said = asked.all || vault.is_some() || !asked.filters.is_empty();
    if keys.is_empty() && !is_said {
        let which = "say which keys: --filter, --vault, --key or --all";
        anyhow::bail!(usage(which.to_owned()));
    }
    Ok(BulkCreate {
        action,
        filter: keys.is_empty().then_some(filter),
        managed_keys: (!keys.is_empty()).then_some(keys),
        waves: asked.waves.clone(),
        stop_on: asked.stop_on,
        confirm_within_s: asked.within,
        late: asked.late,
        plan_digest: asked.plan.clone(),
    })
}

fn usage(problem: String) -> crate::cli::client::ClientError {
    crate::cli::client::ClientError::Usage(problem)
}

fn planned(request: &BulkCreate, context: &Context<'_, '_>) -> anyhow::Result<BulkPlan> {
    let change = Change::with_body(request)?.asking("dry_run", "true");
    Ok(context.client.change(Verb::Post, BULK, &change)?.value)
}

fn ask(action: BulkAction, asked: &Asked, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let request = request(action, asked, context)?;
    if asked.dry_run {
        let plan = planned(&request, context)?;
        context.show(&plan, page::plan)?;
        return Ok(if plan.refused > 0 {
            Exit::Refused
        } else {
            Exit::Done
        });
    }
    begin(&request, asked.wait, context)
}

/// Asks back on a terminal, then destroys what was shown.
fn destroy(asked: &Asked, yes: bool, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let input = std::io::stdin();
    if yes || asked.dry_run || !input.is_terminal() {
        return ask(BulkAction::Destroy, asked, context);
    }
    let mut request = request(BulkAction::Destroy, asked, context)?;
    let plan = planned(&request, context)?;
    writeln!(context.terminal.err, "{}", page::plan(&plan))?;
    writeln!(
        context.terminal.err,
        "This erases {} keys everywhere, for ever. Type how many they are to go on:",
        plan.change
    )?;
    let mut typed = String::new();
    input.read_line(&mut typed)?;
    if typed.trim() != plan.change.to_string() {
        writeln!(context.terminal.err, "Not that number: nothing was done.")?;
        return Ok(Exit::Usage);
    }
    request.plan_digest = Some(plan.digest);
    begin(&request, asked.wait, context)
}

fn begin(request: &BulkCreate, wait: Wait, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let made: Bulk = context
        .client
        .change(Verb::Post, BULK, &Change::with_body(request)?)?
        .value;
    let open: BulkList = context
        .client
        .get(BULK, &[("state", "running,paused")])?
        .value;
    let others = open.bulk_changes.iter().filter(|one| one.id != made.id);
    let running = others.filter(|one| one.state == "running").count();
    if running > 0 {
        // Who takes use away may want to cancel what gives it.
        context.note(&format!(
            "{running} other bulk changes go on beside it: lockstep bulk list --open"
        ))?;
    }
    if wait.limit_s.is_none() {
        context.show(&made, page::bulk)?;
        return Ok(Exit::Done);
    }
    context.note(&format!("bulk change {}", made.id))?;
    show(&made.id, &[], wait, context)
}

fn list(open: bool, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let query: &[(&str, &str)] = if open {
        &[("state", "running,paused")]
    } else {
        &[]
    };
    let found = context.client.all::<BulkList>(BULK, query)?;
    context.show_list(&found, &page::HEADER, page::row)
}

fn show(
    id: &str,
    outcomes: &[Outcome],
    wait: Wait,
    context: &mut Context<'_, '_>,
) -> anyhow::Result<Exit> {
    let path = format!("{BULK}/{id}");
    let mut bulk: Bulk = context.client.one(&path)?.value;
    if let Some(limit_s) = wait.limit_s {
        let mut pace = Pace::new(Duration::from_secs(limit_s));
        let mut said = String::new();
        loop {
            let now = page::progress(&bulk);
            if now != said {
                context.note(&format!("  {now}"))?;
                said = now;
            }
            if bulk.state != "running" || !pace.pause() {
                break;
            }
            bulk = context.client.one(&path)?.value;
        }
    }
    context.show(&bulk, page::bulk)?;
    if !outcomes.is_empty() {
        let names: Vec<&str> = outcomes.iter().map(|one| one.name()).collect();
        let names = names.join(",");
        let of = format!("{path}/managed_keys");
        let keys = context
            .client
            .all::<BulkKeyList>(&of, &[("outcome", &names)])?;
        context.show_list(&keys, &page::KEY_HEADER, page::key_row)?;
    }
    Ok(match wait.limit_s {
        None => Exit::Done,
        Some(_) => ended(&bulk),
    })
}

/// What a wait for it ends with.
fn ended(bulk: &Bulk) -> Exit {
    let stop = bulk.paused.as_ref().map(|paused| paused.reason);
    match (bulk.state.as_str(), stop) {
        ("done", _) if bulk.total.refused > 0 => Exit::Refused,
        ("done", _) if bulk.total.changing > 0 => Exit::NotYet,
        ("done", _) => Exit::Done,
        (_, Some(PauseReason::Refused | PauseReason::OutOfStep)) | ("cancelled", _) => {
            Exit::Refused
        }
        (_running_or_paused, _) => Exit::NotYet,
    }
}

fn change(id: &str, action: &str, body: &[u8], context: &Context<'_, '_>) -> anyhow::Result<Bulk> {
    let path = format!("{BULK}/{id}");
    let seen: Answer<Bulk> = context.client.one(&path)?;
    let change = Change {
        body: (!body.is_empty()).then(|| body.to_vec()),
        ..Change::default()
    };
    let change = change.resting_on(&seen);
    let path = format!("{path}/{action}");
    Ok(context.client.change(Verb::Post, &path, &change)?.value)
}
