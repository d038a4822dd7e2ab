//! The fleet's certificate authority, in two files: an ECDSA P-256 key (FIPS 186) and its certificate (RFC 5280).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::model::vault::UnixMs;
use crate::tls::config::{certificates, read_secret};
use crate::tls::error::TlsError;
use crate::tls::name::{PeerName, Role};

/// Days that a machine's certificate is valid unless told otherwise: a year and a month to renew it.
pub const CERTIFICATE_DAYS: u32 = 397;

/// Days that a CA is valid.
const CA_DAYS: u32 = 3650;

/// How far clocks may differ: certificates are valid from this much before they were made.
const SKEW: Duration = Duration::from_secs(300);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is there already: nothing is overwritten.
    #[error("{path} is there already; nothing is overwritten")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// A file or directory could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The CA's files cannot be read.
    #[error("the CA cannot be read")]
    Read(#[from] TlsError),
    /// The CA's files do not belong together.
    #[error("{0} is not the key of the certificate beside it")]
    Strangers(PathBuf),
    /// A key or certificate could not be made.
    #[error("no certificate could be made")]
    Make(#[from] rcgen::Error),
    /// A name for HTTPS that cannot be in a certificate.
    #[error("{host:?} is no DNS name and no IP address")]
    Host {
        /// Which.
        host: String,
    },
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Makes the CA in a directory, which is made if it is not there; gives the path of its certificate.
///
/// # Errors
/// [`AuthorityError::Exists`] if there is one already.
pub fn init(dir: &Path, name: &str, now: UnixMs) -> Result<PathBuf, AuthorityError> {
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    must_be_free(&[&certificate, &key])?;
    make_dir(dir)?;
    let pair = KeyPair::generate()?;
    let mut params = params(name, now, CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = params.self_signed(&pair)?;
    write_secret(&key, &pair)?;
    write_new(&certificate, made.pem().as_bytes(), 0o644)?;
    Ok(certificate)
}

/// What is asked of [`issue`].
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Whose certificate it will be.
    pub name: &'a PeerName,
    /// DNS names and IP addresses for HTTPS; usually none.
    pub hosts: &'a [String],
    /// How long it is valid.
    pub days: u32,
    /// From when on.
    pub now: UnixMs,
}

/// Makes a key and a certificate signed by the CA in `dir`, and writes `cert.pem`, `key.pem` and the CA's `ca.pem` to
/// `out`, which is made if it is not there.
///
/// # Errors
/// [`AuthorityError`]; [`AuthorityError::Exists`] if one of the files is there already.
pub fn issue(dir: &Path, order: &Order<'_>, out: &Path) -> Result<(), AuthorityError> {
    let (certificate, key, ca) = (
        out.join("cert.pem"),
        out.join("key.pem"),
        out.join("ca.pem"),
    );
    must_be_free(&[&certificate, &key, &ca])?;
    let issuer = load(dir)?;
    let pair = KeyPair::generate()?;
    let made = machine(order)?.signed_by(&pair, &issuer)?;
    make_dir(out)?;
    let root = fs::read(dir.join("ca.pem")).map_err(|source| TlsError::File {
        path: dir.join("ca.pem"),
        source,
    })?;
    write_secret(&key, &pair)?;
    write_new(&certificate, made.pem().as_bytes(), 0o644)?;
    write_new(&ca, &root, 0o644)
}

/// The CA's key with its certificate's names; refused if the two do not belong together.
fn load(dir: &Path) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let path = dir.join("ca.key");
    let pem = read_secret(&path)?;
    let unreadable = |problem: &str| TlsError::Content {
        path: path.clone(),
        problem: problem.to_owned(),
    };
    let text = std::str::from_utf8(&pem).map_err(|_binary| unreadable("is not PEM"))?;
    let pair = KeyPair::from_pem(text)?;
    let chain = certificates(&dir.join("ca.pem"))?;
    let Some(root) = chain.first() else {
        return Err(unreadable("has no certificate beside it").into());
    };
    let (_rest, parsed) = X509Certificate::from_der(root)
        .map_err(|_unreadable| unreadable("has no readable certificate beside it"))?;
    if parsed.public_key().raw != pair.subject_public_key_info() {
        return Err(AuthorityError::Strangers(path));
    }
    Ok(Issuer::from_ca_cert_der(root, pair)?)
}

fn machine(order: &Order<'_>) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(order.name.name(), order.now, order.days)?;
    let uri = order.name.to_string();
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
    for host in order.hosts {
        params.subject_alt_names.push(alternative(host)?);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match (order.name.role(), order.hosts.is_empty()) {
        (Role::Agent, _) => vec![ExtendedKeyUsagePurpose::ServerAuth],
        (Role::Coordinator, true) => vec![ExtendedKeyUsagePurpose::ClientAuth],
        (Role::Coordinator, false) => vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ],
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn alternative(host: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = host.parse() {
        return Ok(SanType::IpAddress(address));
    }
    let refused = || AuthorityError::Host {
        host: host.to_owned(),
    };
    rustls_pki_types::DnsName::try_from(host).map_err(|_no_name| refused())?;
    let name = host.try_into().map_err(|_not_ascii| refused())?;
    Ok(SanType::DnsName(name))
}

fn params(name: &str, now: UnixMs, days: u32) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Lockstep");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let now = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(SKEW);
    params.not_after = epoch + now.saturating_add(DAY.saturating_mul(days));
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// 127 random bits, positive (RFC 5280, 4.1.2.2).
fn serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| AuthorityError::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn must_be_free(paths: &[&Path]) -> Result<(), AuthorityError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(AuthorityError::Exists {
            path: path.to_path_buf(),
        }),
        None => Ok(()),
    }
}

fn make_dir(dir: &Path) -> Result<(), AuthorityError> {
    fs::create_dir_all(dir).map_err(|source| AuthorityError::Write {
        path: dir.to_owned(),
        source,
    })
}

fn write_secret(path: &Path, pair: &KeyPair) -> Result<(), AuthorityError> {
    let pem = Zeroizing::new(pair.serialize_pem());
    write_new(path, pem.as_bytes(), 0o600)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|source| AuthorityError::Write {
        path: path.to_owned(),
        source,
    })
}
