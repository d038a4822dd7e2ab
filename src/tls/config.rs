//! Certificates, keys and trust anchors from files, and the rustls configurations made of them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::tls::error::TlsError;
use crate::tls::name::PeerName;
use crate::tls::verify::{CoordinatorsOnly, ThisAgent};

/// Largest certificate or key file that is read, bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A machine's certificate chain, its private key, and the fleet's CA: read once, at start.
#[derive(Debug)]
pub struct Identity {
    name: PeerName,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Identity {
    /// Reads the PEM files.
    ///
    /// # Errors
    /// [`TlsError`]: a file cannot be read or holds something else, the key can be read by others, or the certificate
    /// carries no name of ours.
    pub fn load(cert: &Path, key: &Path, ca: &Path) -> Result<Self, TlsError> {
        let chain = certificates(cert)?;
        let Some(own) = chain.first() else {
            return Err(empty(cert));
        };
        let name = PeerName::of_certificate(own)?;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| TlsError::Roots {
                problem: error.to_string(),
            })?;
        }
        Ok(Self {
            name,
            chain,
            key: private_key(key)?,
            roots: Arc::new(roots),
        })
    }

    /// Who we are, by our own certificate.
    #[must_use]
    pub const fn name(&self) -> &PeerName {
        &self.name
    }
}

/// What an agent serves gRPC with: TLS 1.3 only, certificates of coordinators only.
///
/// # Errors
/// [`TlsError`] if certificate, key or CA cannot be used.
pub fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let callers = CoordinatorsOnly::new(Arc::clone(&identity.roots), Arc::clone(&provider))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(Arc::new(callers))
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed connection would skip the look at the certificate, which may have expired since.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a coordinator dials one agent with: TLS 1.3 only, our certificate shown, the agent's URI name checked.
///
/// # Errors
/// [`TlsError`] if certificate or key cannot be used.
pub fn client_config(
    identity: &Identity,
    expected: &PeerName,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let agent = ThisAgent::new(expected.clone(), Arc::clone(&identity.roots), &provider);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Identity)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(agent))
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    // The URI name is what counts; the host would only tell eavesdroppers where we go.
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// What REST and console are served with: TLS 1.2 or 1.3, no client certificates.
///
/// # Errors
/// [`TlsError`]: a file cannot be read, holds something else, or the key can be read by others.
pub fn https_config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Identity)?
        .with_no_client_auth()
        .with_single_cert(certificates(cert)?, private_key(key)?)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What a server with a DNS name or an address is dialled with: vouched for by this CA and by no other.
///
/// # Errors
/// [`TlsError`]: the file cannot be read or holds something else.
pub fn named_server_config(ca: &Path) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|error| TlsError::Roots {
            problem: error.to_string(),
        })?;
    }
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Identity)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The one provider, named everywhere so that no process-wide default is needed.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// All certificates of a PEM file, at least one.
///
/// # Errors
/// [`TlsError::File`] or [`TlsError::Content`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (bytes, _mode) = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(empty(path)),
        Ok(found) => Ok(found),
        Err(error) => Err(content(path, error.to_string())),
    }
}

/// The bytes of a file that holds a secret (a private key, a token): refused if others than its owner can read it.
///
/// # Errors
/// [`TlsError::File`] or [`TlsError::Exposed`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let (bytes, mode) = read(path)?;
    if mode & 0o077 == 0 {
        Ok(bytes)
    } else {
        Err(TlsError::Exposed {
            path: path.to_owned(),
            mode: mode & 0o7777,
        })
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read_secret(path)?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| content(path, format!("holds no private key in PEM ({error})")))
}

/// The bytes of a file and the mode it had when it was opened.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), TlsError> {
    let failed = |source| TlsError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let mut bytes = Zeroizing::new(Vec::new());
    let mut limited = file.take(FILE_BYTES_MAX);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes, mode))
}

fn empty(path: &Path) -> TlsError {
    content(path, "holds no certificate in PEM".to_owned())
}

fn content(path: &Path, problem: String) -> TlsError {
    TlsError::Content {
        path: path.to_owned(),
        problem,
    }
}
