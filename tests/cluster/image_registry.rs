//! Platforms of images from a real registry that wants a password: an index, an image for one platform, and one that nobody pushed.

use anyhow::{Result, ensure};
use isobar::{
    kubernetes::images::{Credentials, Resolver, ResolverOptions},
    metrics::Metrics,
    model::image::Platforms,
};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol, Config, ImageLayer},
    manifest::OciImageIndex,
    secrets::RegistryAuth,
};
use serde_json::json;

use crate::harness::{
    assets::{Program, available},
    stores::{REGISTRY_USER, Store},
};

/// Pushes an image for one platform; its digest and size.
async fn push(client: &Client, reference: &Reference, auth: &RegistryAuth, architecture: &str) -> Result<(String, usize)> {
    let config = json!({ "os": "linux", "architecture": architecture, "config": {}, "rootfs": { "type": "layers", "diff_ids": [] } });
    let config = Config::oci_v1(config.to_string().into_bytes(), None);
    let layer = ImageLayer::oci_v1(architecture.as_bytes().to_vec(), None);
    client.push(reference, &[layer], config, auth, None).await?;
    let (manifest, digest) = client.pull_manifest_raw(reference, auth, &["application/vnd.oci.image.manifest.v1+json"]).await?;
    Ok((digest, manifest.len()))
}

fn known(platforms: &[&str]) -> Platforms {
    Platforms::Known(platforms.iter().map(|platform| Box::from(*platform)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn platforms_come_from_a_real_registry() -> Result<()> {
    if !available("platforms_come_from_a_real_registry", &[Program::Registry]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut store = Store::registry(folder.path()).await?;
    let registry = store.address();
    let resolver = Resolver::new(&ResolverOptions { insecure_registries: vec![registry.clone()] }, None, &Metrics::new());
    let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let (user, password) = REGISTRY_USER;
    let auth = RegistryAuth::Basic(user.to_owned(), password.to_owned());
    let secret = json!({ "auths": { (registry.clone()): { "username": user, "password": password } } });
    let credentials = Credentials::from_docker_config(secret.to_string().as_bytes())?;

    let (amd64, amd64_bytes) = push(&client, &format!("{registry}/team/app:amd64").parse()?, &auth, "amd64").await?;
    let (arm64, arm64_bytes) = push(&client, &format!("{registry}/team/app:arm64").parse()?, &auth, "arm64").await?;
    let entry = |digest: &str, bytes: usize, architecture: &str| {
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": bytes,
                "platform": { "os": "linux", "architecture": architecture } })
    };
    let index: OciImageIndex = serde_json::from_value(json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&amd64, amd64_bytes, "amd64"), entry(&arm64, arm64_bytes, "arm64")],
    }))?;
    client.push_manifest_list(&format!("{registry}/team/app:1").parse()?, &auth, index).await?;

    let ask = async |image: &str, credentials: &Credentials| resolver.platforms(&format!("{registry}/{image}"), credentials).await;
    ensure!(ask("team/app:1", &credentials).await == known(&["linux/amd64", "linux/arm64"]));
    ensure!(ask("team/app:amd64", &credentials).await == known(&["linux/amd64"]));
    ensure!(ask(&format!("team/app@{arm64}"), &credentials).await == known(&["linux/arm64"]));
    let nobody = ask("team/app:1", &Credentials::default()).await;
    ensure!(matches!(&nobody, Platforms::Unknown(why) if why.contains("pull secrets")), "{nobody:?}");
    let missing = ask("team/none:1", &credentials).await;
    ensure!(matches!(&missing, Platforms::Unknown(why) if why.contains(&registry)), "{missing:?}");

    store.process.kill()?;
    ensure!(ask("team/app:1", &credentials).await == known(&["linux/amd64", "linux/arm64"]), "what is known needs no registry");
    let down = ask("team/app:2", &credentials).await;
    ensure!(matches!(&down, Platforms::Unknown(why) if why.contains("cannot be asked")), "{down:?}");
    Ok(())
}
