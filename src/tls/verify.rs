//! Who may be at the other end: the chain by webpki, then the URI name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::error::TlsError;
use crate::tls::name::{PeerName, Role};

/// A good certificate of somebody else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::tls) enum WrongPeer {
    /// The agent is another one.
    #[error("the agent's certificate is for {found}, expected {expected}")]
    OtherAgent {
        /// Who it is.
        found: PeerName,
        /// Who was meant.
        expected: PeerName,
    },
    /// Who calls an agent is not a coordinator.
    #[error("the caller's certificate is for {found}: only coordinators are served")]
    NotACoordinator {
        /// Who it is.
        found: PeerName,
    },
}

fn refuse(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Other(OtherError(Arc::new(error)))
}

/// Takes coordinators of the fleet only.
#[derive(Debug)]
pub(in crate::tls) struct CoordinatorsOnly {
    chain: Arc<dyn ClientCertVerifier>,
}

impl CoordinatorsOnly {
    pub(in crate::tls) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| TlsError::Roots {
                problem: error.to_string(),
            })?;
        Ok(Self { chain })
    }
}

impl ClientCertVerifier for CoordinatorsOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        let found = PeerName::of_certificate(end_entity).map_err(refuse)?;
        match found.role() {
            Role::Coordinator => Ok(verified),
            Role::Agent => Err(refuse(WrongPeer::NotACoordinator { found })),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Takes the one agent that is meant. The host in the address plays no part: only the URI name does.
#[derive(Debug)]
pub(in crate::tls) struct ThisAgent {
    expected: PeerName,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ThisAgent {
    pub(in crate::tls) fn new(
        expected: PeerName,
        roots: Arc<RootCertStore>,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            expected,
            roots,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ThisAgent {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let found = PeerName::of_certificate(end_entity).map_err(refuse)?;
        if found == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refuse(WrongPeer::OtherAgent {
                found,
                expected: self.expected.clone(),
            }))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
