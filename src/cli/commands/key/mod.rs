//! `lockstep key`: the records, the actions on them, where they are wanted, and what an action would do.

pub mod actions;
pub mod plan;
pub mod records;

use clap::{Args, Subcommand};

use crate::cli::commands::key::actions::Action;
use crate::cli::commands::key::plan::PlanArgs;
use crate::cli::commands::key::records::{CreateArgs, ListArgs, UpdateArgs};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::wait::WAIT_S_DEFAULT;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make one from a template.
    Create(Box<CreateArgs>),
    /// List them; destroyed ones only with --state.
    List(ListArgs),
    /// Show one with all its keystores.
    Show(Named),
    /// Change its label, description or dates.
    Update(Box<UpdateArgs>),
    /// Remove the record of a destroyed key.
    Delete {
        #[command(flatten)]
        named: Named,
        /// Even while some keystore has not confirmed the destruction.
        #[arg(long)]
        force: bool,
    },
    /// Install it where it is wanted and enable it there.
    Activate(Asked),
    /// Disable it everywhere.
    Deactivate(Asked),
    /// Say that its material is known to others: disabled everywhere, never active again.
    Compromise(Asked),
    /// Erase its material everywhere, for ever.
    Destroy {
        #[command(flatten)]
        asked: Asked,
        /// Do not ask back. Without a terminal nobody is asked.
        #[arg(long)]
        yes: bool,
    },
    /// Take back a destruction that is held.
    CancelDestruction(Asked),
    /// Make its next version and give it out; the version before is deactivated where the template says so.
    Rotate(Asked),
    /// List its versions.
    Versions(Named),
    /// Want it on more keystores.
    Assign(Targets),
    /// Want it on fewer keystores: it is disabled there, the material stays.
    Unassign(Targets),
    /// Want it on exactly these keystores.
    Targets(Targets),
    /// Follow its template again: properties, and all keystores of the template's group.
    UpdateFromTemplate(Asked),
    /// Carry out again what is wanted, wherever it is not so.
    Sync(Asked),
    /// Show what is true of it, keystore by keystore.
    Status(Asked),
    /// Look at all its keystores now.
    Verify(Named),
    /// Try it on all its keystores now.
    Prove(Named),
    /// Show what an action would do, keystore by keystore; nothing is changed.
    Plan(PlanArgs),
}

/// Names a key.
#[derive(Debug, Args)]
pub struct Named {
    /// Its label or id.
    pub key: String,
    /// The vault it is in, where its label is not unique.
    #[arg(long)]
    pub vault: Option<String>,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// Wait until every keystore has confirmed, at most this many seconds; exits with 75 if some have not.
    #[arg(
        long = "wait",
        value_name = "SECS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = WAIT_S_DEFAULT,
        value_parser = clap::value_parser!(u64).range(0..=86_400)
    )]
    pub limit_s: Option<u64>,
}

/// A key and how long to wait.
#[derive(Debug, Args)]
pub struct Asked {
    #[command(flatten)]
    pub(in crate::cli::commands::key) named: Named,
    #[command(flatten)]
    pub(in crate::cli::commands::key) wait: Wait,
}

/// A key, keystores, and how long to wait.
#[derive(Debug, Args)]
pub struct Targets {
    #[command(flatten)]
    pub(in crate::cli::commands::key) asked: Asked,
    /// Names or ids of keystores.
    #[arg(required = true, value_name = "KEYSTORE")]
    pub(in crate::cli::commands::key) keystores: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(command: KeyCommand, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    match command {
        KeyCommand::Create(args) => records::create(*args, context),
        KeyCommand::List(args) => records::list_all(&args, context),
        KeyCommand::Show(named) => records::show(&named, context),
        KeyCommand::Update(args) => records::update(*args, context),
        KeyCommand::Delete { named, force } => records::delete(&named, force, context),
        KeyCommand::Activate(asked) => actions::act(&asked, Action::Activate, context),
        KeyCommand::Deactivate(asked) => actions::act(&asked, Action::Deactivate, context),
        KeyCommand::Compromise(asked) => actions::act(&asked, Action::Compromise, context),
        KeyCommand::Destroy { asked, yes } => actions::destroy(&asked, yes, context),
        KeyCommand::CancelDestruction(asked) => {
            actions::act(&asked, Action::CancelDestruction, context)
        }
        KeyCommand::Rotate(asked) => actions::act(&asked, Action::Rotate, context),
        KeyCommand::Versions(named) => records::versions(&named, context),
        KeyCommand::Assign(targets) => actions::assign(&targets, context),
        KeyCommand::Unassign(targets) => actions::unassign(&targets, context),
        KeyCommand::Targets(targets) => actions::targets(&targets, context),
        KeyCommand::UpdateFromTemplate(asked) => {
            actions::act(&asked, Action::UpdateFromTemplate, context)
        }
        KeyCommand::Sync(asked) => actions::act(&asked, Action::Sync, context),
        KeyCommand::Status(asked) => actions::status(&asked, context),
        KeyCommand::Verify(named) => actions::look(&named, "verify", context),
        KeyCommand::Prove(named) => actions::look(&named, "prove", context),
        KeyCommand::Plan(args) => plan::run(&args, context),
    }
}
