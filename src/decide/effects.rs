//! Which steps lead from what was found to what is wanted: one pure function, used to show a plan and, on a fresh look, to act.
//!
//! Steps are a function of both, never deltas (promises R5). What reduces use goes private first and public last, what
//! enables public first and private last (R6). Objects are born disabled (R14). A key that is not the right one is told,
//! never enabled, never touched.

use crate::model::capabilities::Strategy;
use crate::model::desired::{CKA_ID_BYTES_MAX, Intent, ObjectPlan, Want};
use crate::model::job::{FailureKind, TokenFailure};
use crate::model::key::UsageSet;
use crate::model::observed::{Found, ObjectClass, ObjectFacts};
use crate::model::step::Step;
use crate::model::text::printable;

/// Why no step may be taken. None heals itself: a person looks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The material under the CKA_ID is another one.
    #[error("the key found there is another one: its fingerprint differs")]
    WrongKey,
    /// No fingerprint could be had, and what is wanted may not be done without.
    #[error("the fingerprint of the key found there could not be had: {why}")]
    Unproved {
        /// For people.
        why: String,
    },
    /// More than one object of a class has the CKA_ID.
    #[error("more than one {} has its CKA_ID", .0.name())]
    Duplicated(ObjectClass),
    /// An object of a class that such a key does not have carries its CKA_ID: not ours.
    #[error("a {} that is not part of this key has its CKA_ID", .0.name())]
    Foreign(ObjectClass),
    /// Another object has the label and class.
    #[error("another {} has the label already", .0.name())]
    LabelTaken(ObjectClass),
    /// A CKA_ID that is empty or too long to be handled.
    #[error("the CKA_ID has to have 1 to {CKA_ID_BYTES_MAX} bytes")]
    BadId,
}

impl Obstacle {
    /// The failure that reports carry: it comes from our own check, so there is no CKR.
    #[must_use]
    pub fn failure(&self) -> TokenFailure {
        let kind = match self {
            Self::WrongKey | Self::Foreign(_) => FailureKind::WrongKey,
            Self::LabelTaken(_) => FailureKind::LabelTaken,
            Self::Unproved { .. } | Self::Duplicated(_) | Self::BadId => FailureKind::Refused,
        };
        TokenFailure {
            kind,
            function: "effects".to_owned(),
            rv: String::new(),
            detail: self.to_string(),
        }
    }
}

/// The ordered steps from what was found to what the intent wants. Those in front that only reduce use stand on their own:
/// they may be run before the material for a later [`Step::Install`] is there.
///
/// # Errors
/// [`Obstacle`] when nothing may be done. With a restrictive want, what can be restricted comes first as steps, and the
/// obstacle is told by the next look.
pub fn effects(intent: &Intent, found: &Found, strategy: Strategy) -> Result<Vec<Step>, Obstacle> {
    let id_bytes = intent.object.cka_id.len();
    if id_bytes == 0 || id_bytes > CKA_ID_BYTES_MAX {
        return Err(Obstacle::BadId);
    }
    if fit(intent, found) == Fit::Wrong {
        return Err(Obstacle::WrongKey);
    }
    match (intent.want, strategy) {
        (Want::Destroyed, _) => destroy(intent, found),
        (Want::Active, Strategy::Withdraw) => bring(intent, found),
        (Want::Deactivated, Strategy::Withdraw) => withdraw(intent, found),
        (Want::Active | Want::Deactivated, Strategy::Flags | Strategy::Copy) => {
            if strategy == Strategy::Copy
                && let Some(steps) = collapse(intent, found)
            {
                return Ok(steps);
            }
            let steps = set(intent, found)?;
            if is_stuck(intent, found, strategy, &steps) {
                return remake(intent, found, strategy);
            }
            let by = |step| by_copy(intent, found, strategy, step);
            Ok(steps.into_iter().map(by).collect())
        }
    }
}

/// How a strategy changes an object that was found: an object may bar the way that its token has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its attributes are set.
    Set,
    /// A copy takes its place.
    Copy,
    /// Neither: it goes, and the key is installed anew.
    Remake,
}

