//! Unary calls between a coordinator and an agent, and the way of a key from an internal keystore to a target.

use std::sync::PoisonError;

use lockstep::agent::identity::verify;
use lockstep::coordinator::ops::fleet::FleetError;
use lockstep::coordinator::store::Store as _;
use lockstep::decide::coordinator::Input;
use lockstep::model::canonical::sha256;
use lockstep::model::ids::{Epoch, Generation, KeyVersionId, SessionNumber};
use lockstep::model::job::{RewrapJob, TokenAnswer, TokenJob, TokenOutcome};
use lockstep::model::key::KeySpec;
use lockstep::model::keystore::Variant;
use lockstep::model::material::{BirthRecord, Endorsement, Envelope, RepositoryCopy, Signed};

use crate::plan::Class;
use crate::port::{Slot, at_once, lock};
use crate::world::{Event, World};

/// A caller waits so long.
const DEADLINE_MS: u64 = 20_000;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Asking {
    Describe,
    TransportKey,
    Generate {
        version: KeyVersionId,
        spec: KeySpec,
        salt: Vec<u8>,
    },
    Rewrap {
        copy: Box<RepositoryCopy>,
        target: Box<Signed<Endorsement>>,
        generation: Generation,
    },
}

/// Who waits for the answer.
#[derive(Debug, Clone)]
pub(crate) enum Waiting {
    Dial,
    Fetch(u64),
    Slot(Slot),
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) c: usize,
    pub(crate) c_boot: u64,
    pub(crate) k: usize,
    k_boot: Option<u64>,
    session: Option<SessionNumber>,
    asking: Asking,
    waiting: Waiting,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) enum Good {
    Described,
    Endorsement(Box<Signed<Endorsement>>),
    Copy(Box<RepositoryCopy>),
    Envelope(Box<Signed<Envelope>>),
}

pub(crate) type Answer = Result<Good, FleetError>;

/// An envelope that is being got.
#[derive(Debug)]
pub(crate) struct Fetch {
    c: usize,
    c_boot: u64,
    k: usize,
    version: KeyVersionId,
    generation: Generation,
    copies: Vec<RepositoryCopy>,
    reasons: Vec<String>,
    endorsement: Option<Signed<Endorsement>>,
}

fn unreachable(why: &str) -> FleetError {
    FleetError::Unreachable {
        why: why.to_owned(),
    }
}

fn refused(code: &str) -> FleetError {
    FleetError::Refused {
        code: code.to_owned(),
        reason: code.to_owned(),
    }
}

impl World {
    pub(crate) fn call(
        &mut self,
        c: usize,
        k: usize,
        session: Option<SessionNumber>,
        asking: Asking,
        waiting: Waiting,
    ) {
        let number = self.oracle.next_call;
        self.oracle.next_call += 1;
        let c_boot = self.coordinators[c].boot;
        self.calls.insert(
            number,
            Call {
                c,
                c_boot,
                k,
                k_boot: None,
                session,
                asking,
                waiting,
            },
        );
        let wait = self.latency();
        self.after(wait, Event::CallArrives { call: number });
        self.after(
            DEADLINE_MS,
            Event::CallAnswered {
                call: number,
                answer: Err(FleetError::Late),
            },
        );
    }

    pub(crate) fn call_arrives(&mut self, number: u64) {
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        let (k, session, asking) = (call.k, call.session, call.asking.clone());
        if self.blocked(k, true) || self.strikes(Class::CallLost) {
            return;
        }
        if self.agents[k].run.is_none() {
            return self.answer_call(number, Err(unreachable("connection refused")));
        }
        let boot = self.agents[k].boot;
        if let Some(call) = self.calls.get_mut(&number) {
            call.k_boot = Some(boot);
        }
        match asking {
            Asking::Describe => self.answer_call(number, Ok(Good::Described)),
            _ if self.agents[k].session() != session => {
                self.answer_call(number, Err(refused("stale_session")))
            }
            Asking::TransportKey => {
                let answer = self.endorsement(k);
                self.answer_call(number, answer);
            }
            Asking::Generate { .. } | Asking::Rewrap { .. } => {
                if self.agents[k].variant != Variant::Internal {
                    return self.answer_call(number, Err(refused("not_internal")));
                }
                if let Some(run) = &mut self.agents[k].run {
                    run.calls.push_back(number);
                }
                self.agent_nudged(k);
            }
        }
    }

    fn endorsement(&self, k: usize) -> Answer {
        let agent = &self.agents[k];
        let prepared = agent.run.as_ref().and_then(|run| run.prepared.as_ref());
        let Some(prepared) = prepared else {
            return Err(unreachable("the token is still being prepared"));
        };
        Ok(Good::Endorsement(Box::new(agent.sign(Endorsement {
            keystore: agent.id,
            epoch: Epoch(1),
            spki: prepared.transport_spki.clone(),
            routes: prepared.capabilities.routes(),
            at: self.unix(agent.skew_ms),
        }))))
    }

