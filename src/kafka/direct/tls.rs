//! TLS by rustls, from librdkafka's names of the settings.

use crate::error::{Error, Result};
use crate::kafka::config::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// How connections are made secure.
#[derive(Clone)]
pub struct Tls(Arc<rustls::ClientConfig>);

impl Tls {
    /// Reads the files that the settings name.
    pub fn new(config: &ClientConfig) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::bug(e.to_string()))?;
        let is = |key: &str, value: &str| config.get(key) == Some(value);
        let builder = if is("enable.ssl.certificate.verification", "false") {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Careless {
                    provider,
                    roots: None,
                }))
        } else if is("ssl.endpoint.identification.algorithm", "none") {
            let roots = Some(Arc::new(roots(config)?));
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Careless { provider, roots }))
        } else {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots(config)?), provider)
                    .build()
                    .map_err(|e| wrong("ssl.ca.location", &e.to_string()))?;
            builder.with_webpki_verifier(verifier)
        };
        let tls = match client_certificate(config)? {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| wrong("ssl.certificate.location", &e.to_string()))?,
        };
        Ok(Self(Arc::new(tls)))
    }

    pub fn connect(&self, host: &str) -> std::io::Result<ClientConnection> {
        let name = ServerName::try_from(host.to_string()).map_err(std::io::Error::other)?;
        ClientConnection::new(self.0.clone(), name).map_err(std::io::Error::other)
    }
}

fn wrong(key: &str, reason: &str) -> Error {
    Error::env(format!("client property '{key}': {reason}"))
}

/// The PEM text of a setting that holds it, or of the file that another one names.
fn pem(config: &ClientConfig, text: &str, file: &str) -> Result<Option<Vec<u8>>> {
    if let Some(pem) = config.get(text) {
        return Ok(Some(pem.as_bytes().to_vec()));
    }
    let Some(path) = config.get(file) else {
        return Ok(None);
    };
    std::fs::read(path)
        .map(Some)
        .map_err(|e| wrong(file, &format!("cannot read {path}: {e}")))
}

fn roots(config: &ClientConfig) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = pem(config, "ssl.ca.pem", "ssl.ca.location")? else {
        // Some of a system's certificates are always odd; what counts is that there are any.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        return match roots.is_empty() {
            false => Ok(roots),
            true => Err(Error::env("this system has no TLS root certificates")
                .with_hint("install ca-certificates, or set properties.ssl.ca.location")),
        };
    };
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| wrong("ssl.ca.location", &format!("is no PEM file: {e}")))?;
    roots.add_parsable_certificates(certificates);
    match roots.is_empty() {
        false => Ok(roots),
        true => Err(wrong("ssl.ca.location", "holds no certificate")),
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_certificate(config: &ClientConfig) -> Result<Option<Identity>> {
    let chain = pem(config, "ssl.certificate.pem", "ssl.certificate.location")?;
    let key = pem(config, "ssl.key.pem", "ssl.key.location")?;
    let (Some(chain), Some(key)) = (chain, key) else {
        return Ok(None);
    };
    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| wrong("ssl.certificate.location", &format!("is no PEM file: {e}")))?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|e| wrong("ssl.key.location", &format!("holds no private key: {e}")))?;
    Ok(Some((chain, key)))
}

/// Trusts more than it should, because the settings say so.
#[derive(Debug)]
struct Careless {
    provider: Arc<CryptoProvider>,
    /// The chain must end here, whatever the certificate's name; without, anything goes.
    roots: Option<Arc<RootCertStore>>,
}

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(certificate)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
