//! The model's only way to decide anything: the product's own functions, called with the product's own types. Each is asked
//! once per thread and question; there are a few thousand.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::thread::LocalKey;

use uuid::Uuid;

use lockstep::decide::agent::fence::{Verdict, admits, fence};
use lockstep::decide::check::history::Place;
use lockstep::decide::check::moment::{Sight, honest, truth, unique};
use lockstep::decide::effects::{effects, met, restricting};
use lockstep::decide::status::status;
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::{Instance, Intent, ObjectPlan, Want};
use lockstep::model::difference::Status;
use lockstep::model::ids::{Digest, Generation, KeyVersionId, KeystoreId, Revision};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec, UsageSet};
use lockstep::model::keystore::Health;
use lockstep::model::live::{Connection, Live, Terms};
use lockstep::model::observed::{
    Fingerprint, FingerprintMethod, Found, ObjectClass, ObjectFacts, Observation, Proof, ProofKind,
};
use lockstep::model::protocol;
use lockstep::model::step::Step;
use lockstep::model::vault::UnixMs;

use crate::state::{Call, Order, Report, Token};

const KEYSTORE: KeystoreId = KeystoreId::from_uuid(Uuid::from_u128(1));
const VERSION: KeyVersionId = KeyVersionId::from_uuid(Uuid::from_u128(2));

/// What is said of a target, as far as the model tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Said {
    Unknown,
    Pending,
    InSync(Want),
    Drift,
    Diverged,
    Failed,
    Unavailable,
}

/// What the fence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Gate {
    Take,
    Again,
    Refuse,
}

type Memo<K, V> = RefCell<HashMap<K, V>>;

fn once<K: Hash + Eq + 'static, V: Clone>(
    memo: &'static LocalKey<Memo<K, V>>,
    key: K,
    ask: impl FnOnce(&K) -> V,
) -> V {
    memo.with_borrow_mut(|memo| {
        if let Some(known) = memo.get(&key) {
            return known.clone();
        }
        let value = ask(&key);
        memo.insert(key, value.clone());
        value
    })
}

/// A generation with what is wanted: all that an intent of the model differs in.
type Brief = (u8, Want);

const fn brief(order: Order) -> Brief {
    (order.generation, order.want)
}

fn intent((generation, want): Brief) -> Intent {
    let spec = KeySpec::new(Algorithm::Ec, 256).unwrap();
    Intent {
        version: VERSION,
        keystore: KEYSTORE,
        generation: Generation(generation.into()),
        want,
        object: ObjectPlan {
            cka_id: VERSION.uuid().as_bytes().to_vec(),
            label: "key".to_owned(),
            spec,
            usage: spec.default_usage(),
            deactivated_usage: DeactivatedUsage::None,
            salt: Vec::new(),
            strategy: Strategy::Flags,
        },
        fingerprint: Fingerprint {
            method: FingerprintMethod::Spki,
            value: Digest([7; 32]),
        },
    }
}

fn instance(brief: Brief) -> Instance {
    Instance {
        intent: intent(brief),
        is_target: true,
        since: UnixMs(0),
        revision: Revision(1),
        adoption: None,
    }
}

/// As a token would show it; a public half tells the fingerprint.
fn found(token: Token) -> Found {
    let plan = intent((1, Want::Active)).object;
    let halves = [
        (ObjectClass::Private, token.private),
        (ObjectClass::Public, token.public),
    ];
    let mut objects = Vec::new();
    for (class, counts) in halves {
        let usages = [UsageSet::NONE, plan.usage_under(Want::Active, class)];
        for (usage, count) in usages.into_iter().zip(counts) {
            for _ in 0..count {
                objects.push(ObjectFacts {
                    handle: u64::try_from(objects.len()).unwrap(),
                    class,
                    key_type: None,
                    cka_id: plan.cka_id.clone(),
                    label: plan.label.clone(),
                    usage,
                    sensitive: (class == ObjectClass::Private).then_some(true),
                    extractable: (class == ObjectClass::Private).then_some(false),
                    bits: None,
                    public_digest: None,
                    fingerprint: None,
                    modifiable: None,
                    copyable: None,
                });
            }
        }
    }
    let is_told = token.public != [0, 0];
    Found {
        objects,
        fingerprint: is_told.then(|| intent((1, Want::Active)).fingerprint),
        ..Found::default()
    }
}

/// `decide::agent::fence`: what becomes of an intent, and whether it is taken while the token is in that state.
pub(crate) fn gate(newest: Option<Order>, order: Order, is_lost: bool) -> Gate {
    thread_local!(static MEMO: Memo<(Option<Brief>, Brief, bool), Gate> = RefCell::default());
    let key = (newest.map(brief), brief(order), is_lost);
    once(&MEMO, key, |&(newest, order, is_lost)| {
        let newest = newest.map(|newest| intent(newest).applied());
        match fence(Some(KEYSTORE), newest.as_ref(), &intent(order)) {
            Verdict::Take if !admits(&health(is_lost), order.1) => Gate::Refuse,
            Verdict::Take => Gate::Take,
            Verdict::Again => Gate::Again,
            Verdict::Refuse(_) => Gate::Refuse,
        }
    })
}

