//! Platforms of images from a real registry that wants a password: an index, an image for one platform, and one that nobody pushed.

use anyhow::{Result, ensure};
use isobar::{
    kubernetes::images::{Credentials, Resolver, ResolverOptions},
    metrics::Metrics,
    model::image::Platforms,
};

use crate::harness::{
    assets::{Program, available},
    images::Pusher,
    stores::Store,
};

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
    let pusher = Pusher::new(&store);
    let credentials = Credentials::from_docker_config(pusher.docker_config().to_string().as_bytes())?;
    let amd64 = pusher.push("team/app:amd64", "amd64").await?;
    let arm64 = pusher.push("team/app:arm64", "arm64").await?;
    pusher.push_index("team/app:1", &[amd64, arm64.clone()]).await?;

    let ask = async |image: &str, credentials: &Credentials| resolver.platforms(&format!("{registry}/{image}"), credentials).await;
    ensure!(ask("team/app:1", &credentials).await == known(&["linux/amd64", "linux/arm64"]));
    ensure!(ask("team/app:amd64", &credentials).await == known(&["linux/amd64"]));
    ensure!(ask(&format!("team/app@{}", arm64.digest), &credentials).await == known(&["linux/arm64"]));
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
