//! What the sessions of other coordinators know, as they told it: shown with its age, and not at all when it is too old.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::coordinator::ops::fleet::LiveKeystore;
use crate::coordinator::store::sharing::News;
use crate::model::ids::{KeyVersionId, KeystoreId, Term};
use crate::model::live::{Connection, Differing, Live};
use crate::model::protocol::Report;

/// What a coordinator tells of a keystore that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// The line and the token.
    pub(crate) live: LiveKeystore,
    /// What its agent keeps and the store does not know, without ages.
    pub(crate) strangers: Vec<Report>,
}

/// The mirror.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    /// To ask for news with.
    pub(crate) cursor: i64,
    lines: BTreeMap<KeystoreId, Line>,
    instances: BTreeMap<KeystoreId, BTreeMap<KeyVersionId, Told>>,
}

#[derive(Debug)]
struct Line {
    term: Term,
    /// When the holder confirmed it last, by this process's clock.
    told_ms: u64,
    scanned_ms: Option<u64>,
    account: Account,
}

#[derive(Debug)]
struct Told {
    term: Term,
    at_ms: u64,
    record: String,
    live: Live,
}

impl Mirror {
    /// Takes the news; whether anything is new to people. What cannot be read is of another program's version: left out.
    pub(crate) fn take(&mut self, news: News, now_ms: u64) -> bool {
        self.cursor = news.cursor;
        let mut is_new = false;
        let mut lines = BTreeMap::new();
        for line in news.lines {
            let record = line
                .record
                .and_then(|text| serde_json::from_str(&text).ok());
            let earlier = self.lines.remove(&line.keystore);
            let known = earlier.filter(|earlier| earlier.term == line.term);
            let account: Option<Account> = match (record, known) {
                (Some(told), known) => {
                    is_new |= known.is_none_or(|known| known.account != told);
                    Some(told)
                }
                (None, known) => known.map(|known| known.account),
            };
            if let Some(account) = account {
                let line_now = Line {
                    term: line.term,
                    told_ms: now_ms.saturating_sub(line.age_ms),
                    scanned_ms: line.scan_age_ms.map(|age| now_ms.saturating_sub(age)),
                    account,
                };
                lines.insert(line.keystore, line_now);
            }
        }
        // Those that are left were lost or let go.
        is_new |= !self.lines.is_empty();
        self.lines = lines;
        for told in news.instances {
            let Ok(live) = serde_json::from_str(&told.record) else {
                continue;
            };
            let of = self.instances.entry(told.keystore).or_default();
            let same = of
                .get(&told.version)
                .is_some_and(|known| known.record == told.record && known.term == told.term);
            is_new |= !same;
            let now = Told {
                term: told.term,
                at_ms: now_ms.saturating_sub(told.age_ms),
                record: told.record,
                live,
            };
            of.insert(told.version, now);
        }
        let lines = &self.lines;
        self.instances.retain(|keystore, of| {
            let term = lines.get(keystore).map(|line| line.term);
            of.retain(|_version, told| Some(told.term) == term);
            !of.is_empty()
        });
        is_new
    }

    /// The line of a keystore, if it was confirmed within `fresh_ms`.
    fn line(&self, keystore: KeystoreId, now_ms: u64, fresh_ms: u64) -> Option<&Line> {
        let line = self.lines.get(&keystore)?;
        (now_ms.saturating_sub(line.told_ms) <= fresh_ms).then_some(line)
    }

    /// What is known of a keystore.
    pub(crate) fn live_keystore(
        &self,
        keystore: KeystoreId,
        now_ms: u64,
        fresh_ms: u64,
    ) -> Option<LiveKeystore> {
        let line = self.line(keystore, now_ms, fresh_ms)?;
        Some(LiveKeystore {
            scan_age_ms: line.scanned_ms.map(|at| now_ms.saturating_sub(at)),
            ..line.account.live.clone()
        })
    }

    /// The instances that are not as wanted.
    pub(crate) fn differing(
        &self,
        keystore: KeystoreId,
        now_ms: u64,
        fresh_ms: u64,
    ) -> Option<Differing> {
        let line = self.line(keystore, now_ms, fresh_ms)?;
        let told = self.instances.get(&keystore)?;
        if line.account.live.connection != Connection::Live {
            return None;
        }
        let reasons = |told: &Told| told.live.since.iter().map(|(reason, _)| *reason).collect();
        Some(Differing {
            of: told.len(),
            instances: told
                .iter()
                .filter(|(_, told)| !told.live.since.is_empty())
                .map(|(version, told)| (*version, reasons(told)))
                .collect(),
        })
    }

    /// What its agent keeps and the store does not know.
    pub(crate) fn strangers(
        &self,
        keystore: KeystoreId,
        now_ms: u64,
        fresh_ms: u64,
    ) -> Option<Vec<Report>> {
        let line = self.line(keystore, now_ms, fresh_ms)?;
        Some(line.account.strangers.clone())
    }

    /// What is known of an instance; its ages run on.
    pub(crate) fn live(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
        now_ms: u64,
        fresh_ms: u64,
    ) -> Option<Live> {
        let line = self.line(keystore, now_ms, fresh_ms)?;
        let told = self.instances.get(&keystore)?.get(&version)?;
        let waited = now_ms.saturating_sub(told.at_ms);
        let scan_age = line.scanned_ms.map(|at| now_ms.saturating_sub(at));
        let mut live = told.live.clone();
        live.connection = line.account.live.connection.clone();
        live.health.clone_from(&line.account.live.health);
        live.look_age_ms = live
            .look_age_ms
            .saturating_add(waited)
            .min(scan_age.unwrap_or(u64::MAX));
        if let Some(report) = &mut live.report {
            report.look_age_ms = report.look_age_ms.saturating_add(waited);
            report.proof_age_ms = report.proof_age_ms.saturating_add(waited);
        }
        Some(live)
    }
}

/// A keystore that another coordinator has, of which it told nothing that counts.
pub(crate) fn untold(holder: Option<&String>) -> Connection {
    let why = match holder {
        Some(at) => format!("the coordinator at {at} has it, and has not told of it yet"),
        None => "no coordinator has it at the moment".to_owned(),
    };
    Connection::Never { why }
}
