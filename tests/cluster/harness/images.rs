//! Images in a real registry. In: the registry, names, architectures. Out: images of one platform and indexes over several, and the pull secret for them.

use anyhow::Result;
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    manifest::OciImageIndex,
    secrets::RegistryAuth,
};
use serde_json::{Value, json};

use super::stores::{REGISTRY_USER, Store};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes as the one user that the registry knows.
pub struct Pusher {
    client: Client,
    auth: RegistryAuth,
    registry: String,
}

/// An image for one platform.
#[derive(Clone, Debug)]
pub struct Pushed {
    pub architecture: &'static str,
    pub digest: String,
    bytes: usize,
}

impl Pusher {
    pub fn new(registry: &Store) -> Self {
        // Whoever is first in this process chooses; a test that runs alone is.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
        let (user, password) = REGISTRY_USER;
        Self { client, auth: RegistryAuth::Basic(user.to_owned(), password.to_owned()), registry: registry.address() }
    }

    /// `name` (`team/app:1`) as pods write it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.registry)
    }

    /// Pushes an image for Linux on one architecture.
    pub async fn push(&self, name: &str, architecture: &'static str) -> Result<Pushed> {
        let reference: Reference = self.image(name).parse()?;
        let config = json!({ "os": "linux", "architecture": architecture, "config": {}, "rootfs": { "type": "layers", "diff_ids": [] } });
        let config = Config::oci_v1(config.to_string().into_bytes(), None);
        let layer = ImageLayer::oci_v1(architecture.as_bytes().to_vec(), None);
        self.client.push(&reference, &[layer], config, &self.auth, None).await?;
        let (manifest, digest) = self.client.pull_manifest_raw(&reference, &self.auth, &[MANIFEST]).await?;
        Ok(Pushed { architecture, digest, bytes: manifest.len() })
    }

    /// Pushes an index over images of the same repository.
    pub async fn push_index(&self, name: &str, images: &[Pushed]) -> Result<()> {
        let entry = |Pushed { architecture, digest, bytes }: &Pushed| json!({ "mediaType": MANIFEST, "digest": digest, "size": bytes, "platform": { "os": "linux", "architecture": architecture } });
        let index: OciImageIndex = serde_json::from_value(json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": images.iter().map(entry).collect::<Vec<_>>(),
        }))?;
        self.client.push_manifest_list(&self.image(name).parse()?, &self.auth, index).await?;
        Ok(())
    }

    /// What `.dockerconfigjson` of a pull secret says.
    pub fn docker_config(&self) -> Value {
        let (user, password) = REGISTRY_USER;
        json!({ "auths": { (self.registry.clone()): { "username": user, "password": password } } })
    }
}
