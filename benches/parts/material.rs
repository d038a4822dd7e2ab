//! Keys in envelopes, made by an internal token in this process for the tokens that are measured.

use std::path::Path;

use lockstep::keystore::Keystore as _;
use lockstep::keystore::pkcs11::token::Pkcs11Token;
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::ObjectPlan;
use lockstep::model::ids::{Epoch, KeyVersionId, KeystoreId};
use lockstep::model::job::{Generated, RewrapJob, RunJob, TokenAnswer, TokenJob, Wrapped};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec};
use lockstep::model::keystore::{Marker, OaepHash, Route, Wrapping};
use lockstep::model::step::Step;
use uuid::Uuid;

use crate::parts::calls::key_id;
use crate::parts::tokens::{self, Told};

const SALT: [u8; 32] = [7; 32];

/// All that SoftHSM2 has in common with itself.
const ROUTE: Route = Route {
    wrapping: Wrapping::Rfc5649,
    oaep_hash: OaepHash::Sha1,
};

/// What makes a token a keystore: without a marker nothing that is missing is believed.
pub fn marker() -> TokenJob {
    TokenJob::Bind(Marker {
        keystore: KeystoreId::from_uuid(Uuid::from_u128(7)),
        epoch: Epoch(1),
    })
}

/// What makes a token ready to receive; the answer tells its transport key.
pub const PREPARE: TokenJob = TokenJob::Prepare { internal: false };

/// The transport key in the answer to [`PREPARE`].
pub fn transport(answer: TokenAnswer) -> Vec<u8> {
    let TokenAnswer::Prepared(prepared) = answer else {
        panic!("{answer:?}");
    };
    prepared.transport_spki
}

/// The AES-256 key of that number, as Lockstep plans it.
pub fn plan(number: usize) -> ObjectPlan {
    let spec = spec();
    ObjectPlan {
        cka_id: key_id(number),
        label: format!("orders-production-{number:06}"),
        spec,
        usage: spec.default_usage(),
        deactivated_usage: DeactivatedUsage::None,
        salt: SALT.to_vec(),
        strategy: Strategy::Flags,
    }
}

fn spec() -> KeySpec {
    KeySpec::new(Algorithm::Aes, 256).unwrap()
}

/// The internal token.
pub struct Maker(Pkcs11Token);

impl Maker {
    /// Opens and prepares it.
    pub fn open(module: &Path, token: &Told) -> Self {
        let mut token = tokens::here(module, token);
        tokens::done(token.perform(&marker()));
        tokens::done(token.perform(&TokenJob::Prepare { internal: true }));
        Self(token)
    }

    pub fn generate(&mut self, number: usize) -> Generated {
        let job = TokenJob::Generate {
            version: KeyVersionId::from_uuid(Uuid::from_slice(&key_id(number)).unwrap()),
            spec: spec(),
            salt: SALT.to_vec(),
        };
        let TokenAnswer::Generated(born) = tokens::done(self.0.perform(&job)) else {
            panic!("no answer to generate");
        };
        born
    }

    /// The key for the token of that transport key.
    pub fn envelope(&mut self, born: &Generated, transport: &[u8]) -> Wrapped {
        let job = TokenJob::Rewrap(Box::new(RewrapJob {
            spec: spec(),
            salt: SALT.to_vec(),
            fingerprint: born.fingerprint,
            spki: None,
            blob: born.blob.clone(),
            kek: born.kek,
            transport_spki: transport.to_vec(),
            route: ROUTE,
        }));
        let TokenAnswer::Rewrapped(wrapped) = tokens::done(self.0.perform(&job)) else {
            panic!("no answer to rewrap");
        };
        wrapped
    }
}

/// What an agent asks of a token to install a key that is to be disabled.
pub fn install(number: usize, born: &Generated, envelope: Wrapped) -> TokenJob {
    TokenJob::Run(Box::new(RunJob {
        object: plan(number),
        fingerprint: born.fingerprint,
        steps: vec![Step::Install, Step::ProveDisabled],
        envelope: Some(envelope),
        hints: Vec::new(),
    }))
}
