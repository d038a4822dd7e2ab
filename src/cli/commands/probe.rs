//! `lockstep keystore probe`: what a token can do, and what that means for keys.

use crate::cli::client::{Change, Verb};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::table::{Table, fields, or_dash};
use crate::model::capabilities::{Duplicates, FlagChange, Strategy, Unwrap};
use crate::model::text::printable;
use crate::rest::capabilities::{KindCapabilities, Pkcs11Capabilities, UsageTrial};
use crate::rest::keystore::Keystore;

/// Has the token tried again and shows what it can do. Exits with 75 while it lacks what it could once.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking.
pub fn probe(id: &str, accept: bool, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    let path = format!("/api/lockstep/v1/keystores/{id}/probe");
    let mut change = Change::default();
    if accept {
        change = change.asking("accept", "true");
    }
    let probed: Keystore = context.client.change(Verb::Post, &path, &change)?.value;
    context.show(&probed, page)?;
    let lost = probed
        .pkcs11_capabilities
        .is_none_or(|can| !can.lost.is_empty());
    Ok(if lost { Exit::NotYet } else { Exit::Done })
}

fn page(keystore: &Keystore) -> String {
    let Some(can) = &keystore.pkcs11_capabilities else {
        return format!("{}: the token was not tried yet", keystore.name);
    };
    let token = &keystore.pkcs11_token;
    let mut page = fields(&[
        ("Keystore", keystore.name.clone()),
        (
            "Token",
            format!("{} (serial {})", token.label, token.serial),
        ),
        ("Library", token.library.clone()),
        ("Wrapping", wrapping(can)),
        ("Fingerprint", fingerprint(can).to_owned()),
        ("Extractable", unextractable(can).to_owned()),
        ("Copyable", honoured("CKA_COPYABLE", can.copyable)),
        ("Modifiable", honoured("CKA_MODIFIABLE", can.modifiable)),
        ("Same id twice", duplicates(can.duplicates).to_owned()),
        ("Changes", changes(can).to_owned()),
        ("Sessions", format!("{} at once", can.sessions)),
        ("Labels", labels(can)),
    ]);
    let mut table = Table::new(&["KEYS", "BITS", "INSTALLED", "DISABLED BY", "TRIED"]);
    for one in &can.kinds {
        table.row(kind(one));
    }
    page.push_str("\n\n");
    page.push_str(&table.render());
    for lost in &can.lost {
        page.push_str("\nLOST: ");
        page.push_str(&printable(lost));
    }
    if !can.lost.is_empty() {
        page.push_str("\nThe token could do this once; --accept takes it as it is now.");
    }
    page
}

fn wrapping(can: &Pkcs11Capabilities) -> String {
    let oaep = format!("RSA-OAEP {}", can.oaep_hashes.join("/").to_uppercase());
    match &can.rfc5649 {
        Some(number) => format!("RFC 5649 ({number}) under {oaep}"),
        None if can.cbc_pad => format!("AES-CBC-PAD under {oaep}; no RFC 5649"),
        None => format!("{oaep} alone: secret keys only"),
    }
}

const fn fingerprint(can: &Pkcs11Capabilities) -> &'static str {
    if can.digest_key {
        "C_DigestKey, also of disabled keys"
    } else {
        "no fingerprint of secret keys: another key in its place would not be noticed"
    }
}

const fn unextractable(can: &Pkcs11Capabilities) -> &'static str {
    match can.unextractable {
        Some(true) => "CKA_EXTRACTABLE=false is honoured",
        Some(false) => "not honoured: the token wraps keys that must not leave it",
        None => "not tried: nothing wraps there",
    }
}

fn honoured(attribute: &str, is_honoured: bool) -> String {
    if is_honoured {
        format!("{attribute}=false is honoured")
    } else {
        format!("{attribute}=false is not honoured: whoever has the PIN gets round it")
    }
}

const fn duplicates(duplicates: Duplicates) -> &'static str {
    match duplicates {
        Duplicates::Allowed => "two objects: told as a difference",
        Duplicates::Refused => "refused by the token",
        Duplicates::Overwrites => "the first is overwritten without a word",
    }
}

const fn changes(can: &Pkcs11Capabilities) -> &'static str {
    match (can.atomic_set, can.copy) {
        (true, true) => "attributes are set all or none; copies can be made",
        (true, false) => "attributes are set all or none; no copies",
        (false, true) => "attributes are set one by one; copies can be made",
        (false, false) => "attributes are set one by one; no copies",
    }
}

fn labels(can: &Pkcs11Capabilities) -> String {
    match can.label_chars {
        0 => "not tried".to_owned(),
        most => format!("up to {most} characters of A-Z a-z 0-9 . _ - / and spaces"),
    }
}

fn kind(kind: &KindCapabilities) -> Vec<String> {
    let sizes: Vec<String> = kind.sizes.iter().map(u32::to_string).collect();
    let installed = match kind.unwrap {
        Unwrap::Honest => "direct",
        Unwrap::Staged => "staged",
        Unwrap::Impossible => "impossible",
    };
    vec![
        kind.algorithm.name().to_owned(),
        sizes.join(" "),
        installed.to_owned(),
        strategies(&kind.usages),
        or_dash(&tried(&kind.usages)),
    ]
}

/// `flags`, or `flags; withdraw for derive`.
fn strategies(usages: &[UsageTrial]) -> String {
    let names = |of: Strategy| {
        let mut names: Vec<&str> = Vec::new();
        for trial in usages.iter().filter(|trial| trial.strategy == of) {
            if !names.contains(&trial.usage.name()) {
                names.push(trial.usage.name());
            }
        }
        names
    };
    let used: Vec<Strategy> = Strategy::ALL
        .into_iter()
        .filter(|of| !names(*of).is_empty())
        .collect();
    let mut parts = used.iter().enumerate().map(|(place, of)| match place {
        0 => of.name().to_owned(),
        _ => format!("{} for {}", of.name(), names(*of).join(", ")),
    });
    let first = parts.next().unwrap_or_else(|| "-".to_owned());
    parts.fold(first, |all, part| format!("{all}; {part}"))
}

/// `10 enforced, 2 read back`.
fn tried(usages: &[UsageTrial]) -> String {
    let count = |change: FlagChange| usages.iter().filter(|one| one.change == change).count();
    let told = |(change, words): (FlagChange, &str)| match count(change) {
        0 => None,
        count => Some(format!("{count} {words}")),
    };
    let parts: Vec<String> = [
        (FlagChange::Enforced, "enforced"),
        (FlagChange::ReadBack, "read back"),
        (FlagChange::NotEnforced, "NOT ENFORCED"),
        (FlagChange::Refused, "REFUSED"),
    ]
    .into_iter()
    .filter_map(told)
    .collect();
    parts.join(", ")
}
