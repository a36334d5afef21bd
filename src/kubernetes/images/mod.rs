//! Platforms of images, from their registries. In: images of a pod that the engine wants to place, the pod's pull secrets at home. Out: for each image,
//! within seconds, which platforms it has, or that it could not be found out and why.
//!
//! An image that is named by digest never changes; one named by tag is looked up again after a while. Only manifests and configurations are read, no layers.

mod registry;
mod secrets;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indexmap::IndexMap;
use oci_client::{Reference, secrets::RegistryAuth};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, timeout},
};

pub use self::secrets::{Credentials, CredentialsError};
use self::{registry::LookUp, secrets::of_pod};
use crate::{
    kubernetes::api::Api,
    metrics::{ImageMetrics, Lookup, Metrics},
    model::image::Platforms,
    scheduler::input::{Input, PodRef},
};

/// Longest look-up of one image, waiting for its turn included.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);
/// Images looked up at once: registries count requests, and none of ours is urgent.
const LOOK_UPS_MAX: usize = 16;
/// Of these, how many one registry may hold: what waits for a slow one holds up no other.
const REGISTRY_LOOK_UPS_MAX: usize = LOOK_UPS_MAX / 4;
/// Pods whose images are asked for at once; the next wait in the channel. Most of them wait for a registry, which costs nothing.
const PODS_MAX: usize = 1024;
/// Of these, how many read their pull secrets at the same time.
const READERS_MAX: usize = 16;
/// Longest reading of a pod's pull secrets.
const SECRETS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a tag is believed to mean the same.
const TAG_STAY: Duration = Duration::from_secs(600);
/// How long a failure is remembered, so that a registry that is down is not asked for each pod.
const FAILURE_STAY: Duration = Duration::from_secs(30);
/// Images that are remembered: some hundred bytes each.
const REMEMBERED_MAX: usize = 10_000;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct ResolverOptions {
    /// Registries (`host:port`) that speak plain HTTP.
    pub insecure_registries: Vec<String>,
}

/// Finds out about platforms. Cheap to clone; all clones share what they know.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    look_up: LookUp,
    /// By image and credentials: what one may see, another may not.
    known: Mutex<Known>,
    permits: Semaphore,
    /// Turns at each registry that is being asked.
    registries: Mutex<BTreeMap<Box<str>, Arc<Semaphore>>>,
    readers: Semaphore,
    metrics: ImageMetrics,
    /// Where pull secrets are.
    home: Option<Api>,
}

/// Image and fingerprint of the credentials, to what is known.
type Known = IndexMap<(Box<str>, u64), Arc<Entry>>;

/// What is known of an image. Whoever looks it up holds it, so that others wait for the same answer.
type Entry = tokio::sync::Mutex<Option<Answer>>;

struct Answer {
    platforms: Platforms,
    until: Option<Instant>,
}

impl Resolver {
    /// Pull secrets are read from `home`; without it, images are looked up anonymously.
    pub fn new(options: &ResolverOptions, home: Option<Api>, metrics: &Metrics) -> Self {
        Self(Arc::new(Shared {
            look_up: LookUp::new(&options.insecure_registries),
            known: Mutex::default(),
            permits: Semaphore::new(LOOK_UPS_MAX),
            registries: Mutex::default(),
            readers: Semaphore::new(READERS_MAX),
            metrics: ImageMetrics::new(metrics),
            home,
        }))
    }