/// The way of all objects of a class. CKA_MODIFIABLE=false bars setting, CKA_COPYABLE=false bars copying (PKCS#11 v3.1,
/// 4.4); what the token does not tell bars nothing. Of a fixed object a token may make no changed copy either: what we made
/// ourselves comes from the repository instead; of others' keys this was tried before they were adopted.
fn way(intent: &Intent, found: &Found, class: ObjectClass, strategy: Strategy) -> Way {
    let is_fixed = is_fixed(found, class);
    let is_uncopyable = of_class(found, class).any(|object| object.copyable == Some(false));
    if strategy == Strategy::Flags && !is_fixed {
        Way::Set
    } else if is_uncopyable || (is_fixed && is_named_by_us(intent)) {
        Way::Remake
    } else {
        Way::Copy
    }
}

/// Whether what was found cannot be changed by these steps. A disabled object that the strategy could never enable again
/// counts too: it is made anew while nobody waits for it.
fn is_stuck(intent: &Intent, found: &Found, strategy: Strategy, steps: &[Step]) -> bool {
    let is_installed = steps.contains(&Step::Install);
    private_first(intent).any(|class| {
        let is_changed = steps.iter().any(|step| match step {
            Step::SetUsage { class: of, .. } => *of == class,
            Step::SetLabel { class: of } => *of == class && is_fixed(found, class),
            Step::Install
            | Step::InstallEnabled
            | Step::Replace { .. }
            | Step::Withdraw { .. }
            | Step::Destroy { .. }
            | Step::ProveEnabled
            | Step::ProveDisabled => false,
        });
        !is_installed
            && (is_changed || intent.want == Want::Deactivated)
            && way(intent, found, class, strategy) == Way::Remake
    })
}

fn is_fixed(found: &Found, class: ObjectClass) -> bool {
    of_class(found, class).any(|object| object.modifiable == Some(false))
}

/// Takes the key away, while its material is at hand, and installs it disabled; only then it gets its usages.
fn remake(intent: &Intent, found: &Found, strategy: Strategy) -> Result<Vec<Step>, Obstacle> {
    if let Some(obstacle) = disorder(intent, found) {
        return Err(obstacle);
    }
    let mut steps = withdraw(intent, found)?;
    steps.push(Step::Install);
    let gone = Found::default();
    let usages = enabled_after_install(intent);
    steps.extend(usages.map(|step| by_copy(intent, &gone, strategy, step)));
    steps.push(if intent.want == Want::Active {
        Step::ProveEnabled
    } else {
        Step::ProveDisabled
    });
    Ok(steps)
}

/// The usages of the want, for objects that were born without any; public half first.
fn enabled_after_install(intent: &Intent) -> impl Iterator<Item = Step> {
    let set = |class| {
        let usage = intent.object.usage_under(intent.want, class);
        (!usage.is_empty()).then_some(Step::SetUsage { class, usage })
    };
    private_first(intent).rev().filter_map(set)
}

/// Of ordered steps, what may be run while nothing may be installed: all where none installs, else those in front that only
/// reduce use.
#[must_use]
pub fn restricting(steps: Vec<Step>) -> Vec<Step> {
    if !steps.iter().any(Step::needs_material) {
        return steps;
    }
    let is_restricting = |step: &Step| matches!(step, Step::SetUsage { .. } | Step::Replace { .. });
    steps.into_iter().take_while(is_restricting).collect()
}

/// By attributes that are set.
fn set(intent: &Intent, found: &Found) -> Result<Vec<Step>, Obstacle> {
    if intent.want == Want::Active {
        activate(intent, found)
    } else {
        deactivate(intent, found)
    }
}

/// The step as the object that it is about lets it be done. A copy has the planned label.
fn by_copy(intent: &Intent, found: &Found, strategy: Strategy, step: Step) -> Step {
    if let Step::SetUsage { class, usage } = step
        && way(intent, found, class, strategy) == Way::Copy
    {
        return Step::Replace { class, usage };
    }
    if let Step::SetLabel { class } = step
        && is_fixed(found, class)
    {
        let usage = intent.object.usage_under(intent.want, class);
        return Step::Replace { class, usage };
    }
    step
}

/// Several objects of a class under an id that we gave are what a crash between copying and destroying leaves: each class is
/// made one again. The step compares every one of them first.
fn collapse(intent: &Intent, found: &Found) -> Option<Vec<Step>> {
    let doubled = matches!(disorder(intent, found)?, Obstacle::Duplicated(_));
    if !doubled || !is_named_by_us(intent) || !is_complete(intent, found) {
        return None;
    }
    let replace = |class| Step::Replace {
        class,
        usage: intent.object.usage_under(intent.want, class),
    };
    let (mut steps, proof): (Vec<Step>, Step) = match intent.want {
        Want::Active => (
            private_first(intent).rev().map(replace).collect(),
            Step::ProveEnabled,
        ),
        Want::Deactivated | Want::Destroyed => (
            private_first(intent).map(replace).collect(),
            Step::ProveDisabled,
        ),
    };
    steps.push(proof);
    Some(steps)
}

