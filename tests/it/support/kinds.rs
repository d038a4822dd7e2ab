//! Tokens of several makes, each as its own tools make them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};

use crate::support::module::build;
use crate::support::softhsm::{SoftHsm, Token};

/// Where `.ci/run` says that it set opencryptoki up: see `tests/modules/opencryptoki/start`.
const OPENCRYPTOKI: &str = "LOCKSTEP_TEST_OPENCRYPTOKI";

/// Where distributions put NSS's software token.
const SOFTOKN: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
    "/usr/lib/x86_64-linux-gnu/nss/libsoftokn3.so",
    "/usr/lib64/libsoftokn3.so",
];

/// PINs of tokens that are made here: long enough for all, and no secret.
const PIN: &str = "lockstep-user-pin";
const SO_PIN: &str = "lockstep-so-pin";

/// Makes of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    SoftHsm,
    Kryoptic,
    Nss,
    OpenCryptoki,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::SoftHsm, Self::Kryoptic, Self::Nss, Self::OpenCryptoki];

    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftHsm => "SoftHSM2",
            Self::Kryoptic => "kryoptic",
            Self::Nss => "NSS softokn",
            Self::OpenCryptoki => "opencryptoki",
        }
    }

    /// The label of the opencryptoki token that is for keys from this make.
    pub const fn opencryptoki(self) -> &'static str {
        match self {
            Self::SoftHsm => "from-softhsm",
            Self::Kryoptic => "from-kryoptic",
            Self::Nss => "from-nss",
            Self::OpenCryptoki => "from-itself",
        }
    }
}

/// One token: all that an agent's config says of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KindToken {
    pub kind: Kind,
    pub module: PathBuf,
    pub label: String,
    pub pin_file: PathBuf,
    pub init_args: Option<String>,
    pub env: BTreeMap<String, String>,
}

/// Makes tokens of any make. They go with it, but for opencryptoki's, which are the machine's.
#[derive(Debug)]
pub struct Shelf {
    hsm: SoftHsm,
    kryoptic: Vec<PathBuf>,
}

impl Shelf {
    pub fn new() -> Self {
        Self {
            hsm: SoftHsm::new(),
            kryoptic: Vec::new(),
        }
    }

    /// A new token; nothing where this machine cannot have one, and then a line says so. Labels are unique in a test; of
    /// opencryptoki the token of that label was made by its script.
    pub fn token(&mut self, kind: Kind, label: &str) -> Option<KindToken> {
        match kind {
            Kind::SoftHsm => Some(self.softhsm(label)),
            Kind::Kryoptic => Some(self.kryoptic(label)),
            Kind::Nss => Some(self.nss(label)),
            Kind::OpenCryptoki => opencryptoki(label),
        }
    }

    /// As [`Self::token`], for fixtures that take a token of any make; of SoftHSM2's all that there is of it.
    pub fn any(&mut self, kind: Kind, label: &str) -> Option<Token> {
        match kind {
            Kind::SoftHsm => Some(self.hsm.token(label)),
            Kind::Kryoptic | Kind::Nss | Kind::OpenCryptoki => {
                self.token(kind, label).map(KindToken::into_token)
            }
        }
    }

    pub fn dir(&self) -> &Path {
        self.hsm.dir()
    }

    fn softhsm(&self, label: &str) -> KindToken {
        let token = self.hsm.token(label);
        KindToken {
            kind: Kind::SoftHsm,
            module: token.module,
            label: token.label,
            pin_file: token.pin_file,
            init_args: None,
            env: token.env,
        }
    }

    /// One config for all of them: a process reads one.
    fn kryoptic(&mut self, label: &str) -> KindToken {
        let slot = self.kryoptic.len() + 1;
        self.kryoptic.push(self.dir().join(format!("{label}.sql")));
        let mut conf = String::new();
        for (index, store) in self.kryoptic.iter().enumerate() {
            let number = index + 1;
            let store = store.display();
            writeln!(
                conf,
                "[[slots]]\nslot = {number}\ndbtype = \"sqlite\"\ndbargs = \"{store}\""
            )
            .unwrap();
        }
        let path = self.dir().join("kryoptic.conf");
        std::fs::write(&path, conf).unwrap();
        let token = KindToken {
            kind: Kind::Kryoptic,
            module: build("kryoptic", "libkryoptic_module.so"),
            label: label.to_owned(),
            pin_file: self.pin_file(label, PIN),
            init_args: None,
            env: BTreeMap::from([("KRYOPTIC_CONF".to_owned(), path.display().to_string())]),
        };
        let slot = slot.to_string();
        let at = ["--slot", &slot, "--so-pin", SO_PIN];
        let so = ["--login", "--login-type", "so", "--init-pin", "--pin", PIN];
        for words in [
            [&at[..], &["--init-token", "--label", label]].concat(),
            [&at[..], &so].concat(),
        ] {
            let done = token.tool(&words);
            assert!(done.status.success(), "{done:?}");
        }
        token
    }

    /// NSS's own tool makes the database; the token's label is a parameter of the library.
    fn nss(&self, label: &str) -> KindToken {
        let dir = self.dir().join(format!("{label}.nss"));
        std::fs::create_dir(&dir).unwrap();
        let pin_file = self.pin_file(label, PIN);
        let made = Command::new("certutil")
            .args(["-N", "-d", &format!("sql:{}", dir.display()), "-f"])
            .arg(&pin_file)
            .output()
            .expect("certutil is missing: apt-get install libnss3-tools");
        assert!(made.status.success(), "{made:?}");
        let module = SOFTOKN.iter().map(PathBuf::from).find(|at| at.exists());
        KindToken {
            kind: Kind::Nss,
            module: module.expect("softokn is missing: apt-get install libnss3"),
            label: label.to_owned(),
            pin_file,
            init_args: Some(format!(
                "configdir='sql:{}' certPrefix='' keyPrefix='' secmod='secmod.db' flags= dbTokenDescription='{label}'",
                dir.display()
            )),
            env: BTreeMap::new(),
        }
    }

    fn pin_file(&self, label: &str, pin: &str) -> PathBuf {
        let path = self.dir().join(format!("{label}.pin"));
        std::fs::write(&path, pin).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }
}

fn opencryptoki(label: &str) -> Option<KindToken> {
    let Some(dir) = std::env::var_os(OPENCRYPTOKI) else {
        println!("skipped: opencryptoki needs root and /etc: only .ci/run sets it up");
        return None;
    };
    let dir = PathBuf::from(dir);
    Some(KindToken {
        kind: Kind::OpenCryptoki,
        module: std::fs::read_to_string(dir.join("module"))
            .unwrap()
            .trim()
            .into(),
        label: label.to_owned(),
        pin_file: dir.join("pin"),
        init_args: None,
        env: BTreeMap::new(),
    })
}

impl KindToken {
    /// What only SoftHSM2 has is empty.
    fn into_token(self) -> Token {
        Token {
            module: self.module,
            conf: PathBuf::new(),
            env: self.env,
            init_args: self.init_args,
            tokens: PathBuf::new(),
            label: self.label,
            serial: String::new(),
            pin_file: self.pin_file,
            so_pin_file: PathBuf::new(),
        }
    }

    /// Runs `pkcs11-tool` on its module.
    pub fn tool(&self, args: &[&str]) -> Output {
        Command::new("pkcs11-tool")
            .arg("--module")
            .arg(&self.module)
            .args(args)
            .envs(&self.env)
            .output()
            .expect("pkcs11-tool is missing: apt-get install opensc")
    }
}
