//! `Kek` and `RewrapCopy`: the wrapping keys of an internal keystore, and copies of the repository from one to the next.

use tonic::Status;

use crate::agent::service::endpoint::Shared;
use crate::agent::service::material::{internal, unexpected};
use crate::agent::service::refusal::refused;
use crate::agent::service::trust;
use crate::clock;
use crate::model::canonical::sha256;
use crate::model::job::{TokenAnswer, TokenJob};
use crate::model::kek::{KekJob, RewrapCopyJob};
use crate::model::material::{BirthRecord, RepositoryCopy};
use crate::wire::kek::{KekCall, Keks, RewrapCopyCall};

/// Looks, makes, or destroys; which wrapping keys there are afterwards.
///
/// # Errors
/// A status with its word.
pub async fn kek(shared: &Shared, call: KekCall) -> Result<Keks, Status> {
    shared.bound()?;
    internal(shared)?;
    // The first wrapping key is made when the token is prepared.
    shared.prepared().await?;
    let TokenAnswer::Keks(keks) = shared
        .perform(call.session, TokenJob::Kek(call.job))
        .await?
    else {
        return Err(unexpected());
    };
    match call.job {
        KekJob::Look => {}
        KekJob::Make(number) => tracing::info!(%number, "the wrapping key is there"),
        KekJob::Destroy(number) => tracing::info!(%number, "the wrapping key is gone"),
    }
    Ok(Keks(keks))
}

/// A copy of this keystore's under its newest wrapping key, with a new birth record.
///
/// # Errors
/// A status with its word.
pub async fn rewrap_copy(shared: &Shared, call: RewrapCopyCall) -> Result<RepositoryCopy, Status> {
    let (keystore, _epoch) = shared.bound()?;
    internal(shared)?;
    shared.prepared().await?;
    if call.birth.body.keystore != keystore {
        return Err(refused("wrong_keystore", "the copy is another keystore's"));
    }
    if let Err(untrusted) = trust::check_birth(&shared.peers, &call.blob, &call.birth) {
        let version = call.birth.body.version;
        tracing::warn!(%version, why = %untrusted, "a copy was not wrapped again");
        return Err(untrusted.into());
    }
    let birth = call.birth.body;
    let job = TokenJob::RewrapCopy(Box::new(RewrapCopyJob {
        spec: birth.spec,
        salt: birth.salt.clone(),
        fingerprint: birth.fingerprint,
        spki: birth.spki.clone(),
        blob: call.blob,
        kek: call.kek,
    }));
    let TokenAnswer::TakenOver(wrapped) = shared.perform(call.session, job).await? else {
        return Err(unexpected());
    };
    tracing::debug!(version = %birth.version, kek = %wrapped.kek, "a copy was wrapped again");
    let birth = shared.identity.sign(BirthRecord {
        blob: sha256(&wrapped.blob),
        at: clock::unix_ms(),
        ..birth
    });
    Ok(RepositoryCopy {
        keystore,
        blob: wrapped.blob,
        kek: wrapped.kek,
        birth,
    })
}
