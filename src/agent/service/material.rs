//! `Generate`, `Rewrap`, `TransportKey`: key material, always wrapped, and the statements that this agent signs about it.

use tonic::Status;

use crate::agent::messages::CallFailure;
use crate::agent::service::endpoint::Shared;
use crate::agent::service::refusal::refused;
use crate::agent::service::trust;
use crate::clock;
use crate::model::canonical::sha256;
use crate::model::ids::SessionNumber;
use crate::model::job::{RewrapJob, TakeOverJob, TokenAnswer, TokenJob, Wrapped};
use crate::model::keystore::Variant;
use crate::model::material::{BirthRecord, Endorsement, Envelope, RepositoryCopy, Signed};
use crate::wire::calls::{GenerateCall, RewrapCall, TakeOverCall};

/// A new key as a wrapped blob with its birth record.
///
/// # Errors
/// A status with its word.
pub async fn generate(shared: &Shared, call: GenerateCall) -> Result<RepositoryCopy, Status> {
    let (keystore, _epoch) = shared.bound()?;
    internal(shared)?;
    // The wrapping key is made when the token is prepared.
    shared.prepared().await?;
    let job = TokenJob::Generate {
        version: call.version,
        spec: call.spec,
        salt: call.salt.clone(),
    };
    let TokenAnswer::Generated(generated) = shared.perform(call.session, job).await? else {
        return Err(unexpected());
    };
    let birth = shared.identity.sign(BirthRecord {
        version: call.version,
        spec: call.spec,
        fingerprint: generated.fingerprint,
        salt: call.salt,
        spki: generated.spki,
        blob: sha256(&generated.blob),
        keystore,
        at: clock::unix_ms(),
    });
    tracing::info!(version = %call.version, spec = %call.spec, "a key was generated");
    Ok(RepositoryCopy {
        keystore,
        blob: generated.blob,
        kek: generated.kek,
        birth,
    })
}

/// A blob wrapped for another keystore, as a signed envelope.
///
/// # Errors
/// A status with its word.
pub async fn rewrap(shared: &Shared, call: RewrapCall) -> Result<Signed<Envelope>, Status> {
    let (source, _epoch) = shared.bound()?;
    internal(shared)?;
    let own = shared.prepared().await?.capabilities;
    let (birth, target) = (&call.birth, &call.target);
    let checked = trust::check_rewrap(&shared.peers, &own, &call.blob, birth, target);
    let route = checked.map_err(|untrusted| {
        tracing::warn!(
            version = %birth.body.version,
            target = %target.body.keystore,
            why = %untrusted,
            "a key was not wrapped"
        );
        Status::from(untrusted)
    })?;
    let (birth, target) = (call.birth.body, call.target.body);
    let transport = sha256(&target.spki);
    let job = TokenJob::Rewrap(Box::new(RewrapJob {
        spec: birth.spec,
        salt: birth.salt.clone(),
        fingerprint: birth.fingerprint,
        spki: birth.spki.clone(),
        blob: call.blob,
        kek: call.kek,
        transport_spki: target.spki,
        route,
    }));
    let TokenAnswer::Rewrapped(wrapped) = shared.perform(call.session, job).await? else {
        return Err(unexpected());
    };
    tracing::info!(version = %birth.version, target = %target.keystore, "a key was wrapped");
    Ok(shared.identity.sign(Envelope {
        version: birth.version,
        spec: birth.spec,
        fingerprint: birth.fingerprint,
        salt: birth.salt,
        spki: birth.spki,
        source,
        target: target.keystore,
        generation: call.generation,
        transport,
        route: wrapped.route,
        wrapped_kek: wrapped.wrapped_kek,
        wrapped_key: wrapped.wrapped_key,
        at: clock::unix_ms(),
    }))
}

/// A key of another internal keystore as a repository copy of this one, with a birth record of its own.
///
/// # Errors
/// A status with its word.
pub async fn take_over(shared: &Shared, call: TakeOverCall) -> Result<RepositoryCopy, Status> {
    let (keystore, _epoch) = shared.bound()?;
    internal(shared)?;
    let transport = shared.prepared().await?.transport_spki;
    let checked = trust::check_envelope(&shared.peers, keystore, &transport, &call.envelope);
    if let Err(untrusted) = checked {
        let version = call.envelope.body.version;
        tracing::warn!(%version, why = %untrusted, "a key was not taken over");
        return Err(untrusted.into());
    }
    let envelope = call.envelope.body;
    let job = TokenJob::TakeOver(Box::new(TakeOverJob {
        spec: envelope.spec,
        salt: envelope.salt.clone(),
        fingerprint: envelope.fingerprint,
        wrapped: Wrapped {
            route: envelope.route,
            wrapped_kek: envelope.wrapped_kek,
            wrapped_key: envelope.wrapped_key,
            spki: envelope.spki,
        },
    }));
    let TokenAnswer::TakenOver(taken) = shared.perform(call.session, job).await? else {
        return Err(unexpected());
    };
    let birth = shared.identity.sign(BirthRecord {
        version: envelope.version,
        spec: envelope.spec,
        fingerprint: taken.fingerprint,
        salt: envelope.salt,
        spki: taken.spki,
        blob: sha256(&taken.blob),
        keystore,
        at: clock::unix_ms(),
    });
    tracing::info!(version = %envelope.version, source = %envelope.source, "a key was taken over");
    Ok(RepositoryCopy {
        keystore,
        blob: taken.blob,
        kek: taken.kek,
        birth,
    })
}

/// The token's transport key, endorsed.
///
/// # Errors
/// A status with its word.
pub async fn transport_key(
    shared: &Shared,
    session: SessionNumber,
) -> Result<Signed<Endorsement>, Status> {
    let (keystore, epoch) = shared.bound()?;
    let prepared = shared.prepared().await?;
    let live = shared.shown.borrow().session;
    if live != Some(session) {
        return Err(CallFailure::StaleSession { live }.into());
    }
    Ok(shared.identity.sign(Endorsement {
        keystore,
        epoch,
        spki: prepared.transport_spki,
        routes: prepared.capabilities.routes(),
        at: clock::unix_ms(),
    }))
}

/// Refuses for external keystores.
///
/// # Errors
/// `not_internal`.
pub(crate) fn internal(shared: &Shared) -> Result<(), Status> {
    match shared.variant {
        Variant::Internal => Ok(()),
        Variant::External => Err(refused(
            "not_internal",
            "this keystore is external: it holds no wrapping key",
        )),
    }
}

/// The host answered to something else.
pub(crate) fn unexpected() -> Status {
    tracing::error!("the module host answered another question");
    Status::internal("internal: the module host answered another question")
}