const fn health(is_lost: bool) -> Health {
    if is_lost {
        Health::JournalLost
    } else {
        Health::Ok
    }
}

/// `decide::effects`: the calls that an intent means for what is there; `None`: an obstacle, for people.
pub(crate) fn calls(order: Order, token: Token, is_lost: bool) -> Option<Vec<Call>> {
    thread_local!(static MEMO: Memo<(Brief, Token, bool), Option<Vec<Call>>> = RefCell::default());
    once(
        &MEMO,
        (brief(order), token, is_lost),
        |&(order, token, is_lost)| {
            let steps = effects(&intent(order), &found(token), Strategy::Flags).ok()?;
            let steps = if is_lost { restricting(steps) } else { steps };
            Some(steps.iter().flat_map(calls_of).collect())
        },
    )
}

fn calls_of(step: &Step) -> Vec<Call> {
    match step {
        Step::Install => vec![
            Call::Add(ObjectClass::Private),
            Call::Add(ObjectClass::Public),
        ],
        Step::SetUsage { class, usage } => vec![Call::Set(*class, !usage.is_empty())],
        Step::Destroy { class } => vec![Call::Remove(*class)],
        Step::ProveEnabled | Step::ProveDisabled | Step::SetLabel { .. } => Vec::new(),
        Step::Replace { .. } | Step::InstallEnabled | Step::Withdraw { .. } => {
            panic!("not by flags: {step:?}")
        }
    }
}

/// `decide::effects::met`: whether the read-back is as wanted.
pub(crate) fn is_met(order: Order, token: Token) -> bool {
    thread_local!(static MEMO: Memo<(Brief, Token), bool> = RefCell::default());
    once(&MEMO, (brief(order), token), |&(order, token)| {
        met(&intent(order), &found(token), Strategy::Flags)
    })
}

/// What a coordinator goes by: the line, and the report that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Heard {
    applied: Option<Brief>,
    is_done: bool,
    is_lost: bool,
    token: Token,
}

/// `decide::status`: what is said of a target.
pub(crate) fn said(order: Order, report: Option<&Report>) -> Said {
    thread_local!(static MEMO: Memo<(Brief, Option<Heard>), Said> = RefCell::default());
    let heard = report.map(|report| Heard {
        applied: report.applied.map(brief),
        is_done: report.is_done,
        is_lost: report.is_lost,
        token: report.token,
    });
    once(
        &MEMO,
        (brief(order), heard),
        |&(order, heard)| match status(&instance(order), &live(heard), &Terms::default()) {
            Status::Unknown { .. } => Said::Unknown,
            Status::Pending { .. } => Said::Pending,
            Status::InSync(want) => Said::InSync(want),
            Status::Drift => Said::Drift,
            Status::Diverged => Said::Diverged,
            Status::Failed { .. } => Said::Failed,
            Status::Unavailable { .. } => Said::Unavailable,
        },
    )
}

fn live(heard: Option<Heard>) -> Live {
    let report = heard.map(|heard| protocol::Report {
        version: VERSION,
        applied: heard.applied.map(|applied| intent(applied).applied()),
        progress: if heard.is_done {
            protocol::Progress::Done
        } else {
            protocol::Progress::Busy
        },
        observation: if heard.token == Token::default() {
            Observation::Absent {
                same_label: Vec::new(),
            }
        } else {
            Observation::Present(found(heard.token))
        },
        proof: heard.is_done.then(|| Proof {
            kind: ProofKind::Tried,
            operation: "C_SignInit".to_owned(),
            answer: "CKR_OK".to_owned(),
        }),
        proof_age_ms: 0,
        look_age_ms: 0,
        strategy: Strategy::Flags,
    });
    Live {
        connection: if report.is_some() {
            Connection::Live
        } else {
            Connection::CatchingUp
        },
        health: heard.map(|heard| health(heard.is_lost)),
        report,
        look_age_ms: 0,
        fresh_for_ms: 1,
        refused: None,
        material_failure: None,
        since: Vec::new(),
    }
}

/// `decide::check`: I5 and I10 on one target.
pub(crate) fn is_true(order: Order, said: Said, token: Token) -> bool {
    thread_local!(static MEMO: Memo<(Brief, Want, Token), bool> = RefCell::default());
    let Said::InSync(want) = said else {
        return true;
    };
    once(
        &MEMO,
        (brief(order), want, token),
        |&(order, want, token)| {
            let instance = instance(order);
            let sight = Sight {
                instance: &instance,
                status: &Status::InSync(want),
                found: &found(token),
                strategy: Strategy::Flags,
                edited_since: false,
            };
            truth(&sight).is_none() && honest(&[sight]).is_none()
        },
    )
}

/// `decide::check`: I4 at rest.
pub(crate) fn is_unique(token: Token) -> bool {
    thread_local!(static MEMO: Memo<Token, bool> = RefCell::default());
    once(&MEMO, token, |&token| {
        let place = Place {
            keystore: KEYSTORE,
            version: VERSION,
        };
        unique(place, &found(token).objects).is_none()
    })
}
