//! What is done by itself about drift (promises R12): which instances a vault's policy has put right, how often, and when a
//! token looks like an older image of itself, so that nothing is done at all.

use crate::model::desired::{Instance, Want};
use crate::model::difference::{CausedBy, Difference, HealedBy, Reason, Weight};
use crate::model::live::Differing;
use crate::model::observed::{Found, ObjectFacts};
use crate::model::vault::DriftPolicy;

/// So many instances that drifted at once are not one mishap each.
const MASS: usize = 10;

/// They are at least this part of all on the keystore: one in four.
const MASS_PART: usize = 4;

/// What is put right and drifts again is put right again after this long, milliseconds; each time after twice as long.
const AGAIN_MS: u64 = 60_000;

/// At most this long, milliseconds: somebody fights over the key, and is told.
const AGAIN_MS_MAX: u64 = 3_600_000;

/// What speaks for a token that was put back from an older image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollback {
    /// Destroyed keys that are there again. Tokens keep their keys from being read, so only an image brings one back.
    pub back: usize,
    /// Other instances that are not as they were left.
    pub drifted: usize,
    /// How many instances there are.
    pub of: usize,
}

/// Whether a token looks like an older image of itself: a destroyed key is back, or much drifted at once.
#[must_use]
pub fn rollback(differing: &Differing) -> Option<Rollback> {
    let count = |wanted: fn(Reason) -> bool| {
        let is_so = |reasons: &&Vec<Reason>| reasons.iter().any(|reason| wanted(*reason));
        let reasons = differing.instances.iter().map(|(_, reasons)| reasons);
        reasons.filter(is_so).count()
    };
    let back = count(|reason| reason == Reason::DestroyedKeyPresent);
    let drifted = count(is_of_the_token);
    let is_mass = drifted >= MASS && drifted.saturating_mul(MASS_PART) >= differing.of;
    (back > 0 || is_mass).then_some(Rollback {
        back,
        drifted,
        of: differing.of,
    })
}

/// Whether an older image would show it.
const fn is_of_the_token(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Missing
            | Reason::EnabledUnexpectedly
            | Reason::DisabledUnexpectedly
            | Reason::UsageChanged
            | Reason::LabelChanged
            | Reason::RemovedTargetActive
            | Reason::NotWithdrawn
    )
}

/// Whether the policy has this instance put right, by what a sync would do. Never a destroyed key that is back.
#[must_use]
pub fn is_mended(
    policy: DriftPolicy,
    instance: &Instance,
    found: Option<&Found>,
    differences: &[Difference],
) -> bool {
    let is_back = |one: &Difference| one.reason == Reason::DestroyedKeyPresent;
    let is_drift = |one: &Difference| {
        one.weight == Weight::OutOfSync
            && one.caused_by == CausedBy::OutOfBand
            && one.healed_by == HealedBy::Sync
    };
    if differences.iter().any(is_back) || !differences.iter().any(is_drift) {
        return false;
    }
    match policy {
        DriftPolicy::Report => false,
        DriftPolicy::Restrict => found.is_some_and(|found| is_restricted(instance, found)),
        DriftPolicy::Enforce => true,
    }
}

/// Whether putting it right takes usages away, and gives none.
fn is_restricted(instance: &Instance, found: &Found) -> bool {
    let intent = &instance.intent;
    let planned = |facts: &ObjectFacts| intent.object.usage_under(intent.want, facts.class);
    let is_extra = |facts: &ObjectFacts| !planned(facts).contains(facts.usage);
    let is_whole = |facts: &ObjectFacts| facts.usage.contains(planned(facts));
    match intent.want {
        // Also what is disabled and should be withdrawn: it is on the token.
        Want::Deactivated => !found.objects.is_empty(),
        Want::Active => found.objects.iter().any(is_extra) && found.objects.iter().all(is_whole),
        Want::Destroyed => false,
    }
}

/// When an instance was put right, so that it is not done for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    times: u32,
    last_ms: u64,
}

impl Pace {
    /// Whether it may be put right now.
    #[must_use]
    pub fn may(&self, now_ms: u64) -> bool {
        self.times == 0 || now_ms.saturating_sub(self.last_ms) >= self.pause()
    }

    /// It was. What held for as long as the longest pause begins anew.
    pub fn did(&mut self, now_ms: u64) {
        if self.is_over(now_ms) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.last_ms = now_ms;
    }

    /// Whether it needs not be remembered.
    #[must_use]
    pub fn is_over(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_ms) >= AGAIN_MS_MAX.saturating_mul(2)
    }

    fn pause(&self) -> u64 {
        let doubled = 1_u64.checked_shl(self.times.saturating_sub(1));
        let pause = doubled.map_or(AGAIN_MS_MAX, |times| AGAIN_MS.saturating_mul(times));
        pause.min(AGAIN_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::decide::drift::{AGAIN_MS, AGAIN_MS_MAX, Pace, rollback};
    use crate::model::difference::Reason;
    use crate::model::ids::KeyVersionId;
    use crate::model::live::Differing;

    fn check(of: usize, reasons: &[(usize, Reason)], expected: bool) {
        let each = reasons
            .iter()
            .flat_map(|&(count, reason)| std::iter::repeat_n(reason, count));
        let named = each.enumerate().map(|(n, reason)| {
            let id = Uuid::from_u128(u128::try_from(n).unwrap());
            (KeyVersionId::from_uuid(id), vec![reason])
        });
        let differing = Differing {
            of,
            instances: named.collect(),
        };
        assert_eq!(rollback(&differing).is_some(), expected, "{differing:?}");
    }

    #[test]
    fn an_older_image_has_destroyed_keys_or_much_that_drifted() {
        check(5, &[], false);
        check(5, &[(5, Reason::Missing)], false);
        check(1_000, &[(1, Reason::DestroyedKeyPresent)], true);
        check(40, &[(10, Reason::Missing)], true);
        check(41, &[(10, Reason::Missing)], false);
        check(40, &[(9, Reason::Missing)], false);
        let both = [(5, Reason::EnabledUnexpectedly), (5, Reason::Missing)];
        check(40, &both, true);
        // What is on its way, or nobody can reach, no image explains.
        check(40, &[(40, Reason::Unproved)], false);
        check(40, &[(40, Reason::Unreachable)], false);
    }

    #[test]
    fn what_comes_back_is_put_right_less_and_less_often() {
        let mut pace = Pace::default();
        let mut now = 5;
        for pause in [AGAIN_MS, AGAIN_MS * 2, AGAIN_MS * 4] {
            assert!(pace.may(now));
            pace.did(now);
            assert!(!pace.may(now + pause - 1));
            now += pause;
        }
        for _ in 0..100 {
            assert!(pace.may(now));
            pace.did(now);
            now += AGAIN_MS_MAX;
        }
        assert!(!pace.is_over(now));
        now += AGAIN_MS_MAX;
        assert!(pace.is_over(now));
        pace.did(now);
        assert!(pace.may(now + AGAIN_MS), "it held for long");
    }
}
