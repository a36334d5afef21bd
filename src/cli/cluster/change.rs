//! `isobar cluster drain` and `remove`. In: a name and how. Out: the object changed or deleted, and, if asked for, the end waited for.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Home, Waiting, explained, span};
use crate::kubernetes::cluster::{object, status::kind};

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// The cluster
    name: String,
    /// Evict pods, disruption budgets respected, instead of waiting for their end
    #[arg(long)]
    evict: bool,
    /// Delete what is left after this long
    #[arg(long, value_name = "DURATION", value_parser = span)]
    deadline: Option<Duration>,
    #[command(flatten)]
    waiting: Waiting,
}

impl DrainArgs {
    pub(super) async fn act(self, home: &Home) -> anyhow::Result<()> {
        let mode = if self.evict { "Evict" } else { "Wait" };
        let deadline = self.deadline.map(|span| format!("{}ms", span.as_millis())).unwrap_or_default();
        let patch = json!({"spec": {"state": "Draining", "drain": {"mode": mode, "deadline": deadline}}});
        home.change(&self.name, &patch, "draining").await?;
        // What it says of an earlier state does not count.
        let is_done = |found: Option<&object::ClusterObject>| found.is_none_or(|object| object.status.is(kind::DRAINED));
        home.wait(&self.name, self.waiting, is_done, kind::DRAINED).await
    }
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The cluster
    name: String,
    /// Even if it cannot be reached: its pods fail at home, and what is left over there is wiped when it is added again
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    waiting: Waiting,
}

impl RemoveArgs {
    pub(super) async fn act(self, home: &Home) -> anyhow::Result<()> {
        let found = home.cluster(&self.name).await?;
        if self.force {
            home.change(&self.name, &json!({"spec": {"force": true}}), "goes even if it does not answer").await?;
        }
        home.0.delete(&object::path(&self.name), Some(&found.uid), None).await.map_err(explained)?;
        println!("{}: being drained, wiped and removed", self.name);
        let gone = |now: Option<&object::ClusterObject>| now.is_none_or(|object| object.uid != found.uid);
        home.wait(&self.name, self.waiting, gone, kind::WIPED).await
    }
}
