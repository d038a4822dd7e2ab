//! Real SoftHSM2 tokens in a directory of their own, gone with the fixture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::example;

/// Where distributions put the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// One SoftHSM2 configuration with any number of tokens.
#[derive(Debug)]
pub struct SoftHsm {
    dir: TempDir,
    module: PathBuf,
}

/// One token. Its directory lives as long as its [`SoftHsm`].
#[derive(Debug, Clone)]
pub struct Token {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// What `SOFTHSM2_CONF` must be.
    pub conf: PathBuf,
    /// The environment that its module wants.
    pub env: BTreeMap<String, String>,
    /// What its module wants in C_Initialize.
    pub init_args: Option<String>,
    /// The directory with one directory per token: taking it away is a token that vanishes.
    pub tokens: PathBuf,
    /// The token's label.
    pub label: String,
    /// The token's serial number.
    pub serial: String,
    /// File with the user PIN, mode 0600, no newline.
    pub pin_file: PathBuf,
    /// File with the security officer's PIN.
    pub so_pin_file: PathBuf,
}

impl SoftHsm {
    /// A configuration without tokens, on /dev/shm where there is one: SoftHSM2 writes much, and slowly on disks.
    pub fn new() -> Self {
        let module = MODULES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .expect("SoftHSM2 is missing: apt-get install softhsm2 opensc");
        let mut builder = tempfile::Builder::new();
        builder.prefix("lockstep-softhsm-");
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            builder.tempdir_in(memory)
        } else {
            builder.tempdir()
        };
        Self {
            dir: dir.expect("a temporary directory"),
            module,
        }
    }

    /// The directory that holds all of it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The token of that label (1 to 32 of `A-Z a-z 0-9 . _ -`), made when it is not there. PINs are random.
    pub fn token(&self, label: &str) -> Token {
        let conf = self.dir().join("softhsm2.conf");
        let tokens = self.dir().join("tokens");
        let pin_file = self.dir().join(format!("{label}.pin"));
        let so_pin_file = self.dir().join(format!("{label}.so-pin"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("softhsm-config/make-token");
        let made = Command::new(script)
            .args(["--label", label])
            .arg("--conf")
            .arg(&conf)
            .arg("--tokens")
            .arg(&tokens)
            .arg("--pin-file")
            .arg(&pin_file)
            .arg("--so-pin-file")
            .arg(&so_pin_file)
            .output()
            .expect("bash runs softhsm-config/make-token");
        assert!(
            made.status.success(),
            "{}(do you need apt-get install softhsm2 opensc?)",
            String::from_utf8_lossy(&made.stderr)
        );
        Token {
            module: self.module.clone(),
            env: BTreeMap::from([("SOFTHSM2_CONF".to_owned(), conf.display().to_string())]),
            init_args: None,
            conf,
            tokens,
            label: label.to_owned(),
            serial: String::from_utf8(made.stdout).unwrap().trim().to_owned(),
            pin_file,
            so_pin_file,
        }
    }
}

impl Token {
    /// Runs `pkcs11-tool` on the token, logged in; the PIN goes by the environment of that one process.
    pub fn pkcs11_tool(&self, args: &[&str]) -> Output {
        let pin = std::fs::read_to_string(&self.pin_file).expect("the PIN file");
        Command::new("pkcs11-tool")
            .arg("--module")
            .arg(&self.module)
            .args(["--token-label", &self.label])
            .args(["--login", "--pin", "env:LOCKSTEP_TEST_PIN"])
            .args(args)
            .env("LOCKSTEP_TEST_PIN", pin)
            .envs(&self.env)
            .output()
            .expect("pkcs11-tool is missing: apt-get install opensc")
    }

    /// Runs GnuTLS's `p11tool` on the token, logged in; the PIN goes by the environment of that one process.
    pub fn p11tool(&self, args: &[&str]) -> Output {
        let pin = std::fs::read_to_string(&self.pin_file).expect("the PIN file");
        let provider = format!("--provider={}", self.module.display());
        Command::new("p11tool")
            .args(["--batch", &provider, "--login"])
            .args(args)
            .arg(format!("pkcs11:token={}", self.label))
            .env("GNUTLS_PIN", pin)
            .envs(&self.env)
            .output()
            .expect("p11tool is missing: apt-get install gnutls-bin")
    }

    /// Runs `examples/outsider` on the token: what somebody else does to it.
    pub fn outsider(&self, args: &[&str]) -> Output {
        let init_args = self.init_args.as_deref();
        Command::new(example("outsider"))
            .arg("--module")
            .arg(&self.module)
            .args(["--token", &self.label])
            .arg("--pin-file")
            .arg(&self.pin_file)
            .args(init_args.map(|words| format!("--init-args={words}")))
            .args(args)
            .envs(&self.env)
            .output()
            .expect("the outsider runs")
    }

    /// As [`Self::outsider`]: it must succeed; what it printed.
    pub fn outsider_ok(&self, args: &[&str]) -> String {
        let done = self.outsider(args);
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// As [`Self::outsider`]: the token must refuse; the C_ function and the CKR.
    pub fn outsider_refused(&self, args: &[&str]) -> String {
        let done = self.outsider(args);
        assert_eq!(done.status.code(), Some(3), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

#[test]
fn a_token_is_made_once_and_opens_with_its_pin() {
    let hsm = SoftHsm::new();
    let home = hsm.token("home");
    let away = hsm.token("away");
    assert_ne!(home.serial, away.serial);
    assert_eq!(home.serial, hsm.token("home").serial, "made once");
    let made = home.pkcs11_tool(&["--keygen", "--key-type", "AES:32", "--label", "one"]);
    assert!(made.status.success(), "{made:?}");
    let listed = home.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("one"), "{listed}");
    let elsewhere = away.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    assert!(!String::from_utf8_lossy(&elsewhere.stdout).contains("one"));
}
