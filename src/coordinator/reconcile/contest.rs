//! Who gives way where two coordinators, each with a store of its own, want one keystore (promises R-8): a restored copy that is
//! still beside the original, or two installations that were given one agent. An agent takes the higher term, so each could raise
//! its own above the other's for ever, and neither would get anything done.
//!
//! Owns: when a term may be raised again. Never: who is right; people say that.

use crate::model::ids::Term;

/// Between one raise and the next, milliseconds: the first is what a restored store needs to be heard at all.
const PAUSES_MS: [u64; 4] = [0, 30_000, 300_000, 1_800_000];

/// After so long without a raise all begins anew, milliseconds.
const OVER_MS: u64 = 7_200_000;

/// The raises of one keystore's keeper.
#[derive(Debug, Default)]
pub(crate) struct Contest {
    /// Whether the agent went to another, or is another's.
    is_lost: bool,
    has_rival: bool,
    above: Term,
    raises: usize,
    last_ms: u64,
}

impl Contest {
    /// The agent took a higher term; by a rival, if that ended a session of this process.
    pub(crate) const fn lost(&mut self, above: Term, by_rival: bool) {
        self.is_lost = true;
        self.above = above;
        self.has_rival |= by_rival;
    }

    /// What a term has to be above.
    pub(crate) const fn above(&self) -> Term {
        self.above
    }

    /// Whether another coordinator was at work since this process began.
    pub(crate) const fn has_rival(&self) -> bool {
        self.has_rival
    }

    /// Whether to ask for a session now, or why not. What was lost is asked for again at once, the next time later; by one whose
    /// store is older than its agents but once, then not before somebody has looked.
    pub(crate) fn turn(&mut self, now_ms: u64, is_behind: bool) -> Result<(), String> {
        if !self.is_lost {
            return Ok(());
        }
        let waited = now_ms.saturating_sub(self.last_ms);
        if waited >= OVER_MS {
            self.raises = 0;
        }
        let held = "another coordinator, which has another store, has this keystore";
        if is_behind && self.raises > 0 {
            return Err(format!(
                "{held}; this one's store is old: it comes back after lockstep recover --accept"
            ));
        }
        let last = PAUSES_MS.len().saturating_sub(1);
        let pause = PAUSES_MS.get(self.raises.min(last)).copied();
        let left = pause.unwrap_or(OVER_MS).saturating_sub(waited);
        if self.raises > 0 && left > 0 {
            let left = left.div_ceil(1_000);
            return Err(format!(
                "{held}: end one of the two; taken back in {left} s"
            ));
        }
        self.raises = self.raises.saturating_add(1);
        self.last_ms = now_ms;
        self.is_lost = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::reconcile::contest::{Contest, OVER_MS, PAUSES_MS};
    use crate::model::ids::Term;

    fn take(contest: &mut Contest, now: u64, is_behind: bool) -> Result<(), String> {
        contest.lost(Term(7), false);
        contest.turn(now, is_behind)
    }

    #[test]
    fn each_raise_waits_longer_than_the_one_before() {
        let mut contest = Contest::default();
        let mut now = 7;
        contest.turn(now, true).unwrap();
        take(&mut contest, now, false).unwrap();
        for pause in &PAUSES_MS[1..] {
            let why = take(&mut contest, now + pause - 1, false).unwrap_err();
            assert!(why.contains("taken back in 1 s"), "{why}");
            now += pause;
            contest.turn(now, false).unwrap();
            contest.turn(now, false).unwrap();
        }
        take(&mut contest, now + PAUSES_MS[3] - 1, false).unwrap_err();
        now += OVER_MS;
        contest.turn(now, false).unwrap();
        take(&mut contest, now + PAUSES_MS[1], false).unwrap();
    }

    #[test]
    fn a_rival_is_remembered() {
        let mut contest = Contest::default();
        contest.lost(Term(3), false);
        assert!(
            !contest.has_rival(),
            "that may have been before this process"
        );
        contest.lost(Term(4), true);
        contest.lost(Term(5), false);
        assert!(contest.has_rival());
        assert_eq!(contest.above(), Term(5));
    }

    #[test]
    fn an_old_store_gives_way() {
        let mut contest = Contest::default();
        take(&mut contest, 0, true).unwrap();
        let why = take(&mut contest, PAUSES_MS[3], true).unwrap_err();
        assert!(why.contains("recover"), "{why}");
        contest.turn(PAUSES_MS[3], false).unwrap();
    }
}
