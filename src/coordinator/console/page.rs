//! The overview page: gathered from `ops`, vault by vault.

use askama::Template;

use crate::coordinator::console::matrix::{self, Column, Row, Tone, Trouble};
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::{KeyQuery, KeyView};
use crate::coordinator::ops::keystores::KeystoreQuery;
use crate::coordinator::ops::lists::Page;
use crate::coordinator::ops::vaults::VaultView;
use crate::coordinator::ops::words::PhaseCounts;
use crate::model::lifecycle::ManagedState;
use crate::model::vault::UnixMs;

/// Most vaults on the page; more are named as left out.
const VAULTS_MAX: u32 = 20;

/// Most keystores of a vault on the page.
const KEYSTORES_MAX: u32 = 50;

/// Most keys of a vault on the page.
const KEYS_MAX: u32 = 200;

/// Most troubles told in words.
const TROUBLES_MAX: usize = 100;

/// Of these told without being asked.
const TROUBLES_AT_ONCE: usize = 5;

/// The page.
#[derive(Debug, Template)]
#[template(path = "console/overview.html")]
pub struct Overview {
    now: String,
    who: String,
    is_behind: bool,
    counts: PhaseCounts,
    live: usize,
    keystores: usize,
    troubles: Vec<Trouble>,
    more_troubles: Vec<Trouble>,
    keystore_troubles: Vec<Trouble>,
    troubles_left: usize,
    vaults: Vec<Section>,
    vaults_left: u64,
    legend: Vec<(Tone, &'static str, &'static str)>,
}

/// The page that says why there is none.
#[derive(Debug, Template)]
#[template(path = "console/failed.html")]
pub struct Failed {
    /// Why.
    pub why: String,
}

/// One vault.
#[derive(Debug)]
pub struct Section {
    name: String,
    columns: Vec<Column>,
    rows: Vec<Row>,
    keys_left: u64,
    keystores_left: u64,
    destroyed: u64,
}

/// Gathers the page.
///
/// # Errors
/// Those of the store.
pub async fn overview(ops: &Ops, call: &Call) -> Result<Overview, OpsError> {
    let now = ops.now();
    let page = Page {
        limit: VAULTS_MAX,
        offset: 0,
    };
    let vaults = ops.vault_list(call, None, page).await?;
    let mut overview = Overview {
        now: clock_time(now),
        who: call.principal.name.clone(),
        is_behind: ops.fleet().is_behind(),
        counts: PhaseCounts::default(),
        live: 0,
        keystores: 0,
        troubles: Vec::new(),
        more_troubles: Vec::new(),
        keystore_troubles: Vec::new(),
        troubles_left: 0,
        vaults: Vec::new(),
        vaults_left: left(vaults.total, vaults.items.len()),
        legend: LEGEND.to_vec(),
    };
    for vault in &vaults.items {
        let section = section(ops, call, vault, now, &mut overview).await?;
        overview.vaults.push(section);
    }
    overview.troubles_left = overview.troubles.len().saturating_sub(TROUBLES_MAX);
    overview.troubles.truncate(TROUBLES_MAX);
    let at_once = TROUBLES_AT_ONCE.min(overview.troubles.len());
    overview.more_troubles = overview.troubles.split_off(at_once);
    Ok(overview)
}

async fn section(
    ops: &Ops,
    call: &Call,
    vault: &VaultView,
    now: UnixMs,
    overview: &mut Overview,
) -> Result<Section, OpsError> {
    let query = KeystoreQuery {
        vault: Some(vault.vault.id),
        ..KeystoreQuery::default()
    };
    let page = Page {
        limit: KEYSTORES_MAX,
        offset: 0,
    };
    let keystores = ops.keystore_list(call, query, page).await?;
    let columns: Vec<Column> = keystores.items.iter().map(matrix::column).collect();
    let (keys, keys_left, destroyed) = keys(ops, call, vault).await?;
    overview.keystores += columns.len();
    overview.live += columns.iter().filter(|c| c.trouble.is_empty()).count();
    for view in &keys {
        overview.counts.add(view.phase.phase);
        overview
            .troubles
            .extend(matrix::troubles(view, &columns, now));
    }
    overview
        .keystore_troubles
        .extend(matrix::keystore_troubles(&columns, &keys));
    Ok(Section {
        name: vault.vault.name.clone(),
        rows: keys
            .iter()
            .flat_map(|view| matrix::rows(view, &columns, now))
            .collect(),
        keystores_left: left(keystores.total, columns.len()),
        columns,
        keys_left,
        destroyed,
    })
}

/// Living keys, then destroyed ones that some keystore has not confirmed; how many were left out; how many are destroyed.
async fn keys(
    ops: &Ops,
    call: &Call,
    vault: &VaultView,
) -> Result<(Vec<KeyView>, u64, u64), OpsError> {
    let states = |is_destroyed: bool| {
        ManagedState::ALL
            .into_iter()
            .filter(|state| state.is_destroyed() == is_destroyed)
            .collect()
    };
    let query = |is_destroyed| KeyQuery {
        vault: Some(vault.vault.id),
        states: states(is_destroyed),
        sort: vec![("label".to_owned(), false)],
        ..KeyQuery::default()
    };
    let page = Page {
        limit: KEYS_MAX,
        offset: 0,
    };
    let living = ops.key_list(call, query(false), page).await?;
    let destroyed = ops.key_list(call, query(true), page).await?;
    let keys_left = left(living.total, living.items.len());
    let mut keys = living.items;
    let unconfirmed = destroyed
        .items
        .into_iter()
        .filter(|view| !view.is_in_step());
    keys.extend(unconfirmed);
    Ok((keys, keys_left, destroyed.total))
}

const LEGEND: [(Tone, &str, &str); 6] = [
    (Tone::Active, "Active", "there and usable, as wanted"),
    (Tone::Off, "Disabled", "there and not usable, as wanted"),
    (Tone::Absent, "Absent", "not there, as wanted"),
    (Tone::Changing, "Changing", "a change of ours is on its way"),
    (Tone::Wrong, "Differs", "not as wanted: the reason is told"),
    (
        Tone::Unknown,
        "Unknown",
        "no fresh look: nothing is claimed",
    ),
];

fn left(total: u64, shown: usize) -> u64 {
    total.saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX))
}

fn clock_time(at: UnixMs) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .strftime("%H:%M:%S")
        .to_string()
}