/// Nothing of it stays on the token; the repository keeps it.
fn withdraw(intent: &Intent, found: &Found) -> Result<Vec<Step>, Obstacle> {
    let withdrawn = |step| {
        if let Step::Destroy { class } = step {
            Step::Withdraw { class }
        } else {
            step
        }
    };
    Ok(destroy(intent, found)?.into_iter().map(withdrawn).collect())
}

/// Installs it with its usage on; what is there otherwise is withdrawn first.
fn bring(intent: &Intent, found: &Found) -> Result<Vec<Step>, Obstacle> {
    if let Some(obstacle) = disorder(intent, found) {
        return Err(obstacle);
    }
    if is_as_wanted(intent, found) {
        return match fit(intent, found) {
            Fit::Right => Ok(vec![Step::ProveEnabled]),
            Fit::Wrong | Fit::Unproved => Err(unproved(found)),
        };
    }
    if let Some(object) = found.same_label.first() {
        return Err(Obstacle::LabelTaken(object.class));
    }
    let mut steps = withdraw(intent, found)?;
    steps.extend([Step::InstallEnabled, Step::ProveEnabled]);
    Ok(steps)
}

/// Whether what was found is what the intent wants: one object of each class, usages, label, and the right key; or nothing,
/// where the strategy has it so.
#[must_use]
pub fn met(intent: &Intent, found: &Found, strategy: Strategy) -> bool {
    if !ObjectPlan::is_present(intent.want, strategy) {
        return found.objects.is_empty();
    }
    let right = match fit(intent, found) {
        Fit::Right => true,
        Fit::Unproved => intent.want == Want::Deactivated && is_named_by_us(intent),
        Fit::Wrong => false,
    };
    right && is_as_wanted(intent, found)
}

/// One object of each class, with usages and label as wanted; whether it is the right key is another question.
fn is_as_wanted(intent: &Intent, found: &Found) -> bool {
    let label = printable(&intent.object.label);
    let classes = intent.object.spec.class().objects();
    found.objects.len() == classes.len()
        && classes.iter().all(|&class| {
            of_class(found, class).any(|object| {
                object.usage == intent.object.usage_under(intent.want, class)
                    && object.label == label
            })
        })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Right,
    Wrong,
    Unproved,
}

/// Only values of one method compare.
fn fit(intent: &Intent, found: &Found) -> Fit {
    match found.fingerprint {
        Some(seen) if seen == intent.fingerprint => Fit::Right,
        Some(seen) if seen.method == intent.fingerprint.method => Fit::Wrong,
        Some(_) | None => Fit::Unproved,
    }
}

/// The CKA_ID is the key version's UUID, which nobody else gives: such objects are ours even where no fingerprint can be
/// had (half of a pair, or what a crash left behind).
fn is_named_by_us(intent: &Intent) -> bool {
    intent.object.cka_id == intent.version.uuid().as_bytes()
}

fn of_class(found: &Found, class: ObjectClass) -> impl Iterator<Item = &ObjectFacts> {
    found
        .objects
        .iter()
        .filter(move |object| object.class == class)
}

/// The classes of the key, private or secret one first.
fn private_first(intent: &Intent) -> impl DoubleEndedIterator<Item = ObjectClass> {
    intent.object.spec.class().objects().iter().copied()
}

fn unproved(found: &Found) -> Obstacle {
    let why = found.fingerprint_failure.clone();
    Obstacle::Unproved {
        why: why.unwrap_or_else(|| "the token gave none".to_owned()),
    }
}

/// An object of a strange class, or two of one.
fn disorder(intent: &Intent, found: &Found) -> Option<Obstacle> {
    let classes = intent.object.spec.class().objects();
    let foreign = found
        .objects
        .iter()
        .find(|object| !classes.contains(&object.class));
    let doubled = classes
        .iter()
        .find(|&&class| of_class(found, class).nth(1).is_some());
    foreign
        .map(|object| Obstacle::Foreign(object.class))
        .or(doubled.map(|&class| Obstacle::Duplicated(class)))
}

fn is_complete(intent: &Intent, found: &Found) -> bool {
    private_first(intent).all(|class| of_class(found, class).next().is_some())
}

