//! The contract of `keystore::Keystore` between tokens of several makes, every pair that can have keys together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lockstep::keystore::contract;
use lockstep::keystore::contract::coverage::{Covered, Lacking};
use lockstep::keystore::pkcs11::token::{Pkcs11Config, Pkcs11Token};
use lockstep::model::capabilities::{Capabilities, KindCapabilities};
use lockstep::model::key::{Algorithm, KeySpec};

use crate::support::kinds::{Kind, KindToken, Shelf};

/// Where the process of one pair finds its tokens.
const PAIR: &str = "LOCKSTEP_TEST_PAIR";

/// What keys are tried. RSA keys of more bits take long to make, and differ in nothing.
const SPECS: [(Algorithm, u32); 7] = [
    (Algorithm::Aes, 128),
    (Algorithm::Aes, 256),
    (Algorithm::Hmac, 256),
    (Algorithm::Des, 192),
    (Algorithm::Ec, 256),
    (Algorithm::Ec, 384),
    (Algorithm::Rsa, 2048),
];

fn specs() -> Vec<KeySpec> {
    let spec = |&(algorithm, bits)| KeySpec::new(algorithm, bits).unwrap();
    SPECS.iter().map(spec).collect()
}

fn open(token: &KindToken) -> Pkcs11Token {
    let config = Pkcs11Config {
        module: token.module.clone(),
        label: token.label.clone(),
        serial: None,
        init_args: token.init_args.clone(),
    };
    let mut open = Pkcs11Token::open(&config).unwrap();
    let pin = std::fs::read_to_string(&token.pin_file).unwrap();
    open.login(&pin.into(), false).unwrap();
    open
}

/// What stands before a line of the table, and before what the external token can do, in what a pair's process prints.
const ROW: &str = "contract row: ";
const CAN: &str = "contract can: ";

fn cell(covered: &Covered) -> String {
    let told = match covered.outcome {
        Ok(route) => route.wrapping.name(),
        Err(Lacking::Source) => "not made",
        Err(Lacking::Target) => "not taken",
        Err(Lacking::Wrapping) => "no_common_wrapping",
    };
    format!("{told:<20}")
}

fn line(from: &str, to: &str, cells: impl Iterator<Item = String>) -> String {
    format!("{from:<14}{to:<14}{}", cells.collect::<String>())
}

/// In a process of its own, for modules read their configuration from the environment: both tokens, one line of the table.
fn one_pair(pair: &[KindToken]) {
    let [internal, external] = pair else {
        panic!("a pair is two");
    };
    let run = contract::check(&mut open(internal), &mut open(external), &specs());
    let run = run.unwrap_or_else(|violation| panic!("{violation}"));
    let cells = run.covered.iter().map(cell);
    let row = line(internal.kind.name(), external.kind.name(), cells);
    println!("{ROW}{row}");
    println!("{CAN}{}", serde_json::to_string(&run.external).unwrap());
}

#[test]
fn every_pair_of_makes_keeps_the_contract() {
    if let Some(pair) = std::env::var_os(PAIR) {
        let pair: Vec<KindToken> = serde_json::from_slice(&std::fs::read(pair).unwrap()).unwrap();
        return one_pair(&pair);
    }
    let mut pairs = Vec::new();
    for internal in Kind::ALL {
        for external in Kind::ALL {
            pairs.extend(Pair::start(internal, external));
        }
    }
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    let mut makes = BTreeMap::new();
    for pair in pairs {
        let external = pair.external;
        match pair.end() {
            Ok((row, can)) => {
                rows.push(row);
                makes.insert(external, can);
            }
            Err(why) => failed.push(why),
        }
    }
    println!("\nWhat each make of token can do, as its agent finds by trying:\n");
    println!("{}", capability_table(&makes));
    println!(
        "\nKeys that passed every clause of the contract, and how they were wrapped on the way:\n"
    );
    let names = specs()
        .into_iter()
        .map(|spec| format!("{:<20}", spec.to_string()));
    println!("{}\n{}", line("made on", "sent to", names), rows.join("\n"));
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(
        rows.len() >= 8,
        "SoftHSM2, kryoptic and NSS are on every machine"
    );
}

/// A pair at work.
struct Pair {
    names: String,
    external: Kind,
    shelf: Shelf,
    out: PathBuf,
    child: Child,
}

