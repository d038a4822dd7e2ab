//! What an action would do.

use clap::{Args, ValueEnum};

use crate::cli::client::{Change, Verb};
use crate::cli::commands::key::Named;
use crate::cli::commands::key::actions::named;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::model::text::printable;
use crate::rest::extension::{KeystorePlan, Plan, PlanAction, PlanRequest};
use crate::rest::list::IdRef;

/// Which action on which key.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    named: Named,
    /// The action.
    #[arg(value_enum)]
    action: PlannedAction,
    /// With targets: a keystore that it would be wanted on; may be given more than once.
    #[arg(long = "keystore", value_name = "KEYSTORE")]
    keystores: Vec<String>,
}

/// What can be planned.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PlannedAction {
    /// `key activate`
    Activate,
    /// `key deactivate`
    Deactivate,
    /// `key compromise`
    Compromise,
    /// `key destroy`
    Destroy,
    /// `key sync`
    Sync,
    /// `key targets`
    Targets,
    /// `key update-from-template`
    UpdateFromTemplate,
}

impl From<PlannedAction> for PlanAction {
    fn from(action: PlannedAction) -> Self {
        match action {
            PlannedAction::Activate => Self::Activate,
            PlannedAction::Deactivate => Self::Deactivate,
            PlannedAction::Compromise => Self::Compromise,
            PlannedAction::Destroy => Self::Destroy,
            PlannedAction::Sync => Self::Sync,
            PlannedAction::Targets => Self::Targets,
            PlannedAction::UpdateFromTemplate => Self::UpdateFromTemplate,
        }
    }
}

/// Runs it; exits with 3 if anything would be refused.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(args: &PlanArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let seen = named(&args.named, context)?.value;
    let mut keystores = Vec::new();
    for keystore in &args.keystores {
        let id = find::keystore_id(&context.client, Some(&seen.vault.id), keystore)?;
        keystores.push(IdRef { id });
    }
    let body = PlanRequest {
        managed_key: IdRef { id: seen.id },
        action: args.action.into(),
        keystores: (!keystores.is_empty()).then_some(keystores),
    };
    let change = Change::with_body(&body)?;
    let plan: Plan = context
        .client
        .change(Verb::Post, "/api/lockstep/v1/plan", &change)?
        .value;
    context.show(&plan, page)?;
    if plan.keystores.iter().any(|one| one.refused.is_some()) {
        return Ok(Exit::Refused);
    }
    Ok(Exit::Done)
}

/// A plan for people.
#[must_use]
pub fn page(plan: &Plan) -> String {
    let label = printable(&plan.managed_key.label);
    let mut lines = vec![format!("{} {label}:", plan.action.replace('_', " "))];
    if plan.keystores.is_empty() {
        lines.push("  nothing to do on any keystore".to_owned());
    }
    let first = plan.keystores.first().map(|one| one.version);
    let is_one_version = plan.keystores.iter().all(|one| Some(one.version) == first);
    for keystore in &plan.keystores {
        lines.extend(keystore_lines(keystore, is_one_version));
    }
    lines.join("\n")
}

fn keystore_lines(plan: &KeystorePlan, is_one_version: bool) -> Vec<String> {
    let mut name = printable(&plan.keystore.name);
    if !is_one_version {
        name = format!("{name}, version {}", plan.version);
    }
    let want = plan.want.as_deref().unwrap_or("nothing");
    if let Some(why) = &plan.refused {
        return vec![format!("  {name} (wanted: {want}): {}", printable(why))];
    }
    if plan.steps.is_empty() {
        return vec![format!("  {name} (wanted: {want}): nothing to do")];
    }
    let mut lines = vec![format!("  {name} (wanted: {want}):")];
    let steps = plan.steps.iter().zip(1..);
    lines.extend(steps.map(|(step, number)| format!("    {number}. {}", printable(step))));
    lines
}
