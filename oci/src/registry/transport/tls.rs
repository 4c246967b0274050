//! TLS: whom we trust at one host, and who we are there.
//!
//! The system's roots are read once per daemon; a host's own certificates are added to them for that host only.
//!
//! # Errors
//! A file that cannot be read or holds no certificate is an error at use, never a connection without it (rule 28).

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use crate::registry::{error::Error, host::Tls};

/// Largest file of certificates that is read.
const MAX_PEM: u64 = 4 << 20;

/// The system's roots.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a system certificate was left out");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

/// What a connection needs to know; reads files, so it blocks.
pub(crate) fn config(tls: &Tls, system: &RootCertStore) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3");
    let builder =
        builder.dangerous().with_custom_certificate_verifier(verifier(tls, system, provider.clone())?);
    let mut keys = Vec::new();
    for (certificate, key) in &tls.client {
        keys.push(Arc::new(identity(certificate, key, &provider)?));
    }
    let mut config = match keys.is_empty() {
        true => builder.with_no_client_auth(),
        false => builder.with_client_cert_resolver(Arc::new(Identities(keys))),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn verifier(
    tls: &Tls,
    system: &RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    if tls.skip_verify {
        return Ok(Arc::new(Verifier { trust: Trust::Anyone, provider }));
    }
    let mut roots = system.clone();
    let mut own = Vec::new();
    for path in &tls.ca {
        for certificate in certificates(path)? {
            roots
                .add(certificate.clone())
                .map_err(|error| invalid(path, format!("a certificate in it cannot be used: {error}")))?;
            own.push(certificate);
        }
    }
    let trust = match roots.is_empty() {
        // Said by the handshake, where it is known who was not trusted.
        true => Trust::Nobody,
        false => {
            let rules = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            Trust::Issued { rules: rules.build().expect("there are roots"), own }
        }
    };
    Ok(Arc::new(Verifier { trust, provider }))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(path, format!("it is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(invalid(path, "there is no certificate in it".to_owned()));
    }
    Ok(found)
}

fn identity(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| invalid(key, format!("there is no private key in it: {error}")))?;
    CertifiedKey::from_der(chain, private, provider)
        .map_err(|error| invalid(key, format!("it is no key for {}: {error}", certificate.display())))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let fail = |source| Error::ReadSettings { path: path.to_owned(), source: Arc::new(source) };
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > MAX_PEM {
        return Err(invalid(path, format!("{size} bytes, at most {MAX_PEM} are read")));
    }
    std::fs::read(path).map_err(fail)
}

fn invalid(path: &Path, reason: String) -> Error {
    let remedy = Some("give a PEM file with certificates, or a key".to_owned());
    Error::Settings { path: path.to_owned(), line: None, column: None, reason, remedy }
}

/// Whose certificates are believed.
#[derive(Debug)]
enum Trust {
    /// `skip_verify`: any certificate under any name; the other side must still hold its key.
    Anyone,
    /// There are no roots.
    Nobody,
    /// The usual rules, and one more: a server may show the very certificate that was given as `ca`.
    ///
    /// Self-signed certificates are used so all over the world; by the letter they are authorities and no servers.
    Issued { rules: Arc<WebPkiServerVerifier>, own: Vec<CertificateDer<'static>> },
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let (rules, own) = match &self.trust {
            Trust::Anyone => return Ok(ServerCertVerified::assertion()),
            Trust::Nobody => {
                return Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
            }
            Trust::Issued { rules, own } => (rules, own),
        };
        match rules.verify_server_cert(shown, chain, name, ocsp, now) {
            Err(TlsError::InvalidCertificate(
                CertificateError::Other(_) | CertificateError::UnknownIssuer,
            )) if own.iter().any(|own| own == shown) => {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Our certificates, in the order of the settings: the first whose key the server can check.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}