fn activate(intent: &Intent, found: &Found) -> Result<Vec<Step>, Obstacle> {
    if let Some(obstacle) = disorder(intent, found) {
        return Err(obstacle);
    }
    if !is_complete(intent, found) {
        let mut steps = reinstall(intent, found)?;
        steps.push(Step::ProveEnabled);
        return Ok(steps);
    }
    if fit(intent, found) != Fit::Right {
        return Err(unproved(found));
    }
    let mut steps = relabel(intent, found);
    for class in private_first(intent).rev() {
        let usage = intent.object.usage_under(Want::Active, class);
        if of_class(found, class).any(|object| object.usage != usage) {
            steps.push(Step::SetUsage { class, usage });
        }
    }
    steps.push(Step::ProveEnabled);
    Ok(steps)
}

fn deactivate(intent: &Intent, found: &Found) -> Result<Vec<Step>, Obstacle> {
    let right = fit(intent, found) == Fit::Right;
    if !right && !found.objects.is_empty() && !is_named_by_us(intent) {
        return Err(unproved(found));
    }
    let steps = restrict(intent, found);
    match put_right(intent, found, right) {
        Ok(rest) => Ok(steps.into_iter().chain(rest).collect()),
        Err(obstacle) if steps.is_empty() => Err(obstacle),
        // What can be restricted is; the next look tells the obstacle.
        Err(_later) => Ok(steps),
    }
}

/// What a deactivated key needs beyond being restricted.
fn put_right(intent: &Intent, found: &Found, right: bool) -> Result<Vec<Step>, Obstacle> {
    if let Some(obstacle) = disorder(intent, found) {
        return Err(obstacle);
    }
    let mut steps = if is_complete(intent, found) {
        let raised = raise(intent, found);
        if !right && !raised.is_empty() {
            return Err(unproved(found));
        }
        relabel(intent, found).into_iter().chain(raised).collect()
    } else {
        reinstall(intent, found)?
    };
    steps.push(Step::ProveDisabled);
    Ok(steps)
}

/// Takes away every usage that the want does not have; adds none.
fn restrict(intent: &Intent, found: &Found) -> Vec<Step> {
    let mut steps = Vec::new();
    for class in private_first(intent) {
        let wanted = intent.object.usage_under(intent.want, class);
        let exceeds = |object: &ObjectFacts| !wanted.contains(object.usage);
        if of_class(found, class).any(exceeds) {
            let kept: Vec<_> = wanted
                .iter()
                .filter(|&usage| of_class(found, class).all(|object| object.usage.has(usage)))
                .collect();
            let usage = UsageSet::of(&kept);
            steps.push(Step::SetUsage { class, usage });
        }
    }
    steps
}

/// Adds the usages that a deactivated key keeps, where they are missing (`process_only`).
fn raise(intent: &Intent, found: &Found) -> Vec<Step> {
    private_first(intent)
        .rev()
        .filter_map(|class| {
            let usage = intent.object.usage_under(intent.want, class);
            of_class(found, class)
                .any(|object| !object.usage.contains(usage))
                .then_some(Step::SetUsage { class, usage })
        })
        .collect()
}

fn relabel(intent: &Intent, found: &Found) -> Vec<Step> {
    let label = printable(&intent.object.label);
    private_first(intent)
        .filter(|&class| of_class(found, class).any(|object| object.label != label))
        .map(|class| Step::SetLabel { class })
        .collect()
}

/// Destroys what there is of half a pair, installs anew, and gives the usages of the want.
fn reinstall(intent: &Intent, found: &Found) -> Result<Vec<Step>, Obstacle> {
    if let Some(object) = found.same_label.first() {
        return Err(Obstacle::LabelTaken(object.class));
    }
    let mut steps = destroy(intent, found)?;
    steps.push(Step::Install);
    steps.extend(enabled_after_install(intent));
    Ok(steps)
}

fn destroy(intent: &Intent, found: &Found) -> Result<Vec<Step>, Obstacle> {
    if found.objects.is_empty() {
        return Ok(Vec::new());
    }
    if fit(intent, found) != Fit::Right && !is_named_by_us(intent) {
        return Err(unproved(found));
    }
    let steps: Vec<Step> = private_first(intent)
        .filter(|&class| of_class(found, class).next().is_some())
        .map(|class| Step::Destroy { class })
        .collect();
    match found.objects.first() {
        Some(object) if steps.is_empty() => Err(Obstacle::Foreign(object.class)),
        Some(_) | None => Ok(steps),
    }
}

#[cfg(test)]
mod tests;
