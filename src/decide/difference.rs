//! Differences with their reasons: what is wanted against what the live session says.
//!
//! Two layers: [`findings`] compares facts on a token with a want, whatever is under way; [`differences`] says what that
//! means, given how far our own change is.

use crate::decide::found::is_weakened;
use crate::decide::status::{Standing, standing};
use crate::decide::terms::{Breach, breaches, explains_withdrawal};
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Intent, ObjectPlan, Want};
use crate::model::difference::{CausedBy, Difference, HealedBy, Reason, Weight};
use crate::model::job::FailureKind;
use crate::model::keystore::Health;
use crate::model::live::{Live, Terms};
use crate::model::observed::{Found, ObjectClass, ObjectFacts, Observation};
use crate::model::protocol::Refusal;
use crate::model::text::printable;
use crate::model::vault::UnixMs;

/// What on a token is not as an intent wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Why.
    pub reason: Reason,
    /// What should be, in words.
    pub expected: String,
    /// What is, in words.
    pub found: String,
}

impl Finding {
    pub(crate) fn new(
        reason: Reason,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            reason,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// All reasons why an instance is not as wanted and confirmed, and what it rests on that does not hold any more. One that is
/// out of sync is among them exactly when its status is not in sync. `now` and `late_after_ms` only tell pending from late.
#[must_use]
pub fn differences(
    instance: &Instance,
    live: &Live,
    terms: &Terms,
    now: UnixMs,
    late_after_ms: i64,
) -> Vec<Difference> {
    let standing = standing(instance, live, terms);
    let is_late = now.0.saturating_sub(instance.since.0) > late_after_ms;
    let own = own(instance, &standing, is_late);
    let covered = own.as_ref().map(|(finding, _, _)| finding.reason);
    let breaches = breaches_in(instance, live, terms, &standing);
    let is_explained = explains_withdrawal(&breaches);
    let on_token = findings_in(instance, live)
        .into_iter()
        .filter(|finding| Some(finding.reason) != covered)
        .filter(|finding| !(is_explained && finding.reason == Reason::NotWithdrawn))
        .filter_map(|finding| {
            let caused_by = caused(instance, &standing, finding.reason)?;
            let healed_by = healed_at(instance, finding.reason);
            Some((finding, caused_by, healed_by))
        });
    let told = |finding: Finding, caused_by, healed_by, weight| Difference {
        reason: finding.reason,
        expected: finding.expected,
        found: finding.found,
        caused_by,
        healed_by,
        weight,
        since_revision: instance.revision,
    };
    let mut all: Vec<Difference> = own
        .into_iter()
        .chain(on_token)
        .map(|(finding, caused_by, healed_by)| {
            told(finding, caused_by, healed_by, Weight::OutOfSync)
        })
        .chain(breaches.into_iter().map(|breach| {
            let Breach {
                finding,
                caused_by,
                healed_by,
                weight,
                ..
            } = breach;
            told(finding, caused_by, healed_by, weight)
        }))
        .collect();
    // What is wrong now is told before what may go wrong.
    all.sort_by_key(|difference| std::cmp::Reverse(difference.weight));
    all
}

/// What does not hold any more of an instance whose last intent was carried out. Of any other it is told when it was.
fn breaches_in(
    instance: &Instance,
    live: &Live,
    terms: &Terms,
    standing: &Standing<'_>,
) -> Vec<Breach> {
    match (standing, &live.report) {
        (Standing::InSync | Standing::Drift | Standing::Unproved { .. }, Some(report)) => {
            breaches(instance, report, terms)
        }
        (
            Standing::InSync
            | Standing::Drift
            | Standing::Unproved { .. }
            | Standing::Unknown { .. }
            | Standing::Unavailable { .. }
            | Standing::Diverged { .. }
            | Standing::Pending { .. }
            | Standing::Failed(_)
            | Standing::Suspected,
            _,
        ) => Vec::new(),
    }
}

/// The reason that lies in the line, the agent or our own change, not in what the token holds.
fn own(
    instance: &Instance,
    standing: &Standing<'_>,
    is_late: bool,
) -> Option<(Finding, CausedBy, HealedBy)> {
    let wanted = instance.intent.want.name();
    let of = |reason, why: &str| Finding::new(reason, wanted, why);
    Some(match standing {
        Standing::InSync | Standing::Drift => return None,
        Standing::Unknown { why } => (
            of(Reason::Unreachable, why),
            CausedBy::Unknown,
            HealedBy::Waiting,
        ),
        Standing::Unavailable { health } => (
            Finding::new(
                Reason::TokenUnavailable,
                "the bound token",
                health.to_string(),
            ),
            CausedBy::Unknown,
            healed_health(health),
        ),
        Standing::Diverged { why, destroyed } => {
            let expected = format!("{wanted}, generation {}", instance.intent.generation);
            let healed_by = if *destroyed {
                HealedBy::Operator
            } else {
                HealedBy::Sync
            };
            (
                Finding::new(Reason::Diverged, expected, why.as_str()),
                CausedBy::Unknown,
                healed_by,
            )
        }
        Standing::Pending { why } => {
            let reason = if is_late {
                Reason::Late
            } else {
                Reason::Pending
            };
            (of(reason, why), CausedBy::PendingChange, HealedBy::Waiting)
        }
        Standing::Unproved { why } => (
            of(Reason::Unproved, why),
            CausedBy::PendingChange,
            HealedBy::Waiting,
        ),
        Standing::Failed(failure) => (
            of(failure.reason, &failure.why),
            CausedBy::FailedChange,
            failure.healed_by,
        ),
        Standing::Suspected => (
            of(
                Reason::Suspected,
                "one look missed it or a part of it; a second look decides",
            ),
            CausedBy::Unknown,
            HealedBy::Waiting,
        ),
    })
}

/// Whose doing something on the token probably is; none: it is not worth telling now, since it is on its way or not known.
fn caused(instance: &Instance, standing: &Standing<'_>, reason: Reason) -> Option<CausedBy> {
    let is_demanded = instance.intent.object.strategy == Strategy::Withdraw;
    match standing {
        // Of a strategy that the token needs nobody can tell whether it needed it when the key was disabled.
        Standing::Drift if reason == Reason::NotWithdrawn && !is_demanded => {
            Some(CausedBy::Unknown)
        }
        Standing::Drift => Some(CausedBy::OutOfBand),
        Standing::Failed(_) => Some(CausedBy::FailedChange),
        Standing::Pending { .. } | Standing::Unproved { .. } if holds_under_any_want(reason) => {
            Some(CausedBy::Unknown)
        }
        Standing::Pending { .. }
        | Standing::Unproved { .. }
        | Standing::InSync
        | Standing::Unknown { .. }
        | Standing::Unavailable { .. }
        | Standing::Diverged { .. }
        | Standing::Suspected => None,
    }
}

fn findings_in(instance: &Instance, live: &Live) -> Vec<Finding> {
    live.report
        .as_ref()
        .map(|report| findings_at(instance, &report.observation, report.strategy))
        .unwrap_or_default()
}

/// [`findings`] of an instance. An adopted one owes the protection that it was adopted with, not what we would have given it.
#[must_use]
pub fn findings_at(
    instance: &Instance,
    observation: &Observation,
    strategy: Strategy,
) -> Vec<Finding> {
    let mut all = findings(&instance.intent, instance.is_target, observation, strategy);
    if let (Some(adoption), Observation::Present(found)) = (&instance.adoption, observation)
        && !is_weakened(adoption, found)
    {
        all.retain(|finding| finding.reason != Reason::ProtectionWeakened);
    }
    all
}

/// What is wrong whether a key is to be enabled, disabled or gone.
const fn holds_under_any_want(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::WrongKey | Reason::Duplicated | Reason::ProtectionWeakened
    )
}

/// What an observation shows that its intent does not want. Nothing for an observation that is unknown or suspected: those
/// are no facts. A keystore that was removed from the targets owes only one thing: that nothing there can be used.
#[must_use]
pub fn findings(
    intent: &Intent,
    is_target: bool,
    observation: &Observation,
    strategy: Strategy,
) -> Vec<Finding> {
    let is_due = is_target && ObjectPlan::is_present(intent.want, strategy);
    match observation {
        Observation::Unknown { .. } | Observation::Suspected { .. } => Vec::new(),
        Observation::Absent { same_label } => absent(intent, is_due, same_label),
        Observation::Present(found) if found.objects.is_empty() => {
            absent(intent, is_due, &found.same_label)
        }
        Observation::Present(found) => present(intent, is_target, found, strategy),
    }
}

fn absent(intent: &Intent, is_due: bool, same_label: &[ObjectFacts]) -> Vec<Finding> {
    let moved = same_label
        .iter()
        .find(|facts| facts.holds(&intent.fingerprint))
        .map(|facts| {
            Finding::new(
                Reason::IdChanged,
                expected_id(intent),
                format!("the same material under CKA_ID {}", hex(&facts.cka_id)),
            )
        });
    if !is_due {
        return moved.into_iter().collect();
    }
    let expected = expected_id(intent);
    let finding = match (moved, same_label.first()) {
        (Some(moved), _) => moved,
        (None, Some(other)) => Finding::new(
            Reason::LabelTaken,
            expected,
            format!(
                "no object with that CKA_ID; a {} with CKA_ID {} has its label",
                other.class.name(),
                hex(&other.cka_id)
            ),
        ),
        (None, None) => Finding::new(Reason::Missing, expected, "no object with that CKA_ID"),
    };
    vec![finding]
}

fn expected_id(intent: &Intent) -> String {
    match intent.want {
        Want::Destroyed => "nothing of the key".to_owned(),
        Want::Active | Want::Deactivated => {
            format!("{}, CKA_ID {}", intent.want.name(), id_text(intent))
        }
    }
}

fn present(intent: &Intent, is_target: bool, found: &Found, strategy: Strategy) -> Vec<Finding> {
    if intent.want == Want::Destroyed {
        let what = list(&found.objects, |facts| facts.class.name().to_owned());
        return vec![Finding::new(Reason::DestroyedKeyPresent, "nothing", what)];
    }
    if !ObjectPlan::is_present(intent.want, strategy) {
        let what = list(&found.objects, |facts| facts.class.name().to_owned());
        return vec![Finding::new(
            Reason::NotWithdrawn,
            "withdrawn: nothing on the token",
            what,
        )];
    }
    if !is_target {
        return usable(intent, found)
            .map(|what| {
                Finding::new(
                    Reason::RemovedTargetActive,
                    "disabled: removed from the targets",
                    what,
                )
            })
            .into_iter()
            .collect();
    }
    let mut all = Vec::new();
    all.extend(number(intent, found));
    all.extend(material(intent, found));
    all.extend(usage(intent, found));
    all.extend(label(intent, found));
    all.extend(protection(found));
    all
}

/// Usages that are on although a disabled key of this kind would not have them.
fn usable(intent: &Intent, found: &Found) -> Option<String> {
    let is_usable = |facts: &&ObjectFacts| {
        !intent
            .object
            .usage_under(Want::Deactivated, facts.class)
            .contains(facts.usage)
    };
    let objects: Vec<ObjectFacts> = found.objects.iter().filter(is_usable).cloned().collect();
    (!objects.is_empty()).then(|| list(&objects, usage_text))
}

/// Exactly one object of each class.
fn number(intent: &Intent, found: &Found) -> Option<Finding> {
    let classes = intent.object.spec.class().objects();
    let count = |class: ObjectClass| {
        found
            .objects
            .iter()
            .filter(|facts| facts.class == class)
            .count()
    };
    let expected = classes
        .iter()
        .map(|class| format!("one {}", class.name()))
        .collect::<Vec<_>>()
        .join(" and ");
    let is_stranger = |facts: &ObjectFacts| !classes.contains(&facts.class);
    if classes.iter().any(|&class| count(class) > 1) || found.objects.iter().any(is_stranger) {
        let what = list(&found.objects, |facts| facts.class.name().to_owned());
        return Some(Finding::new(Reason::Duplicated, expected, what));
    }
    let missing: Vec<&str> = classes
        .iter()
        .filter(|&&class| count(class) == 0)
        .map(|class| class.name())
        .collect();
    if missing.is_empty() {
        return None;
    }
    let what = format!("no {}", missing.join(", no "));
    Some(Finding::new(Reason::HalfPair, expected, what))
}

/// Only values of one method compare; another method shows nothing, either way.
fn material(intent: &Intent, found: &Found) -> Option<Finding> {
    let right = intent.fingerprint;
    let other = found.fingerprint?;
    (other.method == right.method && other.value != right.value).then(|| {
        Finding::new(
            Reason::WrongKey,
            format!("fingerprint {}", right.short()),
            format!("fingerprint {}", other.short()),
        )
    })
}

fn usage(intent: &Intent, found: &Found) -> Option<Finding> {
    let planned = |facts: &ObjectFacts| intent.object.usage_under(intent.want, facts.class);
    let off: Vec<&ObjectFacts> = found
        .objects
        .iter()
        .filter(|facts| facts.usage != planned(facts))
        .collect();
    if off.is_empty() {
        return None;
    }
    let is_extra = |facts: &&ObjectFacts| !planned(facts).contains(facts.usage);
    let is_dead = |facts: &&ObjectFacts| {
        !planned(facts).is_empty() && !facts.usage.iter().any(|usage| planned(facts).has(usage))
    };
    let reason = match intent.want {
        Want::Active if off.iter().any(is_dead) => Reason::DisabledUnexpectedly,
        Want::Deactivated if off.iter().any(is_extra) => Reason::EnabledUnexpectedly,
        Want::Active | Want::Deactivated | Want::Destroyed => Reason::UsageChanged,
    };
    let expected = list_of(&off, |facts| {
        format!("{}: {}", facts.class.name(), planned(facts))
    });
    Some(Finding::new(reason, expected, list_of(&off, usage_text)))
}

fn label(intent: &Intent, found: &Found) -> Option<Finding> {
    let planned = &intent.object.label;
    let off: Vec<&ObjectFacts> = found
        .objects
        .iter()
        .filter(|facts| &facts.label != planned)
        .collect();
    (!off.is_empty()).then(|| {
        let what = list_of(&off, |facts| {
            format!("{}: {:?}", facts.class.name(), printable(&facts.label))
        });
        Finding::new(Reason::LabelChanged, format!("{planned:?}"), what)
    })
}

/// What a token does not tell counts as weak: nothing is claimed that was not read.
fn protection(found: &Found) -> Option<Finding> {
    let is_weak = |facts: &&ObjectFacts| {
        facts.class != ObjectClass::Public
            && (facts.sensitive != Some(true) || facts.extractable != Some(false))
    };
    let weak: Vec<&ObjectFacts> = found.objects.iter().filter(is_weak).collect();
    (!weak.is_empty()).then(|| {
        let word = |flag: Option<bool>| flag.map_or("not told", |on| if on { "on" } else { "off" });
        let what = list_of(&weak, |facts| {
            format!(
                "{}: sensitive {}, extractable {}",
                facts.class.name(),
                word(facts.sensitive),
                word(facts.extractable)
            )
        });
        Finding::new(
            Reason::ProtectionWeakened,
            "sensitive on, extractable off",
            what,
        )
    })
}

/// As [`healed`]; what was lost of a key that the repository does not have, no sync brings back, and none takes it away.
fn healed_at(instance: &Instance, reason: Reason) -> HealedBy {
    let is_lost = matches!(
        reason,
        Reason::Missing | Reason::HalfPair | Reason::NotWithdrawn
    );
    let is_only_there = instance
        .adoption
        .as_ref()
        .is_some_and(|adoption| !adoption.in_repository);
    if is_lost && is_only_there {
        HealedBy::Operator
    } else {
        healed(reason)
    }
}

/// What makes a finding good again: sync where the agent has a step for it, else a person.
const fn healed(reason: Reason) -> HealedBy {
    match reason {
        Reason::Missing
        | Reason::NotWithdrawn
        | Reason::EnabledUnexpectedly
        | Reason::DisabledUnexpectedly
        | Reason::UsageChanged
        | Reason::LabelChanged
        | Reason::HalfPair
        | Reason::DestroyedKeyPresent
        | Reason::RemovedTargetActive
        | Reason::StrategyOutdated
        | Reason::Failed => HealedBy::Sync,
        Reason::Diverged
        | Reason::IdChanged
        | Reason::LabelTaken
        | Reason::WrongKey
        | Reason::ProtectionWeakened
        | Reason::Duplicated
        | Reason::CapabilityLost
        | Reason::TokenRestored
        | Reason::TokenUnavailable => HealedBy::Operator,
        Reason::Suspected
        | Reason::Unproved
        | Reason::Pending
        | Reason::Late
        | Reason::Unreachable => HealedBy::Waiting,
    }
}

const fn healed_health(health: &Health) -> HealedBy {
    match health {
        Health::Ok | Health::Starting | Health::ModuleFailed { .. } => HealedBy::Waiting,
        Health::TokenNotFound { .. }
        | Health::WrongPin
        | Health::PinLocked
        | Health::MarkerMissing
        | Health::BelongsTo(_)
        | Health::OtherEpoch(_)
        | Health::JournalLost
        | Health::JournalFailed { .. } => HealedBy::Operator,
    }
}

/// Why a change of ours did not go, and what next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `Failed`, or the nearer reason where there is one.
    pub reason: Reason,
    /// For people.
    pub why: String,
    /// What makes it good again.
    pub healed_by: HealedBy,
}

