//! A whole scan by its slices.

use crate::keystore::Keystore;
use crate::keystore::contract::{Violation, another, done};
use crate::model::job::{Inventory, Slice, TokenAnswer, TokenIdentity, TokenJob};

/// A whole scan, however many slices it takes.
///
/// # Errors
/// What the token refused, or the clause that did not hold.
pub fn inventory<K: Keystore>(token: &mut K) -> Result<(TokenIdentity, Slice), Violation> {
    let mut all = Slice::default();
    let mut job = TokenJob::Scan;
    loop {
        let answer = done(token, &job)?;
        job = TokenJob::ScanOn;
        if let TokenAnswer::Inventory(Inventory { identity, rest }) = answer {
            all.add(rest);
            return Ok((identity, all));
        }
        let TokenAnswer::Slice(slice) = answer else {
            return another("scan answers slices and an inventory");
        };
        all.add(slice);
    }
}
