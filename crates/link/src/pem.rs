//! PEM texts: certificates and one private key in one file, so that a rename replaces both at once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A text that is not the PEM that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPem {
    /// It has no certificate, or a damaged one.
    #[error("it has no readable certificate")]
    NoCertificate,
    /// It has no private key, a damaged one, or one of another kind.
    #[error("it has no readable private key")]
    Key,
}

/// Writes blocks one after the other.
pub(crate) fn write(blocks: &[(&str, &[u8])]) -> String {
    let mut text = String::new();
    for (label, der) in blocks {
        text.push_str(&format!("-----BEGIN {label}-----\n"));
        let body = STANDARD.encode(der);
        for (place, letter) in body.chars().enumerate() {
            if place > 0 && place % 64 == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        text.push_str(&format!("\n-----END {label}-----\n"));
    }
    text
}

/// Reads all certificates, in order, and the first private key.
pub(crate) fn read(
    text: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>), BadPem> {
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| BadPem::NoCertificate)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| BadPem::Key)?;
    Ok((certificates, key))
}