    /// The platforms of an image, in bounded time.
    pub async fn platforms(&self, image: &str, credentials: &Credentials) -> Platforms {
        let reference = match registry::parse(image) {
            Ok(reference) => reference,
            Err(why) => return Platforms::Unknown(why),
        };
        let silent = || Platforms::Unknown(format!("its registry gave no answer within {} s", LOOK_UP_TIMEOUT.as_secs()).into());
        let auth = credentials.of(&reference);
        let entry = self.entry(image, registry::fingerprint(&auth));
        // Whoever holds it looks the image up, and says so after that time at the latest.
        let Ok(mut entry) = timeout(LOOK_UP_TIMEOUT, entry.lock()).await else { return silent() };
        if let Some(answer) = &*entry
            && answer.until.is_none_or(|until| until > Instant::now())
        {
            self.0.metrics.lookup(Lookup::Cached);
            return answer.platforms.clone();
        }
        let begin = Instant::now();
        let (result, platforms) = match timeout(LOOK_UP_TIMEOUT, self.look_up(&reference, &auth)).await {
            Ok(Ok(platforms)) => (Lookup::Known, Platforms::Known(platforms)),
            Ok(Err(why)) => (Lookup::Unknown, Platforms::Unknown(why)),
            Err(_) => (Lookup::Timeout, silent()),
        };
        self.0.metrics.lookup(result);
        self.0.metrics.took(result, begin.elapsed());
        let stay = match &platforms {
            Platforms::Known(_) => reference.digest().is_none().then_some(TAG_STAY),
            _ => Some(FAILURE_STAY),
        };
        *entry = Some(Answer { platforms: platforms.clone(), until: stay.map(|stay| Instant::now() + stay) });
        platforms
    }

    async fn look_up(&self, image: &Reference, auth: &RegistryAuth) -> Result<Vec<Box<str>>, Box<str>> {
        let turns = self.turns(image.registry());
        // Neither is ever closed. The registry's own comes first, so that nobody waits for it with the other in hand.
        let _turn = turns.acquire().await;
        let _permit = self.0.permits.acquire().await;
        self.0.look_up.platforms(image, auth).await
    }

    fn turns(&self, registry: &str) -> Arc<Semaphore> {
        let mut registries = self.0.registries.lock().unwrap_or_else(PoisonError::into_inner);
        // Held by nobody else: the registry is not being asked.
        registries.retain(|_, turns| Arc::strong_count(turns) > 1);
        registries.entry(registry.into()).or_insert_with(|| Arc::new(Semaphore::new(REGISTRY_LOOK_UPS_MAX))).clone()
    }

    fn entry(&self, image: &str, fingerprint: u64) -> Arc<Entry> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            // About the oldest half: moving the rest is paid for rarely.
            known.drain(..REMEMBERED_MAX / 2);
        }
        known.entry((image.into(), fingerprint)).or_default().clone()
    }

    async fn answer(&self, pod: &PodRef, images: Vec<Box<str>>, engine: &mpsc::Sender<Input>) {
        let credentials = match &self.0.home {
            Some(home) => {
                let _turn = self.0.readers.acquire().await;
                timeout(SECRETS_TIMEOUT, of_pod(home, pod)).await.unwrap_or_else(|_| {
                    tracing::warn!(pod = %pod.key, "its pull secrets could not be read in time: its images are looked up without");
                    Credentials::default()
                })
            }
            None => Credentials::default(),
        };
        let look_ups = images.into_iter().map(|image| async {
            let platforms = self.platforms(&image, &credentials).await;
            if let Platforms::Unknown(why) = &platforms {
                tracing::warn!(pod = %pod.key, image = &*image, "the platforms of an image are unknown: {why}");
            }
            // The engine is gone when the program ends.
            let _ = engine.send(Input::ImagePlatforms(image, platforms)).await;
        });
        futures::future::join_all(look_ups).await;
    }
}

/// Answers the engine's questions until nobody asks any more.
pub async fn run(resolver: Resolver, mut requests: mpsc::Receiver<(PodRef, Vec<Box<str>>)>, engine: mpsc::Sender<Input>) {
    let mut pods = JoinSet::new();
    while let Some((pod, images)) = requests.recv().await {
        let (resolver, engine) = (resolver.clone(), engine.clone());
        pods.spawn(async move { resolver.answer(&pod, images, &engine).await });
        while pods.try_join_next().is_some() || pods.len() >= PODS_MAX {
            if pods.len() >= PODS_MAX {
                pods.join_next().await;
            }
        }
    }
    while pods.join_next().await.is_some() {}
}
