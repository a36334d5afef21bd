//! One look at a registry. In: a reference and credentials. Out: the platforms of its index, or that of its one image.

use std::time::Duration;

use futures::TryStreamExt as _;
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    manifest::{OciDescriptor, OciManifest},
    secrets::RegistryAuth,
};
use serde_json::Value;

use crate::{kubernetes::api::with_causes, model::fnv::fnv1a};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A configuration of an image is some kilobytes.
const CONFIG_BYTES_MAX: usize = 4 << 20;

/// Asks registries.
pub(super) struct LookUp {
    insecure_registries: Vec<String>,
}

/// Reads the name of an image as container runtimes do: `nginx` is `docker.io/library/nginx:latest`.
pub(super) fn parse(image: &str) -> Result<Reference, Box<str>> {
    image.parse().map_err(|error| format!("it is no name of an image: {error}").into())
}

/// Tells credentials apart without keeping them.
pub(super) fn fingerprint(auth: &RegistryAuth) -> u64 {
    match auth {
        RegistryAuth::Anonymous => 0,
        RegistryAuth::Basic(user, password) => fnv1a(1, user.bytes().chain([0]).chain(password.bytes())),
        RegistryAuth::Bearer(token) => fnv1a(2, token.bytes()),
    }
}

impl LookUp {
    pub(super) fn new(insecure_registries: &[String]) -> Self {
        // The process's provider of cryptography; already set is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { insecure_registries: insecure_registries.to_vec() }
    }

    /// As `linux/arm64`, sorted.
    pub(super) async fn platforms(&self, image: &Reference, auth: &RegistryAuth) -> Result<Vec<Box<str>>, Box<str>> {
        // A client remembers the tokens that it got, so each look-up has its own: one pod's rights are not another's.
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::HttpsExcept(self.insecure_registries.clone()),
            connect_timeout: Some(CONNECT_TIMEOUT),
            ..ClientConfig::default()
        });
        let (manifest, _) = client.pull_manifest(image, auth).await.map_err(|error| why(image, &error))?;
        let mut platforms: Vec<Box<str>> = match manifest {
            OciManifest::Image(manifest) => vec![of_config(&client, image, &manifest.config).await?],
            OciManifest::ImageIndex(index) => {
                let all = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
                // Signatures and provenance stand in an index as platform unknown/unknown.
                all.map(|platform| (platform.os.to_string(), platform.architecture.to_string()))
                    .filter(|(os, _)| os != "unknown")
                    .map(|(os, architecture)| format!("{os}/{architecture}").into())
                    .collect()
            }
        };
        platforms.sort();
        platforms.dedup();
        if platforms.is_empty() { Err("its index names no platform".into()) } else { Ok(platforms) }
    }
}

/// The one platform of an image without an index stands in its configuration.
async fn of_config(client: &Client, image: &Reference, config: &OciDescriptor) -> Result<Box<str>, Box<str>> {
    let mut blob = client.pull_blob_stream(image, config).await.map_err(|error| why(image, &error))?;
    let mut text = Vec::new();
    while let Some(chunk) = blob.try_next().await.map_err(|error| format!("its configuration cannot be read: {error}"))? {
        text.extend_from_slice(&chunk);
        if text.len() > CONFIG_BYTES_MAX {
            return Err(format!("its configuration is larger than {CONFIG_BYTES_MAX} bytes").into());
        }
    }
    let config: Value = serde_json::from_slice(&text).map_err(|error| format!("its configuration is no JSON: {error}"))?;
    match (config["os"].as_str(), config["architecture"].as_str()) {
        (Some(os), Some(architecture)) => Ok(format!("{os}/{architecture}").into()),
        _ => Err("its configuration names no platform".into()),
    }
}

/// What went wrong, and what to do.
fn why(image: &Reference, error: &OciDistributionError) -> Box<str> {
    let registry = image.resolve_registry();
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            format!("{registry} refuses the pull secrets of the pod, or wants some: {error}").into()
        }
        OciDistributionError::RequestError(error) => {
            let why = with_causes(error);
            format!("{registry} cannot be asked: {why}; one without TLS has to be listed in federation.images.insecureRegistries").into()
        }
        error => format!("{registry} says: {}", with_causes(error)).into(),
    }
}
