//! `lockstep recover`: what agents know and a restored store does not, and going on.

use clap::Args;

use crate::cli::client::{Change, Verb};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::rest::recovery::{KeyRecovery, Prefer, Recover, Recovery};

const PATH: &str = "/api/lockstep/v1/recovery";

/// What to do about a store that is older than its agents.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Go on: each key becomes what is shown, and keys may be enabled again.
    #[arg(long)]
    accept: bool,
    /// Keys that are active at agents and not in the store stay active; without it they are deactivated.
    #[arg(long)]
    prefer_agents: bool,
    /// Go on although some agents have not told all they know.
    #[arg(long, requires = "accept")]
    without_missing: bool,
}

/// Shows, or goes on. Exits with 75 while the store is taken to be older than its agents.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn run(args: &RecoverArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let prefer = if args.prefer_agents {
        Prefer::Agents
    } else {
        Prefer::Restrict
    };
    if args.accept {
        let asked = Recover {
            prefer,
            without_missing: args.without_missing,
        };
        let change = Change::with_body(&asked)?;
        let done: Recovery = context.client.change(Verb::Post, PATH, &change)?.value;
        context.show(&done, |done| {
            format!("{}\nkeys may be enabled again", lines(done, "became"))
        })?;
        return Ok(Exit::Done);
    }
    let word = match prefer {
        Prefer::Restrict => "restrict",
        Prefer::Agents => "agents",
    };
    let found: Recovery = context.client.get(PATH, &[("prefer", word)])?.value;
    context.show(&found, |found| {
        if found.is_behind {
            let todo = "nothing is enabled until `lockstep recover --accept`";
            format!("{}\n{todo}", lines(found, "becomes"))
        } else {
            "nothing shows that the store is older than its agents".to_owned()
        }
    })?;
    Ok(if found.is_behind {
        Exit::NotYet
    } else {
        Exit::Done
    })
}

fn lines(found: &Recovery, verb: &str) -> String {
    let mut lines = vec![format!(
        "the store is older than its agents, noticed {}:",
        found.noticed_at
    )];
    for one in &found.evidence {
        let at = one.keystore.as_ref().map(|k| format!("{}: ", k.name));
        lines.push(format!("  {}{}", at.unwrap_or_default(), one.message));
    }
    for one in &found.managed_keys {
        lines.push(key(one, verb));
    }
    for one in &found.strangers {
        lines.push(format!(
            "key {} ({}) is {} at {}, and the store does not know it: its material is in no repository",
            one.label, one.version, one.agent, one.keystore.name
        ));
    }
    for one in &found.missing_keystores {
        lines.push(format!("not heard yet: {}: {}", one.keystore.name, one.why));
    }
    lines.join("\n")
}

fn key(one: &KeyRecovery, verb: &str) -> String {
    let ahead: Vec<String> = one
        .ahead
        .iter()
        .map(|ahead| format!("{} at {}", ahead.agent, ahead.keystore_name))
        .collect();
    let targets: Vec<&str> = one
        .target_keystores
        .iter()
        .map(|target| target.name.as_str())
        .collect();
    format!(
        "key {}: {} in the store, {}; {verb} {} on {}",
        one.managed_key.label,
        one.state,
        ahead.join(", "),
        one.becomes,
        if targets.is_empty() {
            "no keystore".to_owned()
        } else {
            targets.join(", ")
        }
    )
}
