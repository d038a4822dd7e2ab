//! Words of the API as arguments; what is no word of it is refused with the words there are.

use crate::model::key::{Algorithm, DeactivatedUsage, Usage};
use crate::model::keystore::Variant;
use crate::model::lifecycle::ManagedState;
use crate::model::template::OnExpiry;

/// Reads an algorithm.
///
/// # Errors
/// Which there are.
pub fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::from_name(text).ok_or_else(|| "aes, hmac, ec, rsa or des".to_owned())
}

/// Reads one usage.
///
/// # Errors
/// Which there are.
pub fn usage(text: &str) -> Result<Usage, String> {
    Usage::from_name(text).ok_or_else(|| Usage::ALL.map(Usage::name).join(", "))
}

/// Reads what deactivated keys may do.
///
/// # Errors
/// Which there are.
pub fn deactivated_usage(text: &str) -> Result<DeactivatedUsage, String> {
    match text {
        "none" => Ok(DeactivatedUsage::None),
        "process_only" => Ok(DeactivatedUsage::ProcessOnly),
        _ => Err("none or process_only".to_owned()),
    }
}

/// Reads what a key's expiration date does.
///
/// # Errors
/// Which there are.
pub fn on_expiry(text: &str) -> Result<OnExpiry, String> {
    OnExpiry::from_name(text).ok_or_else(|| "warn or deactivate".to_owned())
}

/// Reads a key's state.
///
/// # Errors
/// Which there are.
pub fn state(text: &str) -> Result<ManagedState, String> {
    ManagedState::from_name(text)
        .ok_or_else(|| ManagedState::ALL.map(ManagedState::name).join(", "))
}

/// Reads a keystore's variant.
///
/// # Errors
/// Which there are.
pub fn variant(text: &str) -> Result<Variant, String> {
    [Variant::Internal, Variant::External]
        .into_iter()
        .find(|variant| variant.name() == text)
        .ok_or_else(|| "internal or external".to_owned())
}
