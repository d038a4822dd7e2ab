//! The promises, checked on what store and agents say now.

use std::collections::BTreeMap;

use crate::coordinator::ops::doctor::{Bed, Check, Estate, Kind, Verdict};
use crate::decide::check::Invariant;
use crate::decide::check::history::Place;
use crate::decide::check::moment::{
    Sight, honest, kept, not_behind, recorded, terminal, truth, unique,
};
use crate::decide::status::status;
use crate::model::desired::{Applied, Want};
use crate::model::difference::Status;
use crate::model::ids::KeyId;
use crate::model::observed::{Found, Observation};
use crate::model::protocol::{Progress, Report};

const ACKNOWLEDGED: Kind = Kind {
    name: "acknowledged_kept",
    invariant: Some(Invariant::AcknowledgedKept),
    verdict: Verdict::Violated,
    meaning: "Something that was acknowledged is not in the store: it was restored from an older backup, or damaged.",
    advice: "Change no key before you know which. Where an agent is ahead, `lockstep recover` shows what each key \
             would become.",
};

const INTENT_FIRST: Kind = Kind {
    name: "intent_first",
    invariant: Some(Invariant::IntentFirst),
    verdict: Verdict::Violated,
    meaning: "An intent has no audit entry: it was written past Lockstep, or the log was cut.",
    advice: "Find out who writes to the store. Keep a copy of it as it is, and compare with the newest backup.",
};

const TERMINAL: Kind = Kind {
    name: "terminal",
    invariant: Some(Invariant::Terminal),
    verdict: Verdict::Violated,
    meaning: "A destroyed key is on a token, or is wanted there: somebody put it back, or a token was restored.",
    advice: "Find out where it came from; then sync the key, which destroys it again.",
};

const UNIQUENESS: Kind = Kind {
    name: "uniqueness",
    invariant: Some(Invariant::Uniqueness),
    verdict: Verdict::Violated,
    meaning: "A token holds a key more than once: which of the objects an application uses is chance.",
    advice: "Look at the objects with the token's own tools, remove what is not ours, and verify the key.",
};

const TRUTH: Kind = Kind {
    name: "truth",
    invariant: Some(Invariant::Truth),
    verdict: Verdict::Violated,
    meaning: "A keystore is shown in sync although its agent's own report says another thing: an error of Lockstep.",
    advice: "Trust the token, not the page. Verify the key, and report the error with this output.",
};

const HONEST: Kind = Kind {
    name: "honest_partial",
    invariant: Some(Invariant::HonestPartial),
    verdict: Verdict::Violated,
    meaning: "A key is shown deactivated or destroyed although a part of it can be used: an error of Lockstep.",
    advice: "Take the key for usable. Verify it, and report the error with this output.",
};

const CONVERGENCE: Kind = Kind {
    name: "convergence",
    invariant: Some(Invariant::Convergence),
    verdict: Verdict::Warning,
    meaning: "A change has been under way for longer than it should, on a keystore that answers.",
    advice: "Look at the key's status for what it waits for; look at the agent's log.",
};

