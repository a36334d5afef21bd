//! `isobar task logs`. In: a run. Out: the log of one of its attempts, from its pod while there is one, and then from the archive.

use std::{io::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::server::Server;

/// How long the head of a log may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks for a pod that is to be followed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The run
    run: String,
    /// Go on while it runs
    #[arg(short, long)]
    follow: bool,
    /// Only this container. Default: all, one after another
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Number of the attempt. Default: the last one
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<u64>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
}

impl LogsArgs {
    pub(super) async fn act(self, server: &Server) -> anyhow::Result<()> {
        let mut run = server.run(&self.run).await?;
        while self.follow && self.attempt(&run).is_none_or(|attempt| attempt["started"].is_null() && attempt["ended"].is_null()) {
            if run["status"]["outcome"].is_string() {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            run = server.run(&self.run).await?;
        }
        let Some(attempt) = self.attempt(&run) else {
            bail!("run {} has no such attempt: it is {} ({})", self.run, text(&run, "/status/phase"), text(&run, "/status/message"));
        };
        let containers = match &self.container {
            Some(container) => vec![container.clone()],
            None => containers(&run),
        };
        let pod = format!("/api/v1/namespaces/{}/pods/{}", server.namespace, text(attempt, "/podName"));
        let found = server.rest.get(&pod).await?.filter(|found| text(found, "/metadata/uid") == text(attempt, "/podUID"));
        for container in containers {
            match &found {
                Some(_) => self.print_of_pod(server, &pod, &container).await?,
                None => self.print_archived(attempt, &container)?,
            }
        }
        Ok(())
    }

    fn attempt<'a>(&self, run: &'a Value) -> Option<&'a Value> {
        let attempts = run["status"]["attempts"].as_array()?;
        match self.attempt {
            None => attempts.last(),
            Some(number) => attempts.iter().find(|attempt| attempt["number"] == number),
        }
    }

    async fn print_of_pod(&self, server: &Server, pod: &str, container: &str) -> anyhow::Result<()> {
        let path = format!("{pod}/log?container={container}&follow={}&timestamps={}", self.follow, self.timestamps);
        let mut body = match server.rest.api().open(path, OPEN_TIMEOUT).await? {
            Ok(body) => body,
            Err(answer) => bail!("container {container}: {}", answer.failure()),
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the log broke off")?;
            if let Some(data) = frame.data_ref() {
                std::io::stdout().write_all(data)?;
                std::io::stdout().flush()?;
            }
        }
        Ok(())
    }

    /// Each line of an archived log begins with its time.
    fn print_archived(&self, attempt: &Value, container: &str) -> anyhow::Result<()> {
        let uri = text(attempt, "/logs/uri");
        if uri.is_empty() {
            let why = text(attempt, "/logs/message");
            bail!("the pod is gone, and no log of it is kept{}{why}", if why.is_empty() { "" } else { ": " });
        }
        let Some(folder) = uri.strip_prefix("file://") else {
            bail!("the pod is gone; its logs are in the archive at {uri}/{container}.log");
        };
        let file = PathBuf::from(folder).join(format!("{container}.log"));
        let log = std::fs::read_to_string(&file).with_context(|| {
            format!("the pod is gone; its log is in the archive at {uri}/{container}.log, which cannot be read from here")
        })?;
        let mut out = std::io::stdout().lock();
        for line in log.split_inclusive('\n') {
            let line = if self.timestamps { line } else { line.split_once(' ').map_or(line, |(_, rest)| rest) };
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn containers(run: &Value) -> Vec<String> {
    let spec = &run["spec"]["frozen"]["template"]["spec"];
    let lists = ["initContainers", "containers"].into_iter().filter_map(|list| spec[list].as_array());
    lists.flatten().map(|container| text(container, "/name").to_owned()).collect()
}