impl Failure {
    /// The token's no.
    #[must_use]
    pub fn on_token(kind: FailureKind, why: String) -> Self {
        let (reason, healed_by) = match kind {
            FailureKind::LabelTaken => (Reason::LabelTaken, HealedBy::Operator),
            FailureKind::WrongKey => (Reason::WrongKey, HealedBy::Operator),
            FailureKind::WrongPin | FailureKind::PinLocked | FailureKind::NoToken => {
                (Reason::TokenUnavailable, HealedBy::Operator)
            }
            FailureKind::Retry | FailureKind::Restart | FailureKind::NeedsMaterial => {
                (Reason::Failed, HealedBy::Sync)
            }
            FailureKind::Refused => (Reason::Failed, HealedBy::Operator),
        };
        Self {
            reason,
            why,
            healed_by,
        }
    }

    /// The agent's no.
    #[must_use]
    pub fn of_agent(refusal: &Refusal) -> Self {
        Self {
            reason: Reason::Failed,
            why: refusal.to_string(),
            healed_by: HealedBy::Operator,
        }
    }
}

fn list(objects: &[ObjectFacts], text: impl Fn(&ObjectFacts) -> String) -> String {
    objects.iter().map(text).collect::<Vec<_>>().join("; ")
}

fn list_of(objects: &[&ObjectFacts], text: impl Fn(&ObjectFacts) -> String) -> String {
    objects
        .iter()
        .map(|facts| text(facts))
        .collect::<Vec<_>>()
        .join("; ")
}

fn usage_text(facts: &ObjectFacts) -> String {
    format!("{}: {}", facts.class.name(), facts.usage)
}

fn id_text(intent: &Intent) -> String {
    hex(&intent.object.cka_id)
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "(empty)".to_owned()
    } else {
        crate::model::text::hex(bytes)
    }
}
