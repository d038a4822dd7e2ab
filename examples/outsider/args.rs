//! What the program is told.

use std::ffi::CString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cryptoki::object::Attribute;

use crate::attacks::Attack;

#[derive(Parser)]
#[command(about = "What somebody else does to a token: see the head of examples/outsider/main.rs")]
pub(crate) struct Cli {
    /// PKCS#11 module.
    #[arg(long, default_value = "/usr/lib/softhsm/libsofthsm2.so")]
    pub(crate) module: PathBuf,
    /// Label of the token.
    #[arg(long, default_value = "")]
    pub(crate) token: String,
    /// Serial number of the token, if its label is not enough.
    #[arg(long)]
    pub(crate) serial: Option<String>,
    /// What the module wants in C_Initialize's pReserved, as NSS does.
    #[arg(long)]
    pub(crate) init_args: Option<CString>,
    /// File with the user PIN.
    #[arg(long)]
    pub(crate) pin_file: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What nobody may do with a key, or may.
#[derive(Args)]
pub(crate) struct Guard {
    #[arg(long)]
    pub(crate) extractable: bool,
    #[arg(long)]
    pub(crate) fixed: bool,
    #[arg(long)]
    pub(crate) uncopyable: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    List,
    Generate {
        #[command(flatten)]
        at: At,
        #[arg(long)]
        label: String,
        #[arg(long, default_value = "aes")]
        kind: Kind,
        #[command(flatten)]
        guard: Guard,
    },
    SetUsage {
        #[command(flatten)]
        at: At,
        #[arg(long, value_delimiter = ',')]
        on: Vec<Usage>,
        #[arg(long, value_delimiter = ',')]
        off: Vec<Usage>,
    },
    SetLabel {
        #[command(flatten)]
        at: At,
        #[arg(long)]
        label: String,
    },
    SetId {
        #[command(flatten)]
        at: At,
        #[arg(long, value_parser = hex)]
        to: Hex,
    },
    Swap(At),
    Duplicate(At),
    Destroy(At),
    Encrypt {
        #[command(flatten)]
        at: At,
        #[arg(long, value_parser = hex)]
        data: Hex,
    },
    Decrypt {
        #[command(flatten)]
        at: At,
        #[arg(long, value_parser = hex)]
        data: Hex,
    },
    Sign {
        #[command(flatten)]
        at: At,
        #[arg(long, value_parser = hex)]
        data: Hex,
    },
    Verify {
        #[command(flatten)]
        at: At,
        #[arg(long, value_parser = hex)]
        data: Hex,
        #[arg(long, value_parser = hex)]
        signature: Hex,
    },
    Reveal {
        #[command(flatten)]
        at: At,
        #[arg(long, default_value = "aes")]
        kind: Kind,
        #[arg(long, value_parser = hex)]
        blob: Hex,
        #[arg(long, value_parser = hex)]
        under: Hex,
    },
    Attack {
        #[command(subcommand)]
        attack: Attack,
    },
    BareLoop {
        #[command(flatten)]
        at: At,
        #[arg(long, value_delimiter = ',')]
        tokens: Vec<String>,
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
}

/// Which objects.
#[derive(Args)]
pub(crate) struct At {
    /// CKA_ID in hexadecimal.
    #[arg(long, value_parser = hex)]
    pub(crate) id: Hex,
    /// Only objects of this class.
    #[arg(long)]
    pub(crate) class: Option<Class>,
}

#[derive(Clone)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Class {
    Secret,
    Private,
    Public,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    Aes,
    Hmac,
    Ec,
    Rsa,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Usage {
    Encrypt,
    Decrypt,
    Sign,
    SignRecover,
    Verify,
    VerifyRecover,
    Wrap,
    Unwrap,
    Derive,
}

impl Usage {
    pub(crate) fn attribute(self, on: bool) -> Attribute {
        match self {
            Self::Encrypt => Attribute::Encrypt(on),
            Self::Decrypt => Attribute::Decrypt(on),
            Self::Sign => Attribute::Sign(on),
            Self::SignRecover => Attribute::SignRecover(on),
            Self::Verify => Attribute::Verify(on),
            Self::VerifyRecover => Attribute::VerifyRecover(on),
            Self::Wrap => Attribute::Wrap(on),
            Self::Unwrap => Attribute::Unwrap(on),
            Self::Derive => Attribute::Derive(on),
        }
    }
}

pub(crate) fn hex(text: &str) -> Result<Hex, String> {
    // CKA_ID is often written as a UUID.
    let text = text.replace('-', "");
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err("an even number of hexadecimal digits is needed".to_owned());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| {
            let digits = text.get(at..at + 2).unwrap_or_default();
            u8::from_str_radix(digits, 16).map_err(|error| error.to_string())
        })
        .collect::<Result<_, _>>()
        .map(Hex)
}
