//! The cluster's private CA: it makes certificates for keys, and only the key of a request is
//! believed. Every other word in a certificate is the CA's own.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    PublicKeyData, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use sortie_model::{NodeId, NodeName};
use time::OffsetDateTime;

use crate::identity::{Identity, NodeKey};
use crate::pem::{self, BadPem};
use crate::trust::{ANY_NODE, ANY_USER, node_host};

/// How far certificates reach back, so that a peer whose clock is a little slow accepts them.
pub const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// How long certificates hold; renewal is a later matter.
pub const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// A user's name in a certificate, in bytes (X.509 gives it no more).
const USER_NAME_BYTES: usize = 64;

/// From when to when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its first moment.
    pub from: SystemTime,
    /// Its last moment.
    pub until: SystemTime,
}

impl Validity {
    /// From [`BACKDATED`] before `now` until [`LIFE`] after it.
    pub fn long_from(now: SystemTime) -> Self {
        Self { from: now - BACKDATED, until: now + LIFE }
    }
}

/// The public half of a key, of a kind that we sign with (Ed25519).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(SubjectPublicKeyInfo);

impl PublicKey {
    /// The key of a signing request (DER) that was signed with that key. Nothing else of it is
    /// read.
    ///
    /// # Errors
    /// [`AuthorityError::Request`] when it is no such request.
    pub fn of_request(der: &[u8]) -> Result<Self, AuthorityError> {
        let request = CertificateSigningRequestDer::from(der);
        let request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|_| AuthorityError::Request)?;
        Self::of(&request.public_key)
    }

    /// The identity that belongs to it.
    pub fn node_id(&self) -> NodeId {
        NodeId::of_public_key(&self.0.subject_public_key_info())
    }

    pub(crate) fn of(key: &impl PublicKeyData) -> Result<Self, AuthorityError> {
        let key = SubjectPublicKeyInfo::from_der(&key.subject_public_key_info())
            .map_err(|_| AuthorityError::Request)?;
        if *key.algorithm() == PKCS_ED25519 { Ok(Self(key)) } else { Err(AuthorityError::Request) }
    }
}

