//! A client that lists, watches and resumes, over a server whose watches break. In: random writes, drops, compactions and failing lists, by seed. Out: in
//! the end the client knows exactly what the store holds.

use std::collections::BTreeMap;

use futures::StreamExt;
use isobar::sim::apiserver::ApiServerOptions;
use isobar::sim::faults::{Fault, Faults, Target};
use isobar::sim::{SimCluster, SimOptions};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

const SEEDS: u64 = 60;
const WRITES: usize = 120;
/// Writes while nobody can come back whose watch breaks, before all history is forgotten.
const BLACKOUT_WRITES: usize = 20;

/// A steady backoff: kube's own draws from a generator that cannot be seeded.
struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(700))
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

type Known = BTreeMap<String, String>;

/// Follows a watcher's events; a relist replaces everything only once it is complete.
struct Follower {
    known: Known,
    relisted: Known,
}

impl Follower {
    fn take(&mut self, event: watcher::Event<ConfigMap>) {
        let entry = |map: ConfigMap| (map.metadata.name.unwrap_or_default(), map.metadata.resource_version.unwrap_or_default());
        match event {
            watcher::Event::Apply(map) => self.known.extend([entry(map)]),
            watcher::Event::Delete(map) => drop(self.known.remove(&entry(map).0)),
            watcher::Event::Init => self.relisted.clear(),
            watcher::Event::InitApply(map) => self.relisted.extend([entry(map)]),
            watcher::Event::InitDone => self.known = std::mem::take(&mut self.relisted),
        }
    }
}

fn cluster(seed: u64) -> SimCluster {
    let faults = Faults::seeded(seed);
    faults
        .often(Target::verb("watch"), Fault::WatchDropped { after_frames: 3 }, 0.5)
        .often(Target::verb("watch"), Fault::WatchExpired, 0.1)
        .often(Target::verb("watch"), Fault::Refused, 0.1)
        .often(Target::verb("list"), Fault::ListExpired, 0.1)
        .often(Target::verb("list"), Fault::TooManyRequests { retry_after_seconds: 1 }, 0.1)
        .often(Target::verb("list"), Fault::Slow { low: Duration::from_millis(10), high: Duration::from_secs(3) }, 0.3)
        .often(Target::ANY, Fault::Unavailable, 0.05);
    let api_server = ApiServerOptions { seed, bookmark_interval: Duration::from_secs(5), history_max: 16, ..ApiServerOptions::default() };
    SimCluster::new(SimOptions { api_server, faults: Some(faults), ..SimOptions::default() })
}

/// Runs a watcher until its sender is gone.
fn follow(client: kube::Client, config: watcher::Config) -> mpsc::UnboundedReceiver<watcher::Event<ConfigMap>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    tokio::spawn(async move {
        let mut events = Box::pin(watcher(api, config).backoff(Steady));
        while let Some(event) = events.next().await {
            if let Ok(event) = event
                && sender.send(event).is_err()
            {
                return;
            }
        }
    });
    receiver
}

async fn write_at_random(cluster: &SimCluster, random: &mut Pcg64Mcg, writes: usize) {
    let api: Api<ConfigMap> = Api::namespaced(cluster.faultless_client(), "default");
    for _ in 0..writes {
        let name = format!("m{}", random.random_range(0..12));
        let labels = json!({"side": if random.random_bool(0.5) { "in" } else { "out" }});
        let outcome = match random.random_range(0..10) {
            0..4 => {
                let map = json!({"metadata": {"name": name, "labels": labels}});
                let map: ConfigMap = serde_json::from_value(map).expect("a config map");
                api.create(&PostParams::default(), &map).await.map(|_| ())
            }
            4..7 => api
                .patch(
                    &name,
                    &PatchParams::default(),
                    &Patch::Merge(json!({"metadata": {"labels": labels}, "data": {"n": random.random_range(0..99).to_string()}})),
                )
                .await
                .map(|_| ()),
            7..9 => api.delete(&name, &DeleteParams::default()).await.map(|_| ()),
            _ => {
                if random.random_bool(0.3) {
                    cluster.server().store().compact();
                }
                Ok(())
            }
        };
        if let Err(error) = outcome {
            assert!(matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409)), "{error}");
        }
        sleep(Duration::from_millis(random.random_range(0..900))).await;
    }
}

fn held(cluster: &SimCluster, selected: bool) -> Known {
    let maps = cluster.server().objects("", "configmaps").into_iter();
    let chosen = maps.filter(|map| !selected || map["metadata"]["labels"]["side"] == "in");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    chosen.map(|map| (text(&map["metadata"]["name"]), text(&map["metadata"]["resourceVersion"]))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_watcher_always_converges_to_the_store() {
    let mut struck = 0;
    for seed in 0..SEEDS {
        let cluster = cluster(seed);
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let listing = || watcher::Config::default().page_size(5);
        let configs = [
            (listing(), false),
            (listing().labels("side=in"), true),
            (watcher::Config::default().streaming_lists(), false),
            (watcher::Config::default().streaming_lists().labels("side=in"), true),
        ];
        let receivers = configs.map(|(config, selected)| (follow(cluster.client(), config), selected));
        write_at_random(&cluster, &mut random, WRITES).await;
        struck += cluster.faults().struck();
        cluster.faults().clear();
        cluster.faults().often(Target::verb("watch"), Fault::Refused, 1.0).often(Target::verb("list"), Fault::Refused, 1.0);
        write_at_random(&cluster, &mut random, BLACKOUT_WRITES).await;
        cluster.server().store().compact();
        cluster.faults().clear();
        // Longer than any delay, backoff and bookmark; a watch that was healthy stays open all the while.
        sleep(Duration::from_secs(120)).await;
        for (at, (mut receiver, selected)) in receivers.into_iter().enumerate() {
            let mut follower = Follower { known: Known::new(), relisted: Known::new() };
            while let Ok(event) = receiver.try_recv() {
                follower.take(event);
            }
            assert_eq!(follower.known, held(&cluster, selected), "seed {seed}, watcher {at}");
        }
    }
    assert!(struck > SEEDS * 5, "the faults hardly struck: {struck}");
}
