//! The outsider does what its head says: else tests of drift would prove nothing.

use crate::support::softhsm::SoftHsm;

const BLOCK: &str = "00000000000000000000000000000000";

#[test]
fn a_flag_that_it_clears_is_refused_and_comes_back() {
    let hsm = SoftHsm::new();
    let token = hsm.token("home");
    token.outsider_ok(&["generate", "--id", "01", "--label", "one"]);
    let encrypted = token.outsider_ok(&["encrypt", "--id", "01", "--data", BLOCK]);
    assert_ne!(encrypted, BLOCK);
    let usage = ["set-usage", "--id", "01", "--class", "secret"];
    token.outsider_ok(&[&usage[..], &["--off", "encrypt"]].concat());
    assert_eq!(
        token.outsider_refused(&["encrypt", "--id", "01", "--data", BLOCK]),
        "C_EncryptInit: CKR_KEY_FUNCTION_NOT_PERMITTED"
    );
    assert_eq!(
        token.outsider_ok(&["decrypt", "--id", "01", "--data", &encrypted]),
        BLOCK
    );
    token.outsider_ok(&[&usage[..], &["--on", "encrypt", "--off", "decrypt"]].concat());
    assert_eq!(
        token.outsider_ok(&["encrypt", "--id", "01", "--data", BLOCK]),
        encrypted
    );
    let listed = token.outsider_ok(&["list"]);
    assert!(
        listed.contains("label=\"one\" id=01 encrypt sensitive"),
        "{listed}"
    );
}

#[test]
fn a_swapped_key_looks_the_same_and_is_another() {
    let hsm = SoftHsm::new();
    let token = hsm.token("home");
    for (kind, id) in [("aes", "0a"), ("hmac", "0b"), ("ec", "0c"), ("rsa", "0d")] {
        token.outsider_ok(&["generate", "--kind", kind, "--id", id, "--label", kind]);
    }
    let sorted = || {
        let listed = token.outsider_ok(&["list"]);
        let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let before = sorted();
    assert_eq!(before.len(), 6, "two secret keys and two pairs: {before:?}");
    let encrypted = token.outsider_ok(&["encrypt", "--id", "0a", "--data", BLOCK]);
    let signed = ["0b", "0c", "0d"].map(|id| {
        let signature = token.outsider_ok(&["sign", "--id", id, "--data", BLOCK]);
        let verify = [
            "verify",
            "--id",
            id,
            "--data",
            BLOCK,
            "--signature",
            &signature,
        ];
        assert_eq!(token.outsider_ok(&verify), "ok");
        (id, signature)
    });
    for id in ["0a", "0b", "0c", "0d"] {
        token.outsider_ok(&["swap", "--id", id]);
    }
    assert_eq!(sorted(), before);
    assert_ne!(
        token.outsider_ok(&["encrypt", "--id", "0a", "--data", BLOCK]),
        encrypted
    );
    for (id, signature) in signed {
        let verify = [
            "verify",
            "--id",
            id,
            "--data",
            BLOCK,
            "--signature",
            &signature,
        ];
        assert_eq!(
            token.outsider_refused(&verify),
            "C_Verify: CKR_SIGNATURE_INVALID"
        );
    }
}

#[test]
fn names_ids_copies_and_halves() {
    let hsm = SoftHsm::new();
    let token = hsm.token("home");
    let lines = |word: &str| {
        let listed = token.outsider_ok(&["list"]);
        listed.lines().filter(|line| line.contains(word)).count()
    };
    token.outsider_ok(&["generate", "--kind", "ec", "--id", "01", "--label", "pair"]);
    assert_eq!(lines("id=01"), 2);
    token.outsider_ok(&["duplicate", "--id", "01"]);
    assert_eq!(lines("id=01"), 4);
    token.outsider_ok(&["destroy", "--id", "01", "--class", "public"]);
    assert_eq!(lines("id=01"), 2);
    assert_eq!(lines("private"), 2);
    token.outsider_ok(&["set-label", "--id", "01", "--label", "renamed"]);
    assert_eq!(lines("label=\"renamed\""), 2);
    token.outsider_ok(&["set-id", "--id", "01", "--to", "02ff"]);
    assert_eq!((lines("id=01"), lines("id=02ff")), (0, 2));
    let nobody = token.outsider(&["destroy", "--id", "01"]);
    assert_eq!(nobody.status.code(), Some(4), "{nobody:?}");
    let open = ["generate", "--id", "03", "--label", "open", "--extractable"];
    token.outsider_ok(&open);
    assert_eq!(lines(" extractable"), 1);
}

#[test]
fn the_bare_loop_measures_several_tokens() {
    let hsm = SoftHsm::new();
    let (home, away) = (hsm.token("home"), hsm.token("away"));
    // One PIN for all, as in the demo.
    std::fs::copy(&home.pin_file, hsm.dir().join("third.pin")).unwrap();
    let third = hsm.token("third");
    for token in [&home, &third] {
        token.outsider_ok(&["generate", "--id", "01", "--label", "one"]);
    }
    let told = home.outsider_ok(&[
        "bare-loop",
        "--id",
        "01",
        "--tokens",
        "home,third",
        "--rounds",
        "3",
    ]);
    assert_eq!(told.matches("over 2 tokens").count(), 2, "{told}");
    let wrong = home.outsider(&["bare-loop", "--id", "01", "--tokens", "home,away"]);
    assert_eq!(wrong.status.code(), Some(3), "{wrong:?}");
    assert_ne!(home.serial, away.serial);
}