/// A private CA with its key.
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A CA cannot be made, read, or asked to sign that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The system gave no randomness, or signing failed.
    #[error("a certificate could not be made: {0}")]
    Signing(#[from] rcgen::Error),
    /// The signing request is malformed, not signed with its own key, or not for an Ed25519 key.
    #[error("the signing request cannot be used")]
    Request,
    /// A user's name is empty, longer than 64 bytes, or has control characters.
    #[error("a user's name has 1 to {USER_NAME_BYTES} bytes and no control characters")]
    UserName,
    /// The stored CA cannot be read.
    #[error("the stored CA cannot be read")]
    Stored(#[from] BadPem),
    /// The stored CA's key and certificate do not belong together.
    #[error("the stored CA's key does not belong to its certificate")]
    Mismatch,
}

impl CertificateAuthority {
    /// A new CA, valid as [`Validity::long_from`] now.
    ///
    /// # Errors
    /// [`AuthorityError::Signing`] when the system gives no randomness.
    pub fn create() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = params("sortie cluster", Validity::long_from(SystemTime::now()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial(&key.subject_public_key_info()));
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Certificate and private key in one PEM text: a secret, for a file that only its owner reads.
    pub fn to_pem(&self) -> String {
        let key = self.issuer.key().serialize_der();
        pem::write(&[("CERTIFICATE", &self.certificate), ("PRIVATE KEY", &key)])
    }

    /// Reads what [`Self::to_pem`] wrote.
    ///
    /// # Errors
    /// [`AuthorityError`] when it is something else.
    pub fn from_pem(text: &str) -> Result<Self, AuthorityError> {
        let (certificates, key) = pem::read(text)?;
        let certificate = certificates.into_iter().next().ok_or(BadPem::NoCertificate)?;
        let key = KeyPair::try_from(&key).map_err(|_| BadPem::Key)?;
        if crate::identity::key_of(&certificate) != Some(key.subject_public_key_info()) {
            return Err(AuthorityError::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate, issuer })
    }

    /// The CA's certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the CA's certificate: what a join token carries.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    /// A node's certificate (DER): valid as server and client, for its own id and as `any node`.
    ///
    /// # Errors
    /// [`AuthorityError::Signing`] when signing fails.
    pub fn issue_node(
        &self,
        key: &PublicKey,
        name: &NodeName,
        validity: Validity,
    ) -> Result<Vec<u8>, AuthorityError> {
        let hosts = vec![node_host(key.node_id()), ANY_NODE.to_owned()];
        let uses = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(key, params_of_leaf(name.as_str(), validity, hosts, &uses)?)
    }

    /// A user's certificate (DER): valid as client only.
    ///
    /// # Errors
    /// [`AuthorityError::UserName`] for a name that fits no certificate.
    pub fn issue_user(
        &self,
        key: &PublicKey,
        user: &str,
        validity: Validity,
    ) -> Result<Vec<u8>, AuthorityError> {
        let fits = (1..=USER_NAME_BYTES).contains(&user.len());
        if !fits || user.chars().any(char::is_control) {
            return Err(AuthorityError::UserName);
        }
        let hosts = vec![ANY_USER.to_owned()];
        let uses = [ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(key, params_of_leaf(user, validity, hosts, &uses)?)
    }

    /// A node's identity with that key: [`Self::issue_node`] for ourselves, valid for long.
    ///
    /// # Errors
    /// [`AuthorityError::Signing`] when signing fails.
    pub fn identify_node(
        &self,
        key: &NodeKey,
        name: &NodeName,
    ) -> Result<Identity, AuthorityError> {
        let validity = Validity::long_from(SystemTime::now());
        let leaf = self.issue_node(&key.public_key()?, name, validity)?;
        self.identity(leaf, key)
    }

    /// A user's identity with that key: [`Self::issue_user`] for ourselves, valid for long.
    ///
    /// # Errors
    /// [`AuthorityError::UserName`] for a name that fits no certificate.
    pub fn identify_user(&self, key: &NodeKey, user: &str) -> Result<Identity, AuthorityError> {
        let validity = Validity::long_from(SystemTime::now());
        let leaf = self.issue_user(&key.public_key()?, user, validity)?;
        self.identity(leaf, key)
    }

    fn identity(&self, leaf: Vec<u8>, key: &NodeKey) -> Result<Identity, AuthorityError> {
        Identity::new(leaf, self.certificate.to_vec(), key).map_err(|_| AuthorityError::Request)
    }

    fn issue(
        &self,
        key: &PublicKey,
        mut params: CertificateParams,
    ) -> Result<Vec<u8>, AuthorityError> {
        params.serial_number = Some(serial(&key.0.subject_public_key_info()));
        Ok(params.signed_by(&key.0, &self.issuer)?.der().to_vec())
    }
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

fn params(name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::from(validity.from);
    params.not_after = OffsetDateTime::from(validity.until);
    params
}

fn params_of_leaf(
    name: &str,
    validity: Validity,
    hosts: Vec<String>,
    uses: &[ExtendedKeyUsagePurpose],
) -> Result<CertificateParams, AuthorityError> {
    let mut leaf = params(name, validity);
    leaf.subject_alt_names = CertificateParams::new(hosts)?.subject_alt_names;
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = uses.to_vec();
    leaf.use_authority_key_identifier_extension = true;
    Ok(leaf)
}

/// A number that differs for each certificate: it hashes the key and the moment.
fn serial(key: &[u8]) -> SerialNumber {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let digest = Sha256::new().chain_update(key).chain_update(now.as_nanos().to_be_bytes());
    let mut number: [u8; 32] = digest.finalize().into();
    // A serial number is positive and has at most 20 bytes.
    number[0] = number[0] & 0x7f | 0x40;
    SerialNumber::from_slice(number.first_chunk::<16>().unwrap_or(&[1; 16]))
}