/// All of them.
pub(crate) fn checks(estate: &Estate) -> Vec<Check> {
    let statuses: Vec<Status> = estate
        .beds
        .iter()
        .map(|bed| status(&bed.instance, &bed.live, &bed.terms))
        .collect();
    let found: Vec<Found> = estate.beds.iter().map(found).collect();
    let sights: Vec<(KeyId, Sight<'_>)> = estate
        .beds
        .iter()
        .zip(&statuses)
        .zip(&found)
        .map(|((bed, status), found)| (bed.key, sight(bed, status, found)))
        .collect();
    vec![
        acknowledged(estate),
        intent_first(estate),
        terminals(estate, &found),
        UNIQUENESS.broken(sights.iter().filter_map(|(_, sight)| {
            let intent = &sight.instance.intent;
            unique(Place::of(intent), &sight.found.objects)
        })),
        TRUTH.broken(sights.iter().filter_map(|(_, sight)| truth(sight))),
        honesty(&sights),
        convergence(estate, &statuses),
    ]
}

fn report(bed: &Bed) -> Option<&Report> {
    bed.live.report.as_ref()
}

fn applied(bed: &Bed) -> Option<&Applied> {
    report(bed)?.applied.as_ref()
}

/// What the agent last saw.
fn found(bed: &Bed) -> Found {
    match report(bed).map(|report| &report.observation) {
        Some(Observation::Present(found)) => found.clone(),
        Some(
            Observation::Absent { .. }
            | Observation::Unknown { .. }
            | Observation::Suspected { .. },
        )
        | None => Found::default(),
    }
}

fn sight<'a>(bed: &'a Bed, status: &'a Status, found: &'a Found) -> Sight<'a> {
    Sight {
        instance: &bed.instance,
        status,
        found,
        strategy: report(bed)
            .map(|report| report.strategy)
            .unwrap_or_default(),
        edited_since: false,
    }
}

fn acknowledged(estate: &Estate) -> Check {
    let lost = estate
        .checkup
        .iter()
        .flat_map(|checkup| kept(&checkup.answered, &checkup.audited));
    let ahead = estate
        .beds
        .iter()
        .filter_map(|bed| not_behind(&bed.instance, applied(bed)?));
    ACKNOWLEDGED.broken(lost.chain(ahead))
}

fn intent_first(estate: &Estate) -> Check {
    let Some(checkup) = &estate.checkup else {
        return INTENT_FIRST.found(Vec::new());
    };
    let log = &checkup.audited_intents;
    let broken = estate.beds.iter().flat_map(|bed| {
        let intent = &bed.instance.intent;
        let place = Place::of(intent);
        let wanted = recorded(place, &intent.applied(), log);
        // One that is ahead of the store is told as that.
        let applied = applied(bed).filter(|applied| applied.generation < intent.generation);
        let applied = applied.and_then(|applied| recorded(place, applied, log));
        wanted.into_iter().chain(applied)
    });
    INTENT_FIRST.broken(broken)
}

fn terminals(estate: &Estate, found: &[Found]) -> Check {
    let mut told = Vec::new();
    for (bed, found) in estate.beds.iter().zip(found) {
        let intent = &bed.instance.intent;
        let key = estate.keys.get(&bed.key);
        let is_destroyed = key.is_some_and(|key| key.state.is_destroyed());
        if is_destroyed && intent.want != Want::Destroyed {
            let Place { keystore, version } = Place::of(intent);
            let want = intent.want.name();
            told.push(format!(
                "key version {version} on {keystore}: the key is destroyed, and wanted there as {want}"
            ));
        }
        let is_done = report(bed).is_some_and(|report| {
            report.progress == Progress::Done && report.applied == Some(intent.applied())
        });
        if is_done && let Some(broken) = terminal(Place::of(intent), intent.want, &found.objects) {
            told.push(broken.what);
        }
    }
    TERMINAL.found(told)
}

fn honesty(sights: &[(KeyId, Sight<'_>)]) -> Check {
    let mut by_key: BTreeMap<KeyId, Vec<Sight<'_>>> = BTreeMap::new();
    for (key, sight) in sights {
        by_key.entry(*key).or_default().push(*sight);
    }
    HONEST.broken(by_key.values().filter_map(|sights| honest(sights)))
}

fn convergence(estate: &Estate, statuses: &[Status]) -> Check {
    let late = estate
        .beds
        .iter()
        .zip(statuses)
        .filter_map(|(bed, status)| {
            let Status::Pending { why, .. } = status else {
                return None;
            };
            let age_ms = estate.now.0.saturating_sub(bed.instance.since.0);
            let Place { keystore, version } = Place::of(&bed.instance.intent);
            let age_s = age_ms / 1000;
            (age_ms > estate.late_after_ms)
                .then(|| format!("key version {version} on {keystore}: for {age_s} s: {why}"))
        });
    CONVERGENCE.found(late.collect())
}
