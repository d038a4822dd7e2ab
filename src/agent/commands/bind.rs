//! `bind`: writes the marker that says whose token it is. The only act by which an agent takes a token.

use anyhow::{Context as _, bail};

use crate::agent::commands::open::{self, Own};
use crate::agent::commands::say;
use crate::agent::config::Config;
use crate::agent::journal::file;
use crate::agent::pin::Source;
use crate::decide::agent::record::{JournalRecord, Record};
use crate::failpoint::{self, Point};
use crate::keystore::host::handle::HostHandle;
use crate::keystore::host::protocol::deadline;
use crate::model::ids::Epoch;
use crate::model::job::{TokenAnswer, TokenIdentity, TokenJob, TokenOutcome};
use crate::model::keystore::Marker;

/// What is to be done, from what journal and token say.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Journal and token agree already.
    Nothing,
    /// Write the marker; the journal has it from an attempt that was interrupted, or gets it first.
    Write { journal_first: bool },
    /// The marker is there: begin a new journal, as an operator has said.
    Journal,
}

/// Binds the configured token to this agent's keystore, epoch 1. With `journal_lost` a token that carries this keystore's marker
/// already gets a new journal: the coordinator tells this agent again what is wanted.
///
/// # Errors
/// If the token is another keystore's, was bound before, or cannot be opened.
pub fn bind(config: &Config, journal_lost: bool) -> anyhow::Result<()> {
    let pin = Source::open(&config.token)?;
    let own = open::own(config)?;
    let _lock = own.state.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let host = open::host(config, &own.state, pin)?;
        let bound = bind_on(&own, &host, journal_lost).await;
        drop(perform(&host, TokenJob::Stop).await);
        bound
    })
}

async fn bind_on(own: &Own, host: &HostHandle, journal_lost: bool) -> anyhow::Result<()> {
    let records = file::load::<JournalRecord>(&own.state.journal())?.records;
    let TokenAnswer::Identity(token) = perform(host, TokenJob::Identify).await? else {
        bail!("the module host answered another question");
    };
    let marker = Marker {
        keystore: own.keystore,
        epoch: Epoch(1),
    };
    let begin = |mut records: Vec<JournalRecord>| -> anyhow::Result<()> {
        records.push(JournalRecord::V1(Record::Bound(marker)));
        drop(file::rewrite(&own.state.journal(), &records)?);
        Ok(())
    };
    let found = plan(marker, own.bound(&records), &records, &token);
    match if_lost(found, journal_lost)? {
        Plan::Nothing => {}
        Plan::Journal => begin(records)?,
        Plan::Write { journal_first } => {
            if journal_first {
                // First the journal: a marker without a journal means that the journal was lost.
                begin(records)?;
            }
            failpoint::reach(Point::Journaled);
            perform(host, TokenJob::Bind(marker))
                .await
                .context("the marker could not be written; run `bind` again")?;
            failpoint::reach(Point::Done);
        }
    }
    say(&format!(
        "bound: token {:?} (serial {}) is keystore {}, epoch {}",
        token.info.label, token.info.serial, marker.keystore, marker.epoch
    ))
}

/// An operator has said that the journal is lost: what was refused for that is planned, and nothing else.
fn if_lost(found: Result<Plan, NotBound>, journal_lost: bool) -> anyhow::Result<Plan> {
    match (found, journal_lost) {
        (Err(NotBound::JournalLost { .. }), true) => Ok(Plan::Journal),
        (Ok(Plan::Nothing | Plan::Write { .. } | Plan::Journal), true) => {
            bail!("the journal is not lost; nothing was changed")
        }
        (found, _) => Ok(found?),
    }
}

