//! How many runs a second when each call takes as long as across a continent.

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::sim::faults::{Fault, Target};

const PODS: usize = 800;
const ROUND_TRIP: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn five_hundred_runs_a_second_at_fifty_milliseconds() {
    let mut world = World::new().await;
    let mut pods = Vec::new();
    for number in 0..PODS {
        pods.push(world.pod(&format!("p{number}"), "Always", json!({})).await);
    }
    world.cloud.faults().often(Target::ANY, Fault::Slow { low: ROUND_TRIP, high: ROUND_TRIP }, 1.0);
    let _worker = world.worker();
    sleep(Duration::from_secs(2)).await;
    let started = Instant::now();
    pods.iter().for_each(|pod| world.tell(pod.place()));
    let count = async |world: &World| world.cloud.server().objects("", "pods").len();
    while count(&world).await < PODS {
        sleep(Duration::from_millis(100)).await;
        assert!(started.elapsed() < Duration::from_secs(30), "{} runs after {:?}", count(&world).await, started.elapsed());
    }
    #[allow(clippy::cast_precision_loss)] // small numbers
    let per_second = PODS as f64 / started.elapsed().as_secs_f64();
    assert!(per_second >= 500.0, "{per_second:.0} runs a second");
}
