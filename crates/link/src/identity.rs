//! Keys and identities: what a node or a user is on every link.

use std::fmt;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sortie_model::NodeId;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::{AuthorityError, PublicKey, fingerprint};
use crate::pem::{self, BadPem};
use crate::trust::{CertificateFault, Peer};

/// A private key, of a node or of a user. Its debug form hides it.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`AuthorityError::Signing`] when the system gives no randomness.
    pub fn generate() -> Result<Self, AuthorityError> {
        Ok(Self(KeyPair::generate_for(&PKCS_ED25519)?))
    }

    /// The key as PEM: a secret, for a file that only its owner reads.
    pub fn to_pem(&self) -> String {
        pem::write(&[("PRIVATE KEY", self.0.serialized_der())])
    }

    /// Reads what [`Self::to_pem`] wrote, or the key of what [`Identity::to_pem`] wrote.
    ///
    /// # Errors
    /// [`BadPem`] when it is something else.
    pub fn from_pem(text: &str) -> Result<Self, BadPem> {
        let (_, key) = pem::read(text)?;
        Ok(Self(KeyPair::try_from(&key).map_err(|_| BadPem::Key)?))
    }

    /// The identity that belongs to the key.
    pub fn node_id(&self) -> NodeId {
        NodeId::of_public_key(&self.0.subject_public_key_info())
    }

    /// Its public half.
    ///
    /// # Errors
    /// [`AuthorityError::Request`] when it is of a kind that we do not sign with.
    pub fn public_key(&self) -> Result<PublicKey, AuthorityError> {
        PublicKey::of(&self.0)
    }

    /// A signing request (DER) for the key, without any name: the CA chooses those.
    ///
    /// # Errors
    /// [`AuthorityError::Signing`] when signing fails.
    pub fn signing_request(&self) -> Result<Vec<u8>, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&self.0)?.der().to_vec())
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({}, ..)", self.node_id())
    }
}

/// A key with its certificate and the CA that both sides trust. Its debug form hides the key.
pub struct Identity {
    peer: Peer,
    chain: [CertificateDer<'static>; 2],
    key: PrivatePkcs8KeyDer<'static>,
}

/// Certificate, CA and key do not make an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The text is not what [`Identity::to_pem`] writes.
    #[error("an identity cannot be read from its file: {0}")]
    Pem(#[from] BadPem),
    /// The certificate says neither `node` nor `user`.
    #[error("an identity's certificate cannot be used: {0}")]
    Certificate(#[from] CertificateFault),
    /// The key is not the certificate's.
    #[error("an identity's key does not belong to its certificate")]
    OtherKey,
}

impl Identity {
    /// An identity from its parts: both certificates as DER.
    ///
    /// # Errors
    /// [`IdentityError`] when they do not belong together. The CA's signature is not checked here:
    /// the other side of a link does that.
    pub fn new(leaf: Vec<u8>, authority: Vec<u8>, key: &NodeKey) -> Result<Self, IdentityError> {
        let chain = [CertificateDer::from(leaf), CertificateDer::from(authority)];
        Self::of(chain, PrivatePkcs8KeyDer::from(key.0.serialize_der()))
    }

    /// All of it in one PEM text (certificate, CA, key): a secret, for a file that only its owner
    /// reads.
    pub fn to_pem(&self) -> String {
        let [leaf, authority] = &self.chain;
        let key = self.key.secret_pkcs8_der();
        pem::write(&[("CERTIFICATE", leaf), ("CERTIFICATE", authority), ("PRIVATE KEY", key)])
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// [`IdentityError`] when it is something else.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let (certificates, key) = pem::read(text)?;
        let chain = certificates.try_into().map_err(|_| BadPem::NoCertificate)?;
        Self::of(chain, key)
    }

    /// Who this is on a link.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The certificate of the CA, DER.
    pub fn authority_der(&self) -> &[u8] {
        let [_, authority] = &self.chain;
        authority
    }

    /// SHA-256 of the CA's certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(self.authority_der())
    }

    pub(crate) fn authority(&self) -> CertificateDer<'static> {
        let [_, authority] = &self.chain;
        authority.clone()
    }

    /// The chain that is shown: the CA's certificate is part of it, because a joining node knows
    /// only its hash.
    pub(crate) fn shown_chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.to_vec()
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    fn of(
        chain: [CertificateDer<'static>; 2],
        key: PrivatePkcs8KeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let [leaf, _] = &chain;
        let peer = Peer::of_certificate(leaf)?;
        let pair = KeyPair::try_from(&key).map_err(|_| BadPem::Key)?;
        if key_of(leaf) == Some(pair.subject_public_key_info()) {
            Ok(Self { peer, chain, key })
        } else {
            Err(IdentityError::OtherKey)
        }
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { peer: self.peer.clone(), chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, ..)", self.peer)
    }
}

/// The public key (SPKI, DER) of a certificate.
pub(crate) fn key_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().raw.to_vec())
}
