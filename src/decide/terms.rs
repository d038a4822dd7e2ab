//! What stands behind an instance: the strategy that is demanded now, and what its token could do once and cannot any more.
//!
//! One rule weighs both. An instance is out of sync where what is on the token now is no longer what is wanted or claimed: a
//! disabled key that would be withdrawn, or can be used all the same; material that the token would hand out. Where only a
//! later change rests on it, it is a warning, and the instance stays in sync.

use crate::decide::difference::Finding;
use crate::model::capabilities::{Capabilities, Strategy, Unwrap};
use crate::model::desired::{Instance, ObjectPlan, Want};
use crate::model::difference::{CausedBy, HealedBy, Reason, Weight};
use crate::model::key::KeyClass;
use crate::model::live::Terms;
use crate::model::observed::{Found, Observation};
use crate::model::protocol::Report;
use crate::model::regression::Regression;

/// One thing that does not hold any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) finding: Finding,
    pub(crate) weight: Weight,
    pub(crate) caused_by: CausedBy,
    pub(crate) healed_by: HealedBy,
    /// Whether what was lost is the way by which the key is disabled.
    is_by_strategy: bool,
}

impl Breach {
    fn lost(weight: Weight, healed_by: HealedBy, could: &str, now: String) -> Self {
        Self {
            finding: Finding::new(Reason::CapabilityLost, could, now),
            weight,
            caused_by: CausedBy::Unknown,
            healed_by,
            is_by_strategy: false,
        }
    }
}

/// All of it, of an instance whose last intent was carried out. A destroyed key rests on nothing.
pub(crate) fn breaches(instance: &Instance, report: &Report, terms: &Terms) -> Vec<Breach> {
    if instance.intent.want == Want::Destroyed {
        return Vec::new();
    }
    let described = terms.described.as_deref();
    let can = described.and_then(|described| described.capabilities.as_ref());
    let could = described.and_then(|described| described.accepted.as_ref());
    let lost = match (could, can) {
        (Some(could), Some(can)) => losses(instance, report, could, can),
        (None, _) | (_, None) => Vec::new(),
    };
    outdated(instance, terms.strategy, can)
        .into_iter()
        .chain(lost)
        .collect()
}

/// Whether the token's losses, not somebody at the token, are why a disabled key should be withdrawn.
pub(crate) fn explains_withdrawal(breaches: &[Breach]) -> bool {
    breaches.iter().any(|breach| breach.is_by_strategy)
}

/// The last intent was carried out by another strategy than the one that is demanded now. A keystore that was removed from
/// the targets owes only what takes the key away: nothing is brought back there.
fn outdated(
    instance: &Instance,
    demanded: Option<Strategy>,
    can: Option<&Capabilities>,
) -> Option<Breach> {
    let plan = &instance.intent.object;
    let demanded = demanded?;
    let asked = ObjectPlan {
        strategy: demanded,
        ..plan.clone()
    };
    let by = |plan: &ObjectPlan| can.map_or(plan.strategy, |can| can.strategy(plan));
    let (used, wanted) = (by(plan), by(&asked));
    let is_owed = if instance.is_target {
        used != wanted
    } else {
        used != wanted && wanted == Strategy::Withdraw
    };
    if !is_owed {
        return None;
    }
    let want = instance.intent.want;
    let weight = if ObjectPlan::is_present(want, used) == ObjectPlan::is_present(want, wanted) {
        Weight::Warning
    } else {
        Weight::OutOfSync
    };
    let takes_away = wanted == Strategy::Withdraw;
    Some(Breach {
        finding: Finding::new(
            Reason::StrategyOutdated,
            format!("disabled by {}, as is demanded now", wanted.name()),
            format!("disabled by {}, as was demanded", used.name()),
        ),
        weight,
        caused_by: CausedBy::Unknown,
        healed_by: if takes_away && is_only_there(instance) {
            HealedBy::Operator
        } else {
            HealedBy::Sync
        },
        is_by_strategy: false,
    })
}

/// Whether the repository cannot bring it back.
fn is_only_there(instance: &Instance) -> bool {
    let adoption = instance.adoption.as_ref();
    adoption.is_some_and(|adoption| !adoption.in_repository)
}

fn losses(
    instance: &Instance,
    report: &Report,
    could: &Capabilities,
    can: &Capabilities,
) -> Vec<Breach> {
    let lost = could.regressions(can);
    let mut all: Vec<Breach> = strategy_lost(instance, report, could, can, &lost)
        .into_iter()
        .collect();
    let others = lost.iter().filter_map(|one| {
        let (weight, now) = touches(*one, instance, report, could)?;
        let could = one.could();
        Some(Breach::lost(weight, HealedBy::Operator, &could, now))
    });
    all.extend(others);
    all
}

