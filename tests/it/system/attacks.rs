//! The attacks on PKCS#11's API that are known by name (threats.md 6), played on our objects by somebody who has the PIN. Each
//! refusal is told by its very CKR; what is not refused is a gap, and docs/security.md says it.

use lockstep::coordinator::store::Store as _;
use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};
use lockstep::model::ids::KeyVersionId;
use lockstep::model::text::hex;
use serde_json::Value;

use crate::support::fleet::{Fleet, said};

/// One block.
const DATA: &str = "00112233445566778899aabbccddeeff";

/// The value of the keys that the outsider makes to attack with.
const KNOWN: [u8; 32] = [0x5a; 32];

const NOT_PERMITTED: &str = "CKR_KEY_FUNCTION_NOT_PERMITTED";

/// Attacks on one keystore, and what came of each.
struct Attacks<'f> {
    fleet: &'f Fleet,
    keystore: &'static str,
    unexpected: Vec<String>,
}

impl<'f> Attacks<'f> {
    fn on(fleet: &'f Fleet, keystore: &'static str) -> Self {
        Self {
            fleet,
            keystore,
            unexpected: Vec::new(),
        }
    }

    /// The token must refuse it with these words: the C_ function and the CKR.
    fn refused(&mut self, attack: &str, expected: &str) {
        let words: Vec<&str> = attack.split(' ').collect();
        let output = self.fleet.outsider(self.keystore, words[0], &words[1..]);
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.code() != Some(3) || said != expected {
            let told = String::from_utf8_lossy(&output.stderr);
            self.unexpected
                .push(format!("{attack}: {said}{told}, not {expected}"));
        }
    }

    /// A gap: it works. What was printed.
    fn works(&mut self, attack: &str) -> String {
        let words: Vec<&str> = attack.split(' ').collect();
        said(&self.fleet.outsider(self.keystore, words[0], &words[1..]))
    }

    fn end(self) {
        let unexpected = self.unexpected;
        assert!(unexpected.is_empty(), "{unexpected:#?}");
    }
}

/// A key that is active on `frankfurt`: its path and CKA_ID.
fn distribute(fleet: &Fleet, vault: &str, kind: &str) -> (String, String) {
    fleet.template(vault, kind, kind, 256);
    let key = fleet.key(vault, kind, &format!("{kind}-1"));
    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    let id = fleet.cka_id(&key);
    (key, id)
}

#[test]
fn keys_on_a_target_are_not_wrapped_read_or_copied() {
    let fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    let keys = ["aes", "ec"].map(|kind| distribute(&fleet, &vault, kind));
    let transport = hex(b"lockstep-transport");
    let mut attacks = Attacks::on(&fleet, "frankfurt");
    for (_, id) in &keys {
        // Under the transport key's public half, and under one made of its numbers.
        attacks.refused(
            &format!("attack wrap --id {id} --by {transport} --by-class public"),
            &format!("C_WrapKey: {NOT_PERMITTED}"),
        );
        attacks.refused(
            &format!("attack wrap-under-public --id {id} --by {transport} --by-class public"),
            "C_WrapKey: CKR_KEY_UNEXTRACTABLE",
        );
        for exposed in ["", " --extractable"] {
            attacks.refused(
                &format!("attack expose --id {id}{exposed}"),
                "C_SetAttributeValue: CKR_ATTRIBUTE_READ_ONLY",
            );
        }
    }
    let [(secret, aes), (pair, ec)] = &keys;
    // The clash: a data key that also wraps. Its flag can be set, and is told; but none of ours lets itself be wrapped.
    attacks.works(&format!("set-usage --id {aes} --class secret --on wrap"));
    attacks.refused(
        &format!("attack wrap --id {ec} --by {aes}"),
        "C_WrapKey: CKR_KEY_UNEXTRACTABLE",
    );
    fleet.difference(secret, "frankfurt", "usage_changed");
    for key in [secret, pair] {
        fleet.change("POST", key, "/deactivate", &Value::Null).ok();
        fleet
            .change("POST", key, "/sync_status_in_keystores", &Value::Null)
            .ok();
        fleet.in_step(key);
    }
    // A disabled secret key cannot be copied to one that works.
    attacks.refused(
        &format!("attack copy --id {aes} --on encrypt,decrypt"),
        "C_CopyObject: CKR_ACTION_PROHIBITED",
    );
    attacks.refused(
        &format!("encrypt --id {aes} --data {DATA}"),
        &format!("C_EncryptInit: {NOT_PERMITTED}"),
    );
    // The gaps under flags: a private key can be copied, and who has the PIN can set a flag. Both are told.
    attacks.works(&format!(
        "attack copy --id {ec} --class private --on sign --to aa01"
    ));
    attacks.works(&format!("sign --id aa01 --data {DATA}"));
    attacks.works(&format!("attack copy --id {ec} --class private --on sign"));
    fleet.difference(pair, "frankfurt", "duplicated");
    attacks.works(&format!("set-usage --id {aes} --class secret --on encrypt"));
    attacks.works(&format!("encrypt --id {aes} --data {DATA}"));
    fleet.difference(secret, "frankfurt", "enabled_unexpectedly");
    attacks.end();
}

