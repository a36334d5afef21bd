//! A certificate authority for one control plane. In: names. Out: PEM files for the API server and client certificates for users.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

/// A client's identity: certificate and key, PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        fs::write(folder.join(format!("{name}.crt")), &self.certificate)?;
        fs::write(folder.join(format!("{name}.key")), &self.key)?;
        Ok(())
    }
}

/// As whom the API server calls kubelets.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "isobar-testbed");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("sign the authority")?;
        Ok(Self { issuer })
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A client certificate: user name = common name, groups = organisations, as kube-apiserver reads them.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    /// A server's certificate for these addresses and names.
    pub fn server(&self, name: &str, names: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(&params)
    }

    /// Writes `ca.crt`, `ca.key`, `apiserver.crt`, `apiserver.key`, the pair by which kubelets know the API server, and the service-account key pair
    /// into `folder`.
    pub fn write_server_files(&self, folder: &Path) -> Result<()> {
        let server = self.server("kube-apiserver", &["127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc"])?;
        fs::write(folder.join("ca.crt"), self.pem())?;
        fs::write(folder.join("ca.key"), self.issuer.key().serialize_pem())?;
        self.client(KUBELET_CLIENT, &[])?.write(folder, "kubelet-client")?;
        server.write(folder, "apiserver")?;
        let service_accounts = KeyPair::generate()?;
        fs::write(folder.join("service-accounts.key"), service_accounts.serialize_pem())?;
        // kube-apiserver takes no PKCS#8 private key where it verifies.
        fs::write(folder.join("service-accounts.pub"), service_accounts.public_key_pem())?;
        Ok(())
    }

    fn sign(&self, params: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer).context("sign a certificate")?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
