//! Waits until a change is confirmed on every keystore, with a line on standard error whenever there is news of one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::context::Context;
use crate::cli::find::key_path;
use crate::cli::status;
use crate::clock::Monotonic;
use crate::model::text::printable;
use crate::rest::managed_key::ManagedKey;
use crate::rest::status::{Phase, StatusInKeystore};

/// Seconds that `--wait` waits for where it does not say.
pub const WAIT_S_DEFAULT: &str = "60";

/// Pauses between two looks: short at first, for most changes are confirmed at once.
const PAUSES_MS: [u64; 4] = [50, 100, 200, 400];

/// Gives the key as it was last, in step or not.
///
/// # Errors
/// If the coordinator does not answer, or standard error is closed.
pub fn until_confirmed(
    context: &mut Context<'_, '_>,
    id: &str,
    limit: Duration,
) -> anyhow::Result<ManagedKey> {
    let began = Monotonic::now();
    let mut said = BTreeMap::new();
    let mut pauses = PAUSES_MS.iter();
    let mut pause = Duration::ZERO;
    loop {
        let key: ManagedKey = context.client.one(&key_path(id))?.value;
        tell(context, &key.status_in_keystores, &mut said)?;
        let left = limit.saturating_sub(began.elapsed());
        if key.progress.phase == Phase::InStep || left.is_zero() {
            return Ok(key);
        }
        pause = pauses
            .next()
            .map_or(pause, |pause_ms| Duration::from_millis(*pause_ms));
        std::thread::sleep(pause.min(left));
    }
}

fn tell(
    context: &mut Context<'_, '_>,
    items: &[StatusInKeystore],
    said: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let name = |item: &StatusInKeystore| printable(&item.keystore.name);
    let width = items.iter().map(|item| name(item).len()).max();
    for item in items {
        let news = status::progress(item);
        if said.get(&item.keystore.id) != Some(&news) {
            let name = name(item);
            writeln!(
                context.terminal.err,
                "  {name:width$}  {news}",
                width = width.unwrap_or(0)
            )?;
            said.insert(item.keystore.id.clone(), news);
        }
    }
    Ok(())
}