/// The way by which the key is disabled holds no more.
fn strategy_lost(
    instance: &Instance,
    report: &Report,
    could: &Capabilities,
    can: &Capabilities,
    lost: &[Regression],
) -> Option<Breach> {
    let plan = &instance.intent.object;
    let (before, now) = (could.strategy(plan), can.strategy(plan));
    let is_off = instance.intent.want == Want::Deactivated;
    // One that is gone already went that way.
    let is_gone = is_off && now == Strategy::Withdraw && !is_there(report);
    if now <= before || is_gone {
        return None;
    }
    let why: Vec<String> = lost
        .iter()
        .filter(|one| match one {
            Regression::Copy => before == Strategy::Copy,
            Regression::Flag {
                algorithm,
                class,
                usages,
                ..
            } => {
                let uses = plan.usage_under(Want::Active, *class);
                *algorithm == plan.spec.algorithm() && usages.iter().any(|usage| uses.has(usage))
            }
            Regression::Rfc5649
            | Regression::CbcPad
            | Regression::OaepSha256
            | Regression::Copyable
            | Regression::Modifiable
            | Regression::Extractable
            | Regression::DigestKey
            | Regression::CopyFixed
            | Regression::AtomicSet
            | Regression::Duplicates
            | Regression::Label(_)
            | Regression::Kind(_)
            | Regression::Size(..)
            | Regression::Unwrap { .. } => false,
        })
        .map(ToString::to_string)
        .collect();
    let is_broken = is_off && now == Strategy::Withdraw;
    let (weight, healed_by, what) = match (is_broken, is_only_there(instance)) {
        (true, false) => (
            Weight::OutOfSync,
            HealedBy::Sync,
            "that holds no more: it may be usable, and has to be withdrawn",
        ),
        (true, true) => (
            Weight::OutOfSync,
            HealedBy::Operator,
            "that holds no more: it may be usable, and cannot be withdrawn, since the repository does not have it",
        ),
        (false, true) if now == Strategy::Withdraw => (
            Weight::Warning,
            HealedBy::Operator,
            "that holds no more: it cannot be disabled there, since the repository does not have it",
        ),
        (false, _) => (
            Weight::Warning,
            HealedBy::Operator,
            "that holds no more: its next change goes another way",
        ),
    };
    let now = format!("{what} ({}; {} is needed)", why.join("; "), now.name());
    let could = format!("disabled by {}", before.name());
    Some(Breach {
        is_by_strategy: true,
        ..Breach::lost(weight, healed_by, &could, now)
    })
}

fn is_there(report: &Report) -> bool {
    matches!(&report.observation, Observation::Present(found) if !found.objects.is_empty())
}

/// Whether others made it so that nothing of it can be set.
fn is_fixed_by_others(instance: &Instance, report: &Report) -> bool {
    let is_fixed = |found: &Found| {
        found
            .objects
            .iter()
            .any(|one| one.modifiable == Some(false))
    };
    instance.adoption.is_some()
        && matches!(&report.observation, Observation::Present(found) if is_fixed(found))
}

/// How much another loss matters to a key, and how; none: it does not.
fn touches(
    lost: Regression,
    instance: &Instance,
    report: &Report,
    could: &Capabilities,
) -> Option<(Weight, String)> {
    let plan = &instance.intent.object;
    let (spec, before) = (plan.spec, could.strategy(plan));
    let is_secret = spec.class() == KeyClass::Secret;
    let is_of = |algorithm| algorithm == spec.algorithm();
    let is_fixed = before == Strategy::Withdraw && instance.intent.want == Want::Active;
    let weight = match lost {
        Regression::Extractable if is_there(report) => Weight::OutOfSync,
        Regression::Copyable if is_secret && before == Strategy::Flags => Weight::Warning,
        Regression::Modifiable if is_fixed => Weight::Warning,
        Regression::DigestKey if is_secret => Weight::Warning,
        Regression::CopyFixed if is_fixed_by_others(instance, report) => Weight::Warning,
        Regression::Kind(algorithm) if is_of(algorithm) => Weight::Warning,
        Regression::Size(algorithm, bits) if is_of(algorithm) && bits == spec.bits() => {
            Weight::Warning
        }
        Regression::Unwrap {
            algorithm,
            is: Unwrap::Impossible,
            ..
        } if is_of(algorithm) => Weight::Warning,
        Regression::Rfc5649
        | Regression::CbcPad
        | Regression::OaepSha256
        | Regression::Copyable
        | Regression::Modifiable
        | Regression::Extractable
        | Regression::DigestKey
        | Regression::Copy
        | Regression::CopyFixed
        | Regression::AtomicSet
        | Regression::Duplicates
        | Regression::Label(_)
        | Regression::Kind(_)
        | Regression::Size(..)
        | Regression::Unwrap { .. }
        | Regression::Flag { .. } => return None,
    };
    Some((weight, lost.now()))
}
