//! TLS: certificate authorities that exist for one test, and servers with certificates of theirs.

use std::{path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

/// An authority, and the names that its servers go by.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
    names: Vec<String>,
    expired: bool,
    itself: bool,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Authority {
    /// One that nobody trusts yet; its servers are `names`.
    pub fn new(names: &[&str]) -> Self {
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Self::with_names(&[]) }
    }

    fn with_names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        Self { issuer: Arc::new(issuer), names, expired: false, itself: false }
    }

    /// Writes its certificate, for `ca`.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.issuer.pem()).expect("write a certificate");
    }

    /// Writes a client's certificate and key.
    pub fn write_client(&self, certificate: &Path, key: &Path) {
        let (pem, private) = self.issue(&["a client".to_owned()], ExtendedKeyUsagePurpose::ClientAuth);
        std::fs::write(certificate, pem).expect("write a certificate");
        std::fs::write(key, private).expect("write a key");
    }

    /// The same authority, for servers whose certificates ended long ago.
    pub fn expired(&self) -> Self {
        Self { expired: true, ..self.clone() }
    }

    /// The same authority, for servers of other names.
    pub fn named(&self, names: &[&str]) -> Self {
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), ..self.clone() }
    }

    /// No authority at all: its one server shows the certificate that `write` writes.
    pub fn self_signed(names: &[&str]) -> Self {
        Self { itself: true, ..Self::with_names(names) }
    }

    fn issue(&self, names: &[String], usage: ExtendedKeyUsagePurpose) -> (String, String) {
        if self.itself && usage == ExtendedKeyUsagePurpose::ServerAuth {
            return (self.issuer.pem(), self.issuer.key().serialize_pem());
        }
        let names: Vec<String> = names.iter().filter(|name| !name.contains(' ')).cloned().collect();
        let mut params = CertificateParams::new(names).expect("names");
        if self.expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        params.extended_key_usages.push(usage);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server with a certificate of `authority`, which may want one of `clients` from whoever comes.
pub(super) fn acceptor(authority: &Authority, clients: Option<&Authority>) -> TlsAcceptor {
    let (pem, key) = authority.issue(&authority.names, ExtendedKeyUsagePurpose::ServerAuth);
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.issuer.der().clone()).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let mut config = builder.with_single_cert(chain, key).expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