#[test]
fn the_transport_key_unwraps_and_does_nothing_else() {
    let fleet = Fleet::start(&["home", "frankfurt"]);
    // One key has come by it, so it is there.
    let vault = fleet.furnish();
    let _key = distribute(&fleet, &vault, "aes");
    let transport = hex(b"lockstep-transport");
    let mut attacks = Attacks::on(&fleet, "frankfurt");
    attacks.refused(
        &format!("attack wrap-and-decrypt --id {transport}"),
        &format!("C_DecryptInit: {NOT_PERMITTED}"),
    );
    for usage in ["decrypt", "sign"] {
        attacks.refused(
            &format!("set-usage --id {transport} --class private --on {usage}"),
            "C_SetAttributeValue: CKR_ACTION_PROHIBITED",
        );
        attacks.refused(
            &format!("attack copy --id {transport} --class private --on {usage} --to aa02"),
            "C_CopyObject: CKR_ACTION_PROHIBITED",
        );
    }
    attacks.refused(
        &format!("attack unwrap-readable-by-pair --id {transport}"),
        "C_UnwrapKey: CKR_TEMPLATE_INCONSISTENT",
    );
    // The gap: its template binds the key that comes by OAEP, not the one wrapped under that.
    let opened = attacks.works(&format!("attack open-envelope --id {transport}"));
    assert_eq!(opened, hex(&KNOWN));
    attacks.end();
}

#[test]
fn the_repositorys_wrapping_key_wraps_and_does_nothing_else() {
    let mut fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    let (_, id) = distribute(&fleet, &vault, "aes");
    fleet.kill_coordinator();
    let file = fleet.dir.join("test/state/store.sqlite");
    let store = SqliteStore::open(&file, Settings::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let version = KeyVersionId::from_uuid(id.parse().unwrap());
    let copies = runtime.block_on(store.copies(version)).unwrap();
    let blob = hex(&copies[0].blob);
    fleet.kill_agent("home");
    let kek = hex(b"lockstep-kek");
    let mut attacks = Attacks::on(&fleet, "home");
    for usage in ["decrypt", "encrypt"] {
        attacks.refused(
            &format!("set-usage --id {kek} --class secret --on {usage}"),
            "C_SetAttributeValue: CKR_ACTION_PROHIBITED",
        );
        attacks.refused(
            &format!("attack copy --id {kek} --on {usage} --to aa03"),
            "C_CopyObject: CKR_ACTION_PROHIBITED",
        );
    }
    // RFC 5649 is AES below: decryption of the blob by blocks would give the key away.
    attacks.refused(
        &format!("attack decrypt --id {kek} --data {}", &blob[..32]),
        &format!("C_DecryptInit: {NOT_PERMITTED}"),
    );
    attacks.refused(
        &format!("attack unwrap-readable --id {kek} --blob {blob}"),
        "C_UnwrapKey: CKR_TEMPLATE_INCONSISTENT",
    );
    attacks.refused(
        &format!("attack wrap --id {kek} --by {kek}"),
        "C_WrapKey: CKR_KEY_UNEXTRACTABLE",
    );
    for exposed in ["", " --extractable"] {
        attacks.refused(
            &format!("attack expose --id {kek}{exposed}"),
            "C_SetAttributeValue: CKR_ACTION_PROHIBITED",
        );
    }
    // The gap: who has the PIN of an internal keystore unwraps as extractable, and wraps under a key of his own.
    let under = hex(&KNOWN);
    let revealed = attacks.works(&format!("reveal --id {kek} --blob {blob} --under {under}"));
    assert_eq!(revealed.len(), blob.len());
    attacks.end();
}
