//! What the machine of tasks costs with 10,000 live runs in one namespace. In: nothing. Out: memory, run starts decided a second, whole lives a second, size
//! of a status.
//!
//! ```text
//! cargo bench --bench tasks
//! ```
//! Its own API server answers every order at once; only what Isobar does is timed: reading what a watch brings, and deciding. `--test` does a small round.
#![allow(clippy::disallowed_methods)] // it measures real time
#![allow(clippy::cast_precision_loss)] // small numbers

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use isobar::{
    model::time::{DurationMs, Timestamp},
    tasks::{
        effect::{Command, Effect, Input, Listing, OrderId, Outcome, Subject},
        facts::{Key, Pod, Run, Task},
        freeze::{self, Owner},
        machine::Machine,
        rules::Rules,
        run::SavedLogs,
        spec::TaskSpec,
        trigger::Firing,
    },
};
use serde_json::{Value, json};

const START: Timestamp = Timestamp(1_795_867_230_000);
/// Virtual time between two looks of the machine, as its own pace has it.
const TICK: DurationMs = DurationMs(50);
/// Virtual time in which the last run has to be over.
const TICKS_MAX: usize = 100_000;

/// The machine and an API server that answers at once.
struct Bench {
    machine: Machine,
    now: Timestamp,
    rules: Rules,
    task: Value,
    runs: BTreeMap<String, Value>,
    pods: BTreeMap<String, Value>,
    version: u64,
    /// Time that reading and deciding took.
    spent: Duration,
    status_bytes_max: usize,
}

