//! What somebody else does to a token behind Lockstep's back: a small PKCS#11 program that shares no code with the agent.
//! Tests and the demo use it to make drift, and to see as an application does whether a key works.
//!
//! ```text
//! export SOFTHSM2_CONF=...                    # SoftHSM2's own setting
//! outsider --module LIB --token LABEL --pin-file FILE COMMAND
//!   list                                      all keys with class, type, id, label and flags
//!   generate  --id HEX --label TEXT [--kind aes|hmac|ec|rsa] [--extractable]   a key with its usage on
//!             [--fixed] [--uncopyable]        that cannot be changed, or copied
//!   set-usage --id HEX --class secret|private|public [--on encrypt,decrypt] [--off sign]
//!   set-label --id HEX [--class ...] --label TEXT
//!   set-id    --id HEX [--class ...] --to HEX
//!   swap      --id HEX                        another key with the same label, id and flags
//!   duplicate --id HEX                        a second object with the same label and id
//!   destroy   --id HEX [--class ...]
//!   encrypt   --id HEX --data HEX             AES, whole blocks, ECB; prints hex
//!   decrypt   --id HEX --data HEX
//!   sign      --id HEX --data HEX             HMAC-SHA-256, ECDSA over the data as a hash, or RSA PKCS#1 with SHA-256
//!   verify    --id HEX --data HEX --signature HEX
//!   reveal    --id HEX --blob HEX --under HEX [--kind aes|hmac|ec|rsa]   what the PIN of a keystore with a wrapping key
//!                                             allows: unwraps a blob under that key (RFC 5649, CKM 0x210A), and prints
//!                                             it wrapped under an AES key of that value
//!   attack ATTACK --id HEX ...                what is known to go wrong with PKCS#11: `attack --help`
//!   bare-loop --id HEX --tokens A,B,C [--rounds N]   the baseline of `make bench`
//! ```
//!
//! What the token refuses is printed as `C_EncryptInit: CKR_KEY_FUNCTION_NOT_PERMITTED`; the exit code is 3 then, 4 if no
//! object has the id, and 1 for anything else. `--serial` chooses among tokens of one label.
#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "an outsider: a program of its own that talks to modules, whose enums are open, and prints"
)]

mod args;
mod attacks;
mod bare;
mod objects;

use std::ffi::CStr;
use std::process::ExitCode;
use std::ptr::NonNull;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::args::{Class, Cli, Command};
use crate::attacks::attack;
use crate::bare::bare_loop;
use crate::objects::{
    NoObject, duplicate, found, generate, list, one, print_hex, reveal, set_all, set_usage,
    signing, swap,
};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(TokenError::Pkcs11(rv, function)) = error.downcast_ref() {
                println!("C_{function:?}: {}", ckr(rv));
                return ExitCode::from(3);
            }
            eprintln!("outsider: {error:#}");
            ExitCode::from(if error.is::<NoObject>() { 4 } else { 1 })
        }
    }
}

/// `KeyFunctionNotPermitted` as the standard writes it.
fn ckr(rv: &RvError) -> String {
    format!("{rv:?}")
        .chars()
        .fold("CKR".to_owned(), |mut name, letter| {
            if letter.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
            name
        })
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    if let Command::BareLoop { at, tokens, rounds } = &cli.command {
        return bare_loop(cli, at, tokens, *rounds);
    }
    let module = load(cli)?;
    let session = open(&module, cli, &cli.token)?;
    let done = command(&session, &cli.command);
    drop(session);
    module.finalize()?;
    done
}

fn command(session: &Session, command: &Command) -> anyhow::Result<()> {
    match command {
        Command::List => list(session),
        Command::Generate {
            at,
            label,
            kind,
            guard,
        } => generate(session, *kind, &at.id.0, label.as_bytes(), guard),
        Command::SetUsage { at, on, off } => set_usage(session, at, on, off),
        Command::SetLabel { at, label } => {
            set_all(session, at, &[Attribute::Label(label.clone().into_bytes())])
        }
        Command::SetId { at, to } => set_all(session, at, &[Attribute::Id(to.0.clone())]),
        Command::Swap(at) => swap(session, at),
        Command::Duplicate(at) => duplicate(session, at),
        Command::Destroy(at) => {
            for object in found(session, at)? {
                session.destroy_object(object)?;
            }
            Ok(())
        }
        Command::Encrypt { at, data } => {
            let key = one(session, at, &[Class::Secret])?;
            print_hex(&session.encrypt(&Mechanism::AesEcb, key, &data.0)?);
            Ok(())
        }
        Command::Decrypt { at, data } => {
            let key = one(session, at, &[Class::Secret])?;
            print_hex(&session.decrypt(&Mechanism::AesEcb, key, &data.0)?);
            Ok(())
        }
        Command::Sign { at, data } => {
            let key = one(session, at, &[Class::Secret, Class::Private])?;
            print_hex(&session.sign(&signing(session, key)?, key, &data.0)?);
            Ok(())
        }
        Command::Verify {
            at,
            data,
            signature,
        } => {
            let key = one(session, at, &[Class::Secret, Class::Public])?;
            let mechanism = signing(session, key)?;
            session.verify(&mechanism, key, &data.0, &signature.0)?;
            println!("ok");
            Ok(())
        }
        Command::Reveal {
            at,
            kind,
            blob,
            under,
        } => reveal(session, at, *kind, &blob.0, &under.0),
        Command::Attack { attack: played } => attack(session, played),
        Command::BareLoop { .. } => bail!("needs several tokens"),
    }
}

fn load(cli: &Cli) -> anyhow::Result<Pkcs11> {
    let module = Pkcs11::new(&cli.module).context("the module cannot be loaded")?;
    module.initialize(initialize_args(cli.init_args.as_deref()))?;
    Ok(module)
}

#[expect(
    unsafe_code,
    reason = "C_Initialize takes what is behind pReserved as it is"
)]
fn initialize_args(words: Option<&CStr>) -> CInitializeArgs {
    let flags = CInitializeFlags::OS_LOCKING_OK;
    match words {
        None => CInitializeArgs::new(flags),
        // SAFETY: NSS reads a C string there, which the arguments of the program keep to its end.
        Some(words) => unsafe {
            CInitializeArgs::new_with_reserved(flags, NonNull::from(words).cast())
        },
    }
}

fn open(module: &Pkcs11, cli: &Cli, label: &str) -> anyhow::Result<Session> {
    let session = module.open_rw_session(slot(module, cli, label)?)?;
    let pin = Zeroizing::new(std::fs::read_to_string(&cli.pin_file).context("the PIN file")?);
    session.login(UserType::User, Some(&AuthPin::from(pin.trim_end())))?;
    Ok(session)
}

fn slot(module: &Pkcs11, cli: &Cli, label: &str) -> anyhow::Result<Slot> {
    let mut matching = Vec::new();
    for slot in module.get_slots_with_initialized_token()? {
        let info = module.get_token_info(slot)?;
        let serial_fits = cli
            .serial
            .as_deref()
            .is_none_or(|serial| info.serial_number() == serial);
        if info.label() == label && serial_fits {
            matching.push(slot);
        }
    }
    match matching.as_slice() {
        [slot] => Ok(*slot),
        [] => bail!("no token {label:?}"),
        [_, ..] => bail!("several tokens {label:?}: give --serial"),
    }
}
