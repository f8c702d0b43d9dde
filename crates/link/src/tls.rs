//! TLS 1.3, mutual, with everything off that would skip a check: no resumption, no tickets, no
//! early data. The cryptography library is named here and never installed for the whole process.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    ServerConfig, SignatureScheme,
};
use sortie_wire::version::{ALPN_JOIN, ALPN_LINK};

use crate::authority::fingerprint;
use crate::error::{CloseReason, Side, TlsError, TrustFault};
use crate::identity::Identity;

/// The cryptography, with AES-128-GCM first: it is 1.7 times as fast as ChaCha20 here.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        let mut provider = ring::default_provider();
        let first = CipherSuite::TLS13_AES_128_GCM_SHA256;
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != first);
        Arc::new(provider)
    };
    Arc::clone(PROVIDER.get_or_init(make))
}

fn roots(authority: CertificateDer<'static>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    Ok(Arc::new(roots))
}

/// The side that is dialled. A client may come without certificate, because a joining node has
/// none; whoever speaks the link protocol without one is turned away right after the handshake.
pub(crate) fn server(identity: &Identity) -> Result<Arc<QuicServerConfig>, TlsError> {
    let roots = roots(identity.authority())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.shown_chain(), identity.private_key())?;
    config.alpn_protocols = vec![ALPN_LINK.to_vec(), ALPN_JOIN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    let config =
        QuicServerConfig::try_from(config).map_err(|error| Error::General(error.to_string()))?;
    Ok(Arc::new(config))
}

/// What the client side knows of a handshake that failed, better than its alert says.
pub(crate) type Verdict = Arc<OnceLock<Error>>;

/// The side that dials, showing its certificate. Made for each dial: it is a few allocations.
pub(crate) fn client(
    identity: &Identity,
    verdict: &Verdict,
) -> Result<Arc<QuicClientConfig>, TlsError> {
    let inner =
        WebPkiServerVerifier::builder_with_provider(roots(identity.authority())?, provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
    let verifier = Watched { inner, verdict: Arc::clone(verdict) };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(identity.shown_chain(), identity.private_key())?;
    quic_client(config, ALPN_LINK)
}

/// The side that joins: it has no certificate and trusts the CA of that hash alone.
pub(crate) fn joining_client(
    authority: [u8; 32],
    verdict: &Verdict,
) -> Result<Arc<QuicClientConfig>, TlsError> {
    let verifier = Pinned { authority, verdict: Arc::clone(verdict) };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    quic_client(config, ALPN_JOIN)
}

fn quic_client(mut config: ClientConfig, alpn: &[u8]) -> Result<Arc<QuicClientConfig>, TlsError> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    let config =
        QuicClientConfig::try_from(config).map_err(|error| Error::General(error.to_string()))?;
    Ok(Arc::new(config))
}

/// Verifies as rustls does, and keeps the error with its details.
#[derive(Debug)]
struct Watched {
    inner: Arc<WebPkiServerVerifier>,
    verdict: Verdict,
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .inspect_err(|error| drop(self.verdict.set(error.clone())))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes the shown certificate of the pinned hash as the only root, then verifies as rustls does.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    verdict: Verdict,
}

impl Pinned {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates
            .iter()
            .find(|certificate| fingerprint(certificate) == self.authority)
            .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        WebPkiServerVerifier::builder_with_provider(roots(pinned.clone().into_owned())?, provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, &[], now)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, server_name, now)
            .inspect_err(|error| drop(self.verdict.set(error.clone())))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What a failed handshake means: our own verdict if we have one, else the alert.
pub(crate) fn trust_fault(reason: &CloseReason, verdict: &Verdict) -> Option<TrustFault> {
    if let Some(Error::InvalidCertificate(fault)) = verdict.get() {
        return Some(certificate_fault(fault));
    }
    let CloseReason::Tls { by, alert, text } = reason else { return None };
    Some(match (by, alert) {
        // unknown_ca, decrypt_error (the same issuer name with another key)
        (Side::There, 48 | 51) => TrustFault::WeAreStrangers,
        // certificate_expired, which also stands for `not yet valid`
        (Side::There, 45) => TrustFault::OurDates,
        // protocol_version, no_application_protocol
        (_, 70 | 120) => TrustFault::OtherProtocol,
        _ => TrustFault::Tls(text.clone()),
    })
}

fn certificate_fault(fault: &CertificateError) -> TrustFault {
    let between = |later: &UnixTime, earlier: &UnixTime| {
        Duration::from_secs(later.as_secs().saturating_sub(earlier.as_secs()))
    };
    match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            TrustFault::OtherAuthority
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            TrustFault::NotYetValid { by: between(not_before, time) }
        }
        CertificateError::ExpiredContext { time, not_after } => {
            TrustFault::Expired { by: between(time, not_after) }
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TrustFault::OtherNode
        }
        other => TrustFault::Tls(other.to_string()),
    }
}
