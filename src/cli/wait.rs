//! Waits until a change is confirmed on every keystore, with a line on standard error whenever there is news of one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::find::key_path;
use crate::cli::status;
use crate::clock::Monotonic;
use crate::model::difference::{HealedBy, Reason};
use crate::model::text::printable;
use crate::rest::managed_key::ManagedKey;
use crate::rest::status::{Difference, Phase, StatusInKeystore, SyncFlag};

/// Seconds that `--wait` waits for where it does not say.
pub const WAIT_S_DEFAULT: &str = "60";

/// Pauses between two looks: short at first, for most changes are confirmed at once.
static PAUSES_MS: [u64; 4] = [50, 100, 200, 400];

/// Waits for a change: until it is confirmed, or all that is not is beyond waiting. Where a keystore refused it for good, those
/// that cannot be reached are not waited for. Gives the key as it was last.
///
/// # Errors
/// If the coordinator does not answer, or standard error is closed.
pub fn until_settled(
    context: &mut Context<'_, '_>,
    id: &str,
    limit: Duration,
) -> anyhow::Result<ManagedKey> {
    until(context, id, limit, |key| {
        let is_refused = is_refused(key);
        let is_over = |item: &StatusInKeystore| is_settled(item) || (is_refused && is_away(item));
        key.progress.phase == Phase::InStep
            || (key.coming_version.is_none() && items(key).all(|(_, item)| is_over(item)))
    })
}

/// What is true on each keystore, of the version in use and of those before it that are not as wanted; the number of the latter.
fn items(key: &ManagedKey) -> impl Iterator<Item = (Option<u32>, &StatusInKeystore)> {
    let before = key.unsettled_versions.iter().flat_map(|version| {
        let items = version.status_in_keystores.iter();
        items.map(|item| (Some(version.version), item))
    });
    let current = key.status_in_keystores.iter().map(|item| (None, item));
    current.chain(before)
}

/// Whether a keystore will not have it, however long one waits: somebody has to act.
pub(crate) fn is_refused(key: &ManagedKey) -> bool {
    let is_ours = |one: &Difference| one.healed_by == HealedBy::Operator;
    items(key).any(|(_, item)| {
        item.keystore_sync_flag != SyncFlag::Ok
            && is_settled(item)
            && item.differences.iter().any(is_ours)
    })
}

/// Whether it waits for nothing but the keystore to come back.
fn is_away(item: &StatusInKeystore) -> bool {
    let is_away =
        |one: &Difference| matches!(one.reason, Reason::Unreachable | Reason::TokenUnavailable);
    let mut waiting = item.differences.iter();
    waiting.any(is_away)
}

/// Waits until the key is in step, by whosever doing. Gives the key as it was last.
///
/// # Errors
/// If the coordinator does not answer, or standard error is closed.
pub fn until_in_step(
    context: &mut Context<'_, '_>,
    id: &str,
    limit: Duration,
) -> anyhow::Result<ManagedKey> {
    until(context, id, limit, |key| {
        key.progress.phase == Phase::InStep
    })
}

/// Whether waiting changes nothing more there.
pub(crate) fn is_settled(item: &StatusInKeystore) -> bool {
    let is_waiting = |one: &Difference| one.healed_by == HealedBy::Waiting;
    match item.keystore_sync_flag {
        SyncFlag::Ok => true,
        SyncFlag::VerifyingSync => false,
        SyncFlag::OutOfSync | SyncFlag::Error => {
            !item.differences.is_empty() && !item.differences.iter().any(is_waiting)
        }
    }
}

fn until(
    context: &mut Context<'_, '_>,
    id: &str,
    limit: Duration,
    is_enough: impl Fn(&ManagedKey) -> bool,
) -> anyhow::Result<ManagedKey> {
    let mut pace = Pace::new(limit);
    let mut said = BTreeMap::new();
    loop {
        let key: ManagedKey = context.client.one(&key_path(id))?.value;
        tell(context, &key, &mut said)?;
        if is_enough(&key) || !pace.pause() {
            return Ok(key);
        }
    }
}

/// The pauses of a wait, and its end.
#[derive(Debug)]
pub struct Pace {
    began: Monotonic,
    limit: Duration,
    pauses: std::slice::Iter<'static, u64>,
    pause: Duration,
}

impl Pace {
    /// A wait of at most so long, from now on.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            began: Monotonic::now(),
            limit,
            pauses: PAUSES_MS.iter(),
            pause: Duration::ZERO,
        }
    }

    /// Pauses before another look; false: the time is up.
    pub fn pause(&mut self) -> bool {
        let left = self.limit.saturating_sub(self.began.elapsed());
        if left.is_zero() {
            return false;
        }
        if let Some(pause_ms) = self.pauses.next() {
            self.pause = Duration::from_millis(*pause_ms);
        }
        std::thread::sleep(self.pause.min(left));
        true
    }
}

fn tell(
    context: &mut Context<'_, '_>,
    key: &ManagedKey,
    said: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let name = |version: Option<u32>, item: &StatusInKeystore| {
        let name = printable(&item.keystore.name);
        version.map_or_else(
            || name.clone(),
            |number| format!("{name} (version {number})"),
        )
    };
    let width = items(key).map(|(version, item)| name(version, item).len());
    let width = width.max().unwrap_or(0);
    for (version, item) in items(key) {
        let news = status::progress(item);
        let place = format!("{}/{}", item.keystore.id, item.instance.id);
        if said.get(&place) != Some(&news) {
            let name = name(version, item);
            writeln!(context.terminal.err, "  {name:width$}  {news}")?;
            said.insert(place, news);
        }
    }
    Ok(())
}