impl Pair {
    /// Nothing where the internal one could not be an internal keystore, or where there is no such token here.
    fn start(internal: Kind, external: Kind) -> Option<Self> {
        // It has no RFC 5649, which the repository rests on.
        if internal == Kind::OpenCryptoki {
            return None;
        }
        // NSS is one token a process.
        if (internal, external) == (Kind::Nss, Kind::Nss) {
            return None;
        }
        let mut shelf = Shelf::new();
        let home = shelf.token(internal, "home")?;
        let away = match external {
            Kind::OpenCryptoki => shelf.token(external, internal.opencryptoki())?,
            Kind::SoftHsm | Kind::Kryoptic | Kind::Nss => shelf.token(external, "away")?,
        };
        let env = home.env.clone().into_iter().chain(away.env.clone());
        let dir = shelf.dir().to_owned();
        let (pair, out) = (dir.join("pair.json"), dir.join("out"));
        std::fs::write(&pair, serde_json::to_vec(&[&home, &away]).unwrap()).unwrap();
        let test = "token_kinds::every_pair_of_makes_keeps_the_contract";
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(PAIR, &pair)
            .envs(env)
            .stdout(Stdio::from(File::create(&out).unwrap()))
            .stderr(Stdio::from(File::create(dir.join("err")).unwrap()))
            .spawn()
            .unwrap();
        Some(Self {
            names: format!("{} to {}", internal.name(), external.name()),
            external,
            shelf,
            out,
            child,
        })
    }

    /// Waits; the line of the table and what the external token can do, or what went wrong.
    fn end(mut self) -> Result<(String, Capabilities), String> {
        let ended = self.child.wait().unwrap();
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let out = read(&self.out);
        let told = |mark| out.lines().find_map(|line| line.strip_prefix(mark));
        match (told(ROW), told(CAN)) {
            (Some(row), Some(can)) if ended.success() => {
                Ok((row.to_owned(), serde_json::from_str(can).unwrap()))
            }
            _ => {
                let err = read(&self.shelf.dir().join("err"));
                Err(format!("{}: {ended}\n{out}{err}", self.names))
            }
        }
    }
}

fn capability_table(makes: &BTreeMap<Kind, Capabilities>) -> String {
    type Tell = fn(&Capabilities) -> String;
    let told: [(&str, Tell); 13] = [
        ("RFC 5649", |can| {
            can.rfc5649
                .map_or("none".to_owned(), |number| format!("{number:#x}"))
        }),
        ("AES-CBC-PAD", |can| yes(can.cbc_pad)),
        ("RSA-OAEP", |can| {
            let names: Vec<&str> = can.oaep_hashes.iter().map(|hash| hash.name()).collect();
            names.join(" ")
        }),
        ("CKA_COPYABLE", |can| yes(can.copyable)),
        ("CKA_MODIFIABLE", |can| yes(can.modifiable)),
        ("CKA_EXTRACTABLE", |can| {
            can.unextractable.map_or("not tried".to_owned(), yes)
        }),
        ("C_DigestKey", |can| yes(can.digest_key)),
        ("C_CopyObject", |can| yes(can.copy)),
        ("same CKA_ID", |can| can.duplicates.name().to_owned()),
        ("sets all or none", |can| yes(can.atomic_set)),
        ("labels kept whole", |can| can.label_chars.to_string()),
        ("install", |can| by_kind(can, |kind| kind.unwrap.name())),
        ("disabled by", |can| {
            by_kind(can, |kind| {
                let spec = KeySpec::new(kind.algorithm, kind.sizes[0]).unwrap();
                can.usual_strategy_of(spec).name()
            })
        }),
    ];
    let mut table = format!("{:<18}", "");
    for make in makes.keys() {
        write!(table, "{:<44}", make.name()).unwrap();
    }
    for (name, tell) in told {
        write!(table, "\n{name:<18}").unwrap();
        for can in makes.values() {
            write!(table, "{:<44}", tell(can)).unwrap();
        }
    }
    table
}

fn yes(does: bool) -> String {
    if does { "yes" } else { "no" }.to_owned()
}

/// One word where all kinds have it in common, else each with its own.
fn by_kind(can: &Capabilities, of: impl Fn(&KindCapabilities) -> &'static str) -> String {
    let mut words: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in &can.kinds {
        words
            .entry(of(kind))
            .or_default()
            .push(kind.algorithm.name());
    }
    match words.len() {
        1 => words.into_keys().collect(),
        _ => {
            let each = words.into_iter();
            let each = each.map(|(word, kinds)| format!("{word} ({})", kinds.join(" ")));
            each.collect::<Vec<_>>().join(" ")
        }
    }
}