    /// The job of a call, if it may still be done.
    pub(crate) fn call_job(&mut self, k: usize, number: u64) -> Result<TokenJob, FleetError> {
        let Some(call) = self.calls.get(&number) else {
            return Err(FleetError::Late);
        };
        if self.agents[k].session() != call.session {
            return Err(refused("stale_session"));
        }
        let prepared = self.agents[k]
            .run
            .as_ref()
            .and_then(|run| run.prepared.clone());
        let Some(prepared) = prepared.filter(|_| self.agents[k].is_well()) else {
            return Err(unreachable("not now"));
        };
        match &call.asking {
            Asking::Describe | Asking::TransportKey => Err(refused("no job")),
            Asking::Generate {
                version,
                spec,
                salt,
            } => Ok(TokenJob::Generate {
                version: *version,
                spec: *spec,
                salt: salt.clone(),
            }),
            Asking::Rewrap { copy, target, .. } => {
                let birth = &copy.birth.body;
                // I11: the source wraps for nobody but a key that a listed identity has endorsed.
                let is_listed = self.agents.iter().any(|a| {
                    a.id == target.body.keystore && a.identity() == target.signer_digest()
                });
                if !is_listed || !verify(target) {
                    return Err(refused("peer_not_listed"));
                }
                let own = prepared.capabilities.routes();
                let route = own
                    .common(&target.body.routes, birth.spec.class())
                    .ok_or_else(|| refused("no_common_wrapping"))?;
                Ok(TokenJob::Rewrap(Box::new(RewrapJob {
                    spec: birth.spec,
                    salt: birth.salt.clone(),
                    fingerprint: birth.fingerprint,
                    spki: birth.spki.clone(),
                    blob: copy.blob.clone(),
                    kek: copy.kek,
                    transport_spki: target.body.spki.clone(),
                    route,
                })))
            }
        }
    }

    /// The token has done what a call asked for: the answer is signed.
    pub(crate) fn call_done(&mut self, k: usize, number: u64, outcome: TokenOutcome) {
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        let agent = &self.agents[k];
        let at = self.unix(agent.skew_ms);
        let answer = match (outcome, &call.asking) {
            (
                TokenOutcome::Done(TokenAnswer::Generated(made)),
                Asking::Generate {
                    version,
                    spec,
                    salt,
                },
            ) => {
                let birth = agent.sign(BirthRecord {
                    version: *version,
                    spec: *spec,
                    fingerprint: made.fingerprint,
                    salt: salt.clone(),
                    spki: made.spki,
                    blob: sha256(&made.blob),
                    keystore: agent.id,
                    at,
                });
                Ok(Good::Copy(Box::new(RepositoryCopy {
                    keystore: agent.id,
                    blob: made.blob,
                    kek: made.kek,
                    birth,
                })))
            }
            (
                TokenOutcome::Done(TokenAnswer::Rewrapped(wrapped)),
                Asking::Rewrap {
                    copy,
                    target,
                    generation,
                },
            ) => {
                let birth = &copy.birth.body;
                Ok(Good::Envelope(Box::new(agent.sign(Envelope {
                    version: birth.version,
                    spec: birth.spec,
                    fingerprint: birth.fingerprint,
                    salt: birth.salt.clone(),
                    spki: birth.spki.clone(),
                    source: agent.id,
                    target: target.body.keystore,
                    generation: *generation,
                    transport: sha256(&target.body.spki),
                    route: wrapped.route,
                    wrapped_kek: wrapped.wrapped_kek,
                    wrapped_key: wrapped.wrapped_key,
                    at,
                }))))
            }
            (TokenOutcome::Failed(failure), _) => Err(FleetError::Refused {
                code: "token".to_owned(),
                reason: failure.to_string(),
            }),
            (TokenOutcome::Done(_), _) => Err(refused("unexpected")),
            (TokenOutcome::Unknown { .. }, _) => Err(FleetError::Late),
        };
        self.answer_call(number, answer);
    }

    pub(crate) fn answer_call(&mut self, number: u64, answer: Answer) {
        let Some(call) = self.calls.get(&number) else {
            return;
        };
        let k = call.k;
        if self.blocked(k, false) || self.strikes(Class::CallLost) {
            return;
        }
        let wait = self.latency();
        self.after(
            wait,
            Event::CallAnswered {
                call: number,
                answer,
            },
        );
    }

