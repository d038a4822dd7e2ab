//! What was last seen, kept for the time when an agent cannot be reached. A cache: failing to write it is no failure.

use crate::clock;
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::keeper::Keeper;
use crate::decide::status::seen;
use crate::model::desired::Instance;
use crate::model::ids::KeyVersionId;
use crate::model::live::{LastSeen, Live};
use crate::model::vault::UnixMs;
use crate::tls::error::chain;

/// Keeps what was last seen of these.
pub(crate) async fn note(shared: &Shared, keeper: &Keeper, versions: &[KeyVersionId]) {
    let now_ms = shared.now_ms();
    let at = clock::unix_ms();
    let seen: Vec<(KeyVersionId, LastSeen)> = keeper.with_machine(|machine| {
        let rows = versions.iter().filter_map(|version| {
            let instance = machine.desired().get(version)?;
            let live = machine.live(*version, now_ms);
            Some((*version, last_seen(instance, &live, at)?))
        });
        rows.collect()
    });
    if seen.is_empty() {
        return;
    }
    if let Err(error) = shared.store.seen_put(keeper.keystore(), seen).await {
        tracing::warn!(keystore = %keeper.keystore(), error = chain(&error), "last seen not kept");
    }
}

fn last_seen(instance: &Instance, live: &Live, now: UnixMs) -> Option<LastSeen> {
    let report = live.report.as_ref()?;
    let ago = |ms: u64| UnixMs(now.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
    Some(LastSeen {
        seen: seen(instance, &report.observation),
        at: ago(live.look_age_ms),
        proved_at: report.proof.as_ref().map(|_| ago(report.proof_age_ms)),
        proof: report.proof.as_ref().map_or_else(String::new, |proof| {
            format!("{} answered {}", proof.operation, proof.answer)
        }),
    })
}