impl Bench {
    fn new(concurrency: &Value) -> Result<Self> {
        let rules = Rules {
            pods_per_second: 1_000_000,
            pods_burst: 1_000_000,
            unscheduled_max: 1_000_000,
            live_runs_max: 1_000_000,
            ..Rules::default()
        };
        let template = json!({"spec": {"containers": [{"name": "main", "image": "registry.example/decode:1", "args": ["$(cycle)"],
            "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}}}]}});
        let spec = json!({"limits": {"run": {"limit": "1h"}}, "concurrency": concurrency, "template": template});
        let task = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "Task", "spec": spec, "metadata": {"namespace": "ns", "name": "radar",
            "uid": "task", "resourceVersion": "1", "generation": 1, "creationTimestamp": START.to_rfc3339()}});
        let mut bench = Self {
            machine: Machine::new(rules.clone(), 1),
            now: START,
            rules,
            task,
            runs: BTreeMap::new(),
            pods: BTreeMap::new(),
            version: 1,
            spent: Duration::ZERO,
            status_bytes_max: 0,
        };
        bench.give(Input::Leading(true))?;
        let task = Task::read(&bench.task).context("a task")?;
        let tasks = std::iter::once(task.uid.clone()).collect();
        bench.give(Input::Task(Box::new(task)))?;
        bench.give(Input::Listed(Box::new(Listing { tasks, ..Listing::default() })))?;
        // Whatever an earlier leader did is over.
        bench.now = bench.now + DurationMs(60_000);
        bench.give(Input::Tick)?;
        Ok(bench)
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// A new run, as a trigger makes it.
    fn run(&mut self, name: &str) -> Result<Value> {
        let spec: TaskSpec = serde_json::from_value(self.task["spec"].clone())?;
        let firing = Firing { key: name.to_owned(), cycle: Some(START), ..Firing::default() };
        let owner = Owner { namespace: "ns", name: "radar", uid: "task", generation: 1 };
        let made = freeze::task_run(&owner, &spec, &firing, &self.rules, false, self.now);
        let mut run = made.map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
        let metadata = &mut run["metadata"];
        (metadata["name"], metadata["uid"]) = (name.into(), format!("uid-{name}").into());
        metadata["creationTimestamp"] = self.now.to_rfc3339().into();
        metadata["resourceVersion"] = self.next_version().into();
        Ok(run)
    }

    /// One fact, and everything that follows from it.
    fn give(&mut self, input: Input) -> Result<()> {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            let begin = Instant::now();
            self.machine.handle(self.now, input, &mut out);
            self.spent += begin.elapsed();
            for command in out {
                if let Command::Order(id, subject, effect) = command {
                    inputs.extend(self.answer(id, &subject, effect)?);
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, id: OrderId, subject: &Subject, effect: Effect) -> Result<Vec<Input>> {
        let mut news = Vec::new();
        let outcome = match (subject, effect) {
            (Subject::Task(_), Effect::WriteTask { status, .. }) => {
                self.task["status"] = json!(status);
                self.task["metadata"]["resourceVersion"] = self.next_version().into();
                Outcome::Task(Box::new(Task::read(&self.task).context("a task")?))
            }
            (Subject::Run(key), Effect::WriteRun { status, .. }) => {
                let version = self.next_version();
                let run = self.runs.get_mut(&*key.name).context("a run")?;
                run["status"] = json!(status);
                run["metadata"]["resourceVersion"] = version.into();
                self.status_bytes_max = self.status_bytes_max.max(run["status"].to_string().len());
                Outcome::Run(Box::new(run.clone()))
            }
            (Subject::Run(key), Effect::CreatePod { attempt }) => {
                let mut pod = freeze::pod(&self.runs[&*key.name], attempt).map_err(anyhow::Error::msg)?;
                let name = pod["metadata"]["name"].as_str().context("a name")?.to_owned();
                pod["metadata"]["uid"] = format!("pod-{name}").into();
                pod["metadata"]["creationTimestamp"] = self.now.to_rfc3339().into();
                pod["metadata"]["resourceVersion"] = self.next_version().into();
                let seen = Pod::read(&pod).context("a pod")?;
                self.pods.insert(name, pod);
                Outcome::Pod(Box::new(seen))
            }
            (_, Effect::SaveLogs { pod, .. }) => Outcome::Logs(Box::new(SavedLogs {
                uri: format!("file:///logs/{pod}"),
                complete: true,
                bytes: 100,
                ..SavedLogs::default()
            })),
            (_, Effect::DeletePod { pod, .. }) => {
                news.extend(self.change_pod(&pod, |pod, now| pod["metadata"]["deletionTimestamp"] = now.to_rfc3339().into())?);
                Outcome::Done
            }
            (_, Effect::ReleasePod { pod, uid }) => {
                self.pods.remove(&*pod);
                news.push(Input::PodGone(Key::new("ns", &pod), uid));
                Outcome::Done
            }
            (_, Effect::ReadPod(_)) => Outcome::Absent,
            (subject, effect) => anyhow::bail!("{} of {subject:?} is none of these", effect.name()),
        };
        // The last one is taken first: an answer comes before what a watch shows.
        news.push(Input::Done(id, outcome));
        Ok(news)
    }

    fn change_pod(&mut self, name: &str, change: impl FnOnce(&mut Value, Timestamp)) -> Result<Option<Input>> {
        let version = self.next_version();
        let Some(pod) = self.pods.get_mut(name) else { return Ok(None) };
        change(pod, self.now);
        pod["metadata"]["resourceVersion"] = version.into();
        let begin = Instant::now();
        let seen = Pod::read(pod).context("a pod")?;
        self.spent += begin.elapsed();
        Ok(Some(Input::Pod(Box::new(seen))))
    }

    /// What a watch shows of a run.
    fn see(&mut self, run: Value) -> Result<()> {
        let begin = Instant::now();
        let seen = Run::read(&run).context("a run")?;
        self.spent += begin.elapsed();
        let name = run["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.runs.insert(name, run);
        self.give(Input::Run(Box::new(seen)))
    }

    /// All pods become so.
    fn pods(&mut self, names: &[String], status: &Value) -> Result<()> {
        for name in names {
            let status = status.clone();
            let news = self.change_pod(name, |pod, _| {
                pod["spec"]["nodeName"] = "n1".into();
                pod["status"] = status;
            })?;
            if let Some(news) = news {
                self.give(news)?;
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        self.now = self.now + TICK;
        self.give(Input::Tick)
    }

    fn until(&mut self, what: &str, count: usize, phase: &str) -> Result<()> {
        for _ in 0..TICKS_MAX {
            if self.runs.values().filter(|run| run["status"]["phase"] == phase).count() >= count {
                return Ok(());
            }
            self.tick()?;
        }
        anyhow::bail!("{what}: not all came there")
    }
}

fn running() -> Value {
    json!({"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {"startedAt": START.to_rfc3339()}}}]})
}

fn ended() -> Value {
    json!({"phase": "Succeeded", "containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": 0, "reason": "Completed",
        "startedAt": START.to_rfc3339(), "finishedAt": START.to_rfc3339()}}}]})
}

/// Resident memory of this process.
fn resident_bytes() -> Result<usize> {
    let pages: usize = std::fs::read_to_string("/proc/self/statm")?.split(' ').nth(1).context("a number")?.parse()?;
    Ok(pages * 4096)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--memory").skip(1);
    if let Some(path) = arguments.next() {
        return memory(&path);
    }
    let (live, starts) = if std::env::args().any(|argument| argument == "--test") { (200, 50) } else { (10_000, 2_000) };
    // The second: all runs count together.
    let policies = [json!({"policy": "Allow"}), json!({"policy": "Queue", "max": 100_000})];
    for (at, concurrency) in policies.iter().enumerate() {
        let objects = running_objects(concurrency, live)?;
        if at == 0 {
            memory_apart(&objects)?;
        }
        speed(concurrency, &objects, starts)?;
    }
    Ok(())
}

/// Runs that have a running pod, and these pods, as an API server has them.
fn running_objects(concurrency: &Value, live: usize) -> Result<Vec<(String, String)>> {
    let mut bench = Bench::new(concurrency)?;
    for number in 0..live {
        let run = bench.run(&format!("live-{number:05}"))?;
        bench.see(run)?;
    }
    bench.tick()?;
    let pods: Vec<String> = bench.pods.keys().cloned().collect();
    bench.pods(&pods, &running())?;
    bench.until("live runs", live, "Running")?;
    let Bench { runs, pods, .. } = bench;
    ensure!(pods.len() == live, "{} pods", pods.len());
    Ok(runs.into_values().map(|run| run.to_string()).zip(pods.into_values().map(|pod| pod.to_string())).collect())
}

/// In a process of its own, so that nothing but the machine grows.
fn memory_apart(objects: &[(String, String)]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    for (run, pod) in objects {
        writeln!(file, "{run}\n{pod}")?;
    }
    let status = std::process::Command::new(std::env::current_exe()?).arg("--memory").arg(file.path()).status()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// As the next leader finds them: what is read is dropped at once, so what is left is the machine's.
fn memory(path: &str) -> Result<()> {
    let mut machine = Machine::new(Rules::default(), 1);
    let before = resident_bytes()?;
    let begin = Instant::now();
    let mut listing = Listing::default();
    let (mut out, now) = (Vec::new(), START + DurationMs(120_000));
    let mut lines = BufReader::new(File::open(path)?).lines();
    while let (Some(run), Some(pod)) = (lines.next(), lines.next()) {
        let (run, pod): (Value, Value) = (serde_json::from_str(&run?)?, serde_json::from_str(&pod?)?);
        let (run, pod) = (Run::read(&run).context("a run")?, Pod::read(&pod).context("a pod")?);
        listing.runs.insert(run.uid.clone());
        listing.pods.insert(pod.uid.clone());
        machine.handle(now, Input::Run(Box::new(run)), &mut out);
        machine.handle(now, Input::Pod(Box::new(pod)), &mut out);
    }
    let count = listing.runs.len();
    machine.handle(now, Input::Leading(true), &mut out);
    machine.handle(now, Input::Listed(Box::new(listing)), &mut out);
    let (took, grown) = (begin.elapsed(), resident_bytes()?.saturating_sub(before));
    println!(
        "{count} live runs with their pods, read and looked at by a new leader: {:.2} s, {:.1} MiB, {} bytes each",
        took.as_secs_f64(),
        grown as f64 / f64::from(1 << 20),
        grown / count.max(1)
    );
    drop(machine);
    Ok(())
}

fn speed(concurrency: &Value, objects: &[(String, String)], starts: usize) -> Result<()> {
    let mut bench = Bench::new(concurrency)?;
    bench.version = 1_000_000;
    for (run, pod) in objects {
        let (run, pod): (Value, Value) = (serde_json::from_str(run)?, serde_json::from_str(pod)?);
        let seen = Pod::read(&pod).context("a pod")?;
        bench.pods.insert(pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(), pod);
        bench.see(run)?;
        bench.give(Input::Pod(Box::new(seen)))?;
    }
    let runs: Vec<Value> = (0..starts).map(|number| bench.run(&format!("new-{number:05}"))).collect::<Result<_>>()?;
    bench.spent = Duration::ZERO;
    for run in runs {
        bench.see(run)?;
    }
    for _ in 0..TICKS_MAX {
        if bench.pods.len() >= objects.len() + starts {
            break;
        }
        bench.tick()?;
    }
    let started = bench.spent;
    ensure!(bench.pods.len() == objects.len() + starts, "{} pods", bench.pods.len());
    let pods: Vec<String> = bench.pods.keys().filter(|name| name.starts_with("new-")).cloned().collect();
    bench.pods(&pods, &running())?;
    bench.pods(&pods, &ended())?;
    bench.until("new runs", starts, "Reaped")?;
    let whole = bench.spent;
    println!(
        "{concurrency}, beside {} live runs: {:.0} starts decided a second, {:.0} whole lives (started, run, logged, reaped) a second; largest status {} bytes",
        objects.len(),
        starts as f64 / started.as_secs_f64(),
        starts as f64 / whole.as_secs_f64(),
        bench.status_bytes_max
    );
    Ok(())
}
