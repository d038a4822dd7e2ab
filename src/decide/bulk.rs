//! Bulk changes: which key is in which wave, what is next, and what a key's keystores say about it. Pure.
//!
//! A wave begins when the one before is confirmed, or its time is up and somebody said to go on then. Within a wave, only so many
//! keys are on their way at once that a stop means something.

use crate::model::bulk::{BulkAction, BulkChange, Late, StopOn, Tally, WAVES_MAX, WaveSize};
use crate::model::difference::Status;
use crate::model::lifecycle::ManagedState;
use crate::model::vault::UnixMs;

/// Keys that are begun at once.
pub const SLICE_MAX: u32 = 50;

/// Keys that may be unconfirmed while something can stop it: so many more, at most, meet what the first one met.
pub const UNCONFIRMED_MAX: u32 = 100;

/// Waves that cannot be meant so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWaves {
    /// None, or too many.
    #[error("1 to {WAVES_MAX} waves")]
    Count,
    /// Keys would be left over, or waves.
    #[error("the last wave, and no other, is `rest`")]
    Rest,
}

/// Checks the waves.
///
/// # Errors
/// [`InvalidWaves`].
pub fn check_waves(sizes: &[WaveSize]) -> Result<(), InvalidWaves> {
    if sizes.is_empty() || sizes.len() > WAVES_MAX {
        return Err(InvalidWaves::Count);
    }
    let rest = sizes.iter().position(|size| *size == WaveSize::Rest);
    if rest == Some(sizes.len() - 1) {
        Ok(())
    } else {
        Err(InvalidWaves::Rest)
    }
}

/// The waves where nobody says: what takes use away goes everywhere at once; all else tries one key, then a tenth.
#[must_use]
pub fn default_waves(action: BulkAction) -> Vec<WaveSize> {
    if action.reduces_use() {
        vec![WaveSize::Rest]
    } else {
        vec![WaveSize::Keys(1), WaveSize::Percent(10), WaveSize::Rest]
    }
}

/// What stops it where nobody says.
#[must_use]
pub const fn default_stop_on(action: BulkAction) -> StopOn {
    if action.reduces_use() {
        StopOn::Never
    } else {
        StopOn::OutOfStep
    }
}

/// What happens when a wave is late, where nobody says.
#[must_use]
pub const fn default_late(action: BulkAction) -> Late {
    if action.reduces_use() {
        Late::GoOn
    } else {
        Late::Pause
    }
}

/// The wave of each key, from 1, in the order of the keys. `is_within` says whether all targets of a key are in a group.
#[must_use]
pub fn assign(
    sizes: &[WaveSize],
    keys: usize,
    is_within: impl Fn(usize, &str) -> bool,
) -> Vec<u32> {
    let mut waves = vec![0; keys];
    for (size, wave) in sizes.iter().zip(1..) {
        let limit = match size {
            WaveSize::Keys(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            WaveSize::Percent(percent) => keys.saturating_mul(usize::from(*percent)).div_ceil(100),
            WaveSize::Group(_) | WaveSize::Rest => keys,
        };
        let fits = |place: usize| match size {
            WaveSize::Group(group) => is_within(place, group),
            WaveSize::Keys(_) | WaveSize::Percent(_) | WaveSize::Rest => true,
        };
        let free = waves.iter_mut().enumerate().filter(|(_, wave)| **wave == 0);
        for (_, one) in free.filter(|(place, _)| fits(*place)).take(limit) {
            *one = wave;
        }
    }
    waves
}

/// What is next in a bulk change that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Begin so many keys of this wave, at most.
    Begin(u32),
    /// Wait for the keys that are on their way.
    Wait,
    /// This wave is over, another one comes.
    Advance,
    /// The last wave is over.
    End,
    /// This wave was not confirmed in time: pause.
    NotConfirmed,
}