/// Why a token was not bound. Nothing was changed.
#[derive(Debug, thiserror::Error)]
enum NotBound {
    #[error(
        "marker_missing: this keystore was in use, and its token has lost the marker: it was re-initialised, restored or \
         swapped; nothing was changed"
    )]
    MarkerMissing,
    #[error(
        "journal_lost: the token carries this keystore's marker (epoch {epoch}), and the journal in state_dir does not know \
         it. Put the newest state_dir back that there is; where there is none, `bind --journal-lost` begins a new journal, and \
         the coordinator tells this agent again what is wanted: see first that it is the right coordinator, and that its store \
         is not an old copy. Nothing was changed"
    )]
    JournalLost { epoch: Epoch },
    #[error("token_belongs_to: the token belongs to keystore {} (epoch {}); nothing was changed", .0.keystore, .0.epoch)]
    BelongsTo(Marker),
    #[error(
        "the token carries {0} markers; remove what is not this agent's by hand; nothing was changed"
    )]
    Several(usize),
}

fn plan(
    wanted: Marker,
    bound: Option<Marker>,
    records: &[JournalRecord],
    token: &TokenIdentity,
) -> Result<Plan, NotBound> {
    let used = records
        .iter()
        .any(|JournalRecord::V1(record)| !matches!(record, Record::Bound(_)));
    match (token.markers.as_slice(), bound) {
        ([], None) if !used => Ok(Plan::Write {
            journal_first: true,
        }),
        ([], Some(before)) if !used && before == wanted => Ok(Plan::Write {
            journal_first: false,
        }),
        ([], _) => Err(NotBound::MarkerMissing),
        ([found], Some(before)) if *found == before => Ok(Plan::Nothing),
        ([found], _) if found.keystore == wanted.keystore => {
            Err(NotBound::JournalLost { epoch: found.epoch })
        }
        ([found], _) => Err(NotBound::BelongsTo(*found)),
        (several, _) => Err(NotBound::Several(several.len())),
    }
}

async fn perform(host: &HostHandle, job: TokenJob) -> anyhow::Result<TokenAnswer> {
    let deadline = deadline(&job);
    match host.perform(job, deadline).await {
        TokenOutcome::Done(answer) => Ok(answer),
        TokenOutcome::Failed(failure) => Err(failure.into()),
        TokenOutcome::Unknown { why } => bail!("nobody knows what became of it: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::commands::bind::{Plan, plan};
    use crate::decide::agent::record::{JournalRecord, Record};
    use crate::model::ids::{Epoch, KeystoreId, SessionNumber, Term};
    use crate::model::job::TokenIdentity;
    use crate::model::keystore::{Marker, TokenInfo};

    fn marker(keystore: u128, epoch: u64) -> Marker {
        Marker {
            keystore: KeystoreId::from_uuid(uuid::Uuid::from_u128(keystore)),
            epoch: Epoch(epoch),
        }
    }

    fn check(markers: &[Marker], bound: bool, used: bool, expected: Result<Plan, &str>) {
        let mut records = Vec::new();
        if bound {
            records.push(JournalRecord::V1(Record::Bound(marker(1, 1))));
        }
        if used {
            records.push(JournalRecord::V1(Record::Session {
                number: SessionNumber(1),
                highest: Term(1),
            }));
        }
        let token = TokenIdentity {
            info: TokenInfo::default(),
            markers: markers.to_vec(),
        };
        let found = plan(marker(1, 1), bound.then(|| marker(1, 1)), &records, &token);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => {
                assert!(found.to_string().starts_with(expected), "{found}");
            }
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_token_is_taken_once_and_never_from_another() {
        let write = |journal_first| Ok(Plan::Write { journal_first });
        check(&[], false, false, write(true));
        check(&[], true, false, write(false));
        check(&[marker(1, 1)], true, false, Ok(Plan::Nothing));
        check(&[marker(1, 1)], true, true, Ok(Plan::Nothing));
        check(&[], true, true, Err("marker_missing: "));
        check(&[], false, true, Err("marker_missing: "));
        check(&[marker(1, 1)], false, false, Err("journal_lost: "));
        check(&[marker(1, 2)], true, true, Err("journal_lost: "));
        check(&[marker(2, 1)], false, false, Err("token_belongs_to: "));
        check(&[marker(2, 1)], true, true, Err("token_belongs_to: "));
        let two = [marker(1, 1), marker(2, 1)];
        check(&two, true, true, Err("the token carries 2 markers"));
    }
}
