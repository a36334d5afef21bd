//! The room of tasks in the demo. In: a scheduler at work, and arrivals. Out: the room that `isobar run` starts, on the demo's clusters, with the archive of
//! their logs.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    config::defaults,
    demo::run::DemoError,
    kubernetes::{
        api::Api,
        tasks::{self, Arriving, Receivers, ReportOptions, TasksContext},
    },
    metrics::ApiMetrics,
    sim::federation::{Replica, SimFederation},
    tasks::rules::Rules,
};

/// Sources of data that the examples name.
pub const SOURCES: [&str; 2] = ["radar-in", "products"];

/// The room at work.
pub struct Room(JoinHandle<()>);

impl Room {
    /// Starts it beside a scheduler, whose leadership is its own.
    pub fn start(federation: &SimFederation, replica: &Replica, arrivals: mpsc::Receiver<Arriving>, seed: u64) -> Result<Self, DemoError> {
        let metrics = replica.metrics.clone();
        let receivers = Receivers::new(&ReportOptions::default()).map_err(|why| DemoError::Config(why.to_string()))?;
        let context = TasksContext {
            home: Api::new(federation.home().client(), "home.sim:443", ApiMetrics::new(&metrics)),
            leadership: replica.live.leadership.clone(),
            clock: federation.clock(),
            rules: Rules {
                sources: SOURCES.map(str::to_owned).to_vec(),
                profile: defaults::OWN_SCHEDULER_NAME.to_owned(),
                ..Rules::default()
            },
            arrivals,
            receivers,
            logs: Some(Arc::new(federation.logs().clone())),
            metrics,
            hostname: "isobar-demo".to_owned(),
            seed,
        };
        Ok(Self(tokio::spawn(tasks::run(context))))
    }

    /// Ends it. Nothing is lost: the next leader reads from the objects where each run stands.
    pub fn end(self) {
        self.0.abort();
    }
}