/// What is next, by the tally of the wave that runs.
#[must_use]
pub fn next(bulk: &BulkChange, wave: &Tally, now: UnixMs) -> Next {
    let room = match bulk.stop_on {
        StopOn::Never => SLICE_MAX,
        StopOn::OutOfStep | StopOn::Refusal => UNCONFIRMED_MAX.saturating_sub(wave.changing),
    };
    let count = wave.pending.min(SLICE_MAX).min(room);
    if count > 0 {
        return Next::Begin(count);
    }
    let since = wave
        .last_begun
        .map_or(bulk.wave_since, |last| last.max(bulk.wave_since));
    let within_ms = i64::from(bulk.confirm_within_s).saturating_mul(1000);
    let is_late = now.0.saturating_sub(since.0) >= within_ms;
    let is_over = wave.pending == 0 && wave.changing == 0;
    match bulk.late {
        Late::Pause | Late::GoOn if is_over => {}
        Late::GoOn if is_late && wave.pending == 0 => {}
        // Only where so many are stuck that no other can begin.
        Late::GoOn if is_late => return Next::Begin(wave.pending.min(SLICE_MAX)),
        Late::Pause if is_late => return Next::NotConfirmed,
        Late::Pause | Late::GoOn => return Next::Wait,
    }
    let last = u32::try_from(bulk.sizes.len()).unwrap_or(u32::MAX);
    if bulk.wave < last {
        Next::Advance
    } else {
        Next::End
    }
}

/// What is to be done with a key when it is its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The action.
    Act,
    /// Nothing: it is so already.
    Already,
    /// Nothing: somebody changed the key since the bulk change was made.
    Changed,
}

/// What is to be done with a key that was planned in one state and version, and is in another one now. What people did since
/// stands: a key that somebody deactivated is not activated by a bulk change that was made before.
#[must_use]
pub fn turn(action: BulkAction, planned: (ManagedState, u32), now: (ManagedState, u32)) -> Turn {
    if action == BulkAction::Sync {
        return Turn::Act;
    }
    let wanted = action.transition().map(|of| planned.0.after(of));
    match wanted {
        Some(Ok(wanted)) if wanted == now.0 => Turn::Already,
        None if action == BulkAction::Rotate && now.1 > planned.1 => Turn::Already,
        Some(_) | None if now.0 == planned.0 => Turn::Act,
        Some(_) | None => Turn::Changed,
    }
}

/// What a key's keystores say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// All have it as wanted.
    Confirmed,
    /// One will not have it, however long one waits.
    Refused,
    /// One is not as wanted, and nothing is on its way there.
    OutOfStep,
    /// Something is on its way, or not known.
    Waiting,
}

/// Judges a key by each keystore's status, and whether nothing is on its way there; `is_coming`: a version waits to be given out.
#[must_use]
pub fn judge<'s>(rows: impl IntoIterator<Item = (&'s Status, bool)>, is_coming: bool) -> Judged {
    let mut worst = if is_coming { 1 } else { 0 };
    for (status, is_settled) in rows {
        let rank = match status {
            Status::InSync(_) => 0,
            Status::Failed { .. } | Status::Diverged if is_settled => 3,
            Status::Drift | Status::Unavailable { .. } if is_settled => 2,
            Status::Pending { .. }
            | Status::Unknown { .. }
            | Status::Failed { .. }
            | Status::Diverged
            | Status::Drift
            | Status::Unavailable { .. } => 1,
        };
        worst = worst.max(rank);
    }
    match worst {
        0 => Judged::Confirmed,
        1 => Judged::Waiting,
        2 => Judged::OutOfStep,
        _ => Judged::Refused,
    }
}

/// Whether that stops the whole.
#[must_use]
pub const fn stops(stop_on: StopOn, judged: Judged) -> bool {
    match (stop_on, judged) {
        (StopOn::OutOfStep, Judged::OutOfStep | Judged::Refused)
        | (StopOn::Refusal, Judged::Refused) => true,
        (StopOn::Never, _) | (_, Judged::Confirmed | Judged::Waiting) | (StopOn::Refusal, _) => {
            false
        }
    }
}

#[cfg(test)]
mod tests;