    pub(crate) fn call_answered(&mut self, number: u64, answer: Answer) {
        let Some(call) = self.calls.remove(&number) else {
            return;
        };
        if self.coordinators[call.c].boot != call.c_boot || !self.coordinators[call.c].up {
            return;
        }
        match call.waiting {
            Waiting::Dial => self.dialled(call.c, call.k, answer),
            Waiting::Fetch(fetch) => self.fetch_goes_on(fetch, answer),
            Waiting::Slot(slot) => {
                let answer = match answer {
                    Ok(Good::Copy(copy)) => Ok(*copy),
                    Ok(_) => Err(FleetError::Late),
                    Err(error) => Err(error),
                };
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                self.after(
                    0,
                    Event::Poll {
                        c: call.c,
                        boot: call.c_boot,
                    },
                );
            }
        }
    }

    /// Begins to get an envelope (`reconcile::material`).
    pub(crate) fn fetch(
        &mut self,
        c: usize,
        k: usize,
        version: KeyVersionId,
        generation: Generation,
    ) {
        let store = self.coordinators[c].store.clone();
        let c_boot = self.coordinators[c].boot;
        let copies = match at_once(store.copies(version)) {
            Ok(copies) => copies,
            Err(error) => return self.fetched(c, k, version, generation, Err(error.to_string())),
        };
        if copies.is_empty() {
            let why = "no_repository_copy: no internal keystore has a copy of this key".to_owned();
            return self.fetched(c, k, version, generation, Err(why));
        }
        let (endorsement, session) = {
            let desk = lock(&self.coordinators[c].desk);
            let keeper = &desk.keepers[&self.agents[k].id];
            (keeper.endorsement.clone(), keeper.session())
        };
        let number = self.oracle.next_call;
        self.oracle.next_call += 1;
        let fetch = Fetch {
            c,
            c_boot,
            k,
            version,
            generation,
            copies,
            reasons: Vec::new(),
            endorsement: endorsement.clone(),
        };
        self.fetches.insert(number, fetch);
        match (endorsement, session) {
            (Some(_), _) => self.fetch_next(number),
            (None, Some(session)) => self.call(
                c,
                k,
                Some(session),
                Asking::TransportKey,
                Waiting::Fetch(number),
            ),
            (None, None) => self.fetch_ends(
                number,
                Err("transport key of the target: not connected".to_owned()),
            ),
        }
    }

    fn fetch_goes_on(&mut self, number: u64, answer: Answer) {
        let Some(fetch) = self.fetches.get_mut(&number) else {
            return;
        };
        match answer {
            Ok(Good::Endorsement(endorsement)) => {
                let (c, k) = (fetch.c, fetch.k);
                fetch.endorsement = Some((*endorsement).clone());
                let id = self.agents[k].id;
                if let Some(keeper) = lock(&self.coordinators[c].desk).keepers.get_mut(&id) {
                    keeper.endorsement = Some(*endorsement);
                }
                self.fetch_next(number);
            }
            Ok(Good::Envelope(envelope)) => self.fetch_ends(number, Ok(envelope)),
            Ok(_) => self.fetch_ends(number, Err("unexpected answer".to_owned())),
            Err(error) if fetch.endorsement.is_none() => {
                self.fetch_ends(number, Err(format!("transport key of the target: {error}")));
            }
            Err(error) => {
                fetch.reasons.push(error.to_string());
                self.fetch_next(number);
            }
        }
    }

    fn fetch_next(&mut self, number: u64) {
        let Some(fetch) = self.fetches.get_mut(&number) else {
            return;
        };
        let Some(endorsement) = fetch.endorsement.clone() else {
            return;
        };
        if fetch.copies.is_empty() {
            let why = fetch.reasons.join("; ");
            return self.fetch_ends(number, Err(why));
        }
        let copy = fetch.copies.remove(0);
        let (c, generation) = (fetch.c, fetch.generation);
        let source = self.index_of(copy.keystore);
        let session = lock(&self.coordinators[c].desk).keepers[&copy.keystore].session();
        match session {
            None => self.fetch_goes_on(number, Err(unreachable("not connected"))),
            Some(session) => {
                let asking = Asking::Rewrap {
                    copy: Box::new(copy),
                    target: Box::new(endorsement),
                    generation,
                };
                self.call(c, source, Some(session), asking, Waiting::Fetch(number));
            }
        }
    }

    fn fetch_ends(&mut self, number: u64, envelope: Result<Box<Signed<Envelope>>, String>) {
        let Some(fetch) = self.fetches.remove(&number) else {
            return;
        };
        if self.coordinators[fetch.c].boot == fetch.c_boot && self.coordinators[fetch.c].up {
            self.fetched(fetch.c, fetch.k, fetch.version, fetch.generation, envelope);
        }
    }

    fn fetched(
        &mut self,
        c: usize,
        k: usize,
        version: KeyVersionId,
        generation: Generation,
        envelope: Result<Box<Signed<Envelope>>, String>,
    ) {
        self.keeper_input(
            c,
            k,
            Input::Material {
                version,
                generation,
                envelope,
            },
        );
    }
}
