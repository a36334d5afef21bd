//! Tasks on a cluster in memory, in simulated time: the scheduler, the room of tasks, kubelets. In: tasks and what happens. Out: how their runs ended, their
//! pods, their logs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use isobar::{
    archive::{LogArchive, LogKey},
    kubernetes::{
        api::Api,
        tasks::{self, Arriving, Receivers, ReportOptions, TasksContext},
    },
    metrics::{ApiMetrics, Metrics},
    model::{
        ids::{PodKey, PodUid},
        time::Timestamp,
    },
    sim::{
        SimCluster,
        faults::{Fault, Target},
        federation::{Replica, SimFederation, create},
        kubelet::KubeletOptions,
    },
    tasks::{crd, effect::Answer, rules::Rules, trigger::arrival::Arrival},
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::sleep,
};

use crate::simulated::in_paused_time;

/// Noon and a bit.
const START: Timestamp = Timestamp(1_795_867_230_000);
const TASKS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/tasks";
const RUNS: &str = "/apis/isobar.dev/v1alpha1/namespaces/default/taskruns";

/// A scheduler with its room of tasks.
struct Process {
    replica: Replica,
    room: JoinHandle<()>,
    arrivals: mpsc::Sender<Arriving>,
    metrics: Metrics,
}

struct Stage {
    federation: SimFederation,
    archive: LogArchive,
    /// Logs are kept where the federation keeps them.
    shared: bool,
    process: Option<Process>,
    started: u64,
}

impl Stage {
    async fn new(seed: u64) -> Self {
        let mut stage = Self::without_nodes(seed, &[]).await;
        stage.node("n1").await;
        stage.start();
        stage
    }

    async fn without_nodes(seed: u64, clusters: &[String]) -> Self {
        if std::env::var_os("ISOBAR_LOG").is_some() {
            let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().with_ansi(false).try_init();
        }
        let mut federation = SimFederation::new(seed, START, clusters, 8192).await.unwrap();
        federation.start_world(&KubeletOptions::default());
        Self { federation, archive: LogArchive::in_memory(), shared: !clusters.is_empty(), process: None, started: 0 }
    }

    async fn node(&self, name: &str) {
        Self::node_in(self.home(), name).await;
    }

    async fn node_in(cluster: &SimCluster, name: &str) {
        let capacity = json!({"cpu": "4", "memory": "16Gi", "pods": "110"});
        let labels = json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"});
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
            "status": {"capacity": capacity, "allocatable": capacity, "conditions": ready}});
        create(cluster, "/api/v1/nodes", &node).await.unwrap();
    }

    async fn definitions(&self) {
        for definition in [crd::task(), crd::task_run()] {
            create(self.home(), "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.unwrap();
        }
        // Until the room has found them.
        sleep(Duration::from_secs(6)).await;
    }

    fn start(&mut self) {
        self.started += 1;
        let seed = self.federation.seed() ^ self.started;
        let replica = self.federation.start_scheduler(&format!("replica-{}", self.started), seed, false).unwrap();
        let (arrivals, arriving) = mpsc::channel(tasks::ARRIVALS_MAX);
        let metrics = Metrics::new();
        let room = tokio::spawn(tasks::run(TasksContext {
            home: Api::new(self.home().client(), "home.sim:443", ApiMetrics::new(&metrics)),
            leadership: replica.live.leadership.clone(),
            clock: self.federation.clock(),
            rules: Rules { sources: vec!["radar-in".to_owned()], ..Rules::default() },
            arrivals: arriving,
            receivers: Receivers::new(&ReportOptions::default()).unwrap(),
            logs: Some(if self.shared { Arc::new(self.federation.logs().clone()) } else { Arc::new(self.archive.clone()) }),
            metrics: metrics.clone(),
            hostname: format!("replica-{}", self.started),
            seed,
        }));
        self.process = Some(Process { replica, room, arrivals, metrics });
    }

    /// As a crash would.
    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.room.abort();
            process.replica.abort();
        }
    }

    fn home(&self) -> &SimCluster {
        self.federation.home()
    }

    async fn task(&self, name: &str, spec: &Value, triggers: Value) {
        let mut spec = spec.clone();
        spec["triggers"] = triggers;
        let object =
            json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "Task", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        create(self.home(), TASKS, &object).await.unwrap();
    }

    #[allow(clippy::needless_pass_by_value)] // JSON reads better so
    async fn run(&self, name: &str, task: &str, params: Value) {
        let spec = json!({"taskRef": {"name": task}, "params": params});
        let object = json!({"apiVersion": "isobar.dev/v1alpha1", "kind": "TaskRun", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
        create(self.home(), RUNS, &object).await.unwrap();
    }

    async fn cancel(&self, run: &str) {
        let request = http::Request::patch(format!("{RUNS}/{run}")).header("content-type", "application/merge-patch+json");
        let request = request.body(json!({"spec": {"cancel": true}}).to_string().into_bytes()).unwrap();
        self.home().faultless_client().request_text(request).await.unwrap();
    }

    async fn arrive(&self, name: &str) -> Answer {
        let (answer, answered) = oneshot::channel();
        let arrival = Arrival { source: "radar-in".to_owned(), id: name.to_owned(), name: name.to_owned(), time: None };
        self.process.as_ref().unwrap().arrivals.send(Arriving { arrival, answer }).await.unwrap();
        answered.await.unwrap()
    }

    fn runs(&self) -> BTreeMap<String, Value> {
        let runs = self.home().server().objects("isobar.dev", "taskruns");
        runs.into_iter().map(|run| (run["metadata"]["name"].as_str().unwrap().to_owned(), run)).collect()
    }

    fn pods(&self) -> Vec<String> {
        self.home().server().objects("", "pods").iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    fn events(&self, reason: &str) -> usize {
        self.home().server().objects("", "events").iter().filter(|event| event["reason"] == reason).count()
    }

    /// Until all runs are over, and there are so many.
    async fn until_reaped(&self, count: usize) -> BTreeMap<String, Value> {
        for _ in 0..6_000 {
            let runs = self.runs();
            if runs.len() >= count && runs.values().all(|run| run["status"]["phase"] == "Reaped") {
                return runs;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("not over: {:#?}", self.runs().values().map(|run| &run["status"]).collect::<Vec<_>>());
    }

    /// The log of a run's last attempt, as the archive has it, after a look at what the run says of it.
    async fn log(&self, run: &Value, container: &str) -> String {
        let attempt = run["status"]["attempts"].as_array().unwrap().last().unwrap();
        let text = |field: &str| attempt[field].as_str().unwrap();
        let pod = PodKey::new("default", text("podName"));
        let key = LogKey { pod, uid: PodUid::from(text("podUID")), container: container.into(), previous: false };
        let chunks: Vec<_> = self.archive.read(&key).await.unwrap().expect("a log is kept").try_collect().await.unwrap();
        let log = String::from_utf8(chunks.concat()).unwrap();
        assert_eq!(attempt["logs"]["bytes"], log.len(), "{attempt}");
        assert_eq!(attempt["logs"]["sha256"], isobar::tasks::names::sha256(&log), "{attempt}");
        assert_eq!(attempt["logs"]["complete"], true, "{attempt}");
        log
    }
}

/// A task whose pods run for so long and end so.
fn spec(run_ms: u32, exit_code: &str) -> Value {
    json!({
        "account": "a", "limits": {"run": {"limit": "5m"}},
        "template": {
            "metadata": {"annotations": {"sim.isobar.dev/run-ms": run_ms.to_string(), "sim.isobar.dev/exit-code": exit_code}},
            "spec": {"containers": [{
                "name": "main", "image": "i", "resources": {"requests": {"cpu": "100m"}},
                // What travels to a compute cluster.
                "env": [{"name": "SIM_RUN_MS", "value": run_ms.to_string()}, {"name": "SIM_EXIT_CODE", "value": exit_code}],
            }]},
        },
    })
}

#[test]
fn runs_by_hand_clock_data_and_after_another_each_have_one_pod_their_logs_and_an_end() {
    in_paused_time(async {
        let stage = Stage::new(1).await;
        sleep(Duration::from_secs(7)).await;
        stage.definitions().await;
        stage.task("clock", &spec(3_000, "0"), json!([{"cron": {"schedule": "*/2 * * * *", "cycleOffset": "-10m"}}])).await;
        stage.task("follow", &spec(2_000, "0"), json!([{"after": {"tasks": [{"name": "clock"}]}}])).await;
        stage.task("file", &spec(1_000, "3"), json!([{"data": {"source": "radar-in", "match": "^f"}}])).await;
        stage.task("hand", &spec(20_000, "0"), json!([])).await;
        sleep(Duration::from_secs(8)).await;
        stage.run("by-hand", "hand", json!({})).await;
        assert!(matches!(stage.arrive("f1").await, Answer::Accepted(keys) if keys.len() == 1));
        assert_eq!(stage.arrive("f1").await, Answer::Duplicate);
        assert_eq!(stage.arrive("other").await, Answer::Unwanted);
        sleep(Duration::from_mins(2)).await;

        let runs = stage.until_reaped(4).await;
        let outcomes: Vec<_> = runs
            .values()
            .map(|run| (run["spec"]["trigger"]["type"].as_str().unwrap_or("Manual"), run["status"]["outcome"].as_str().unwrap()))
            .collect();
        for expected in [("Cron", "Succeeded"), ("After", "Succeeded"), ("Data", "Failed"), ("Manual", "Succeeded")] {
            assert!(outcomes.contains(&expected), "{outcomes:?}");
        }
        assert_eq!(stage.pods(), [""; 0]);
        let starts = stage.federation.starts();
        assert_eq!(starts.len(), runs.len(), "one pod a run: {starts:?}");
        for run in runs.values() {
            let attempt = &run["status"]["attempts"][0];
            assert_eq!(attempt["reap"]["result"], "Deleted", "{run}");
            assert!(stage.log(run, "main").await.contains("main"), "{run}");
            assert_eq!(attempt["node"], "n1");
        }
        let failed = runs.values().find(|run| run["status"]["outcome"] == "Failed").unwrap();
        assert_eq!(failed["status"]["attempts"][0]["exitCode"], 3);
        assert!(stage.events("Started") >= 4 && stage.events("PodReaped") >= 4, "people are told");
        let text = stage.process.as_ref().unwrap().metrics.render();
        assert!(text.contains("isobar_task_runs_total{task=\"default/file\",outcome=\"Failed\",trigger=\"Data\"} 1"), "{text}");
    });
}

#[test]
fn a_pod_that_the_api_server_refuses_fails_its_run_and_people_are_told() {
    in_paused_time(async {
        let stage = Stage::new(2).await;
        stage.definitions().await;
        let mut bad = spec(1_000, "0");
        bad["template"]["spec"]["containers"][0]["name"] = json!("No Label");
        stage.task("bad", &bad, json!([])).await;
        stage.run("r", "bad", json!({})).await;
        stage.run("lost", "nothing", json!({})).await;
        let runs = stage.until_reaped(2).await;
        let status = &runs["r"]["status"];
        assert_eq!((&status["outcome"], &status["reason"]), (&json!("Failed"), &json!("PodRefused")), "{status}");
        assert!(status["message"].as_str().unwrap().contains("containers[0].name"), "{status}");
        let finished = status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "Finished").unwrap();
        assert_eq!((&finished["status"], &finished["reason"]), (&json!("True"), &json!("Failed")));
        assert_eq!(runs["lost"]["status"]["reason"], "TaskUnknown");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(stage.events("Failed"), 2);
    });
}

#[test]
fn a_run_waits_for_capacity_with_the_schedulers_reason_and_starts_when_there_is_some() {
    in_paused_time(async {
        let stage = Stage::new(3).await;
        stage.definitions().await;
        let mut big = spec(1_000, "0");
        big["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("3");
        stage.task("big", &big, json!([])).await;
        let mut long = big.clone();
        long["template"]["metadata"]["annotations"]["sim.isobar.dev/run-ms"] = json!("60000");
        stage.task("long", &long, json!([])).await;
        stage.run("first", "long", json!({})).await;
        sleep(Duration::from_secs(2)).await;
        stage.run("second", "big", json!({})).await;
        sleep(Duration::from_secs(15)).await;
        let waiting = &stage.runs()["second"]["status"];
        assert_eq!((&waiting["phase"], &waiting["pending"]["reason"]), (&json!("Pending"), &json!("Unschedulable")), "{waiting}");
        assert!(waiting["pending"]["detail"].as_str().unwrap().contains("Insufficient cpu"), "{waiting}");
        stage.node("n2").await;
        sleep(Duration::from_secs(1)).await;
        let running = &stage.runs()["second"]["status"];
        assert_eq!((&running["phase"], &running["node"]), (&json!("Running"), &json!("n2")), "{running}");
        stage.until_reaped(2).await;
    });
}

#[test]
fn a_queue_that_takes_too_long_puts_a_run_back_with_its_place() {
    in_paused_time(async {
        let stage = Stage::new(4).await;
        stage.definitions().await;
        let mut big = spec(1_000, "0");
        big["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("40");
        big["limits"]["queue"] = json!({"limit": "20s"});
        big["retry"] = json!({"requeues": 2, "backoff": {"initial": "5s"}});
        stage.task("big", &big, json!([])).await;
        stage.run("r", "big", json!({})).await;
        sleep(Duration::from_secs(2)).await;
        let place = stage.runs()["r"]["spec"]["frozen"]["priorityTime"].clone();
        let runs = stage.until_reaped(1).await;
        let run = &runs["r"];
        assert_eq!((&run["status"]["outcome"], &run["status"]["attempt"]), (&json!("TimedOut"), &json!(3)), "{run}");
        assert_eq!(run["spec"]["frozen"]["priorityTime"], place);
        assert!(stage.events("Requeued") >= 2);
        assert_eq!(stage.pods(), [""; 0]);
    });
}

/// A task that runs each minute, and one that follows it.
async fn clock_and_follower(stage: &Stage) {
    stage.definitions().await;
    let every = json!([{"cron": {"schedule": "* * * * *", "missed": {"policy": "All", "max": 100}}}]);
    stage.task("clock", &spec(4_000, "0"), every).await;
    stage.task("follow", &spec(2_000, "0"), json!([{"after": {"tasks": [{"name": "clock"}]}}])).await;
}

/// Every minute since the first has one run that succeeded, with one pod of each attempt and its logs, and so has what follows it.
async fn judge(stage: &Stage, minutes: usize) {
    let runs = stage.runs();
    let of = |kind: &str| runs.values().filter(|run| run["spec"]["trigger"]["type"] == kind).collect::<Vec<_>>();
    let times: Vec<Timestamp> =
        of("Cron").iter().filter_map(|run| Timestamp::parse_rfc3339(run["spec"]["scheduledTime"].as_str()?)).collect();
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(times.len() >= minutes && last.since(*first).0 == 60_000 * (times.len() as u64 - 1), "one run a minute: {times:?}");
    let ended: Vec<&Value> = runs.values().filter(|run| run["status"]["phase"] == "Reaped").collect();
    // The last ones may be under way.
    assert!(ended.len() + 4 >= runs.len() && of("After").len() + 2 >= times.len(), "{} of {}", ended.len(), runs.len());
    for run in &ended {
        assert_eq!(run["status"]["outcome"], "Succeeded", "{run}");
        stage.log(run, "main").await;
    }
    let mut pods: Vec<String> = stage.federation.starts().into_iter().map(|(_, start)| start.pod).collect();
    let all = pods.len();
    pods.sort();
    pods.dedup();
    assert_eq!(pods.len(), all, "a pod was started twice");
}

#[test]
fn deaths_of_the_leader_lose_nothing_and_start_nothing_twice() {
    for seed in 10..12 {
        in_paused_time(async move {
            let mut stage = Stage::new(seed).await;
            clock_and_follower(&stage).await;
            for death in 0..5 {
                sleep(Duration::from_millis(61_300 + 1_700 * death + 137 * seed)).await;
                stage.kill();
                sleep(Duration::from_secs(3)).await;
                stage.start();
            }
            sleep(Duration::from_mins(3)).await;
            judge(&stage, 8).await;
            stage.kill();
        });
    }
}

#[test]
fn calls_that_fail_in_any_way_lose_nothing_and_start_nothing_twice() {
    let late = Fault::Late(Duration::from_secs(6));
    for (seed, fault) in [Fault::ErrorBefore, Fault::ErrorAfter, Fault::LostAfter, Fault::HangAfter, late].into_iter().enumerate() {
        in_paused_time(async move {
            let mut stage = Stage::new(seed as u64).await;
            clock_and_follower(&stage).await;
            let faults = stage.home().faults().clone();
            for (verb, resource) in [
                ("create", "taskruns"),
                ("update", "taskruns/status"),
                ("update", "tasks/status"),
                ("create", "pods"),
                ("patch", "pods"),
                ("delete", "pods"),
                ("get", "pods/log"),
            ] {
                faults.often(Target::of(verb, resource), fault.clone(), 0.15);
            }
            sleep(Duration::from_mins(5)).await;
            assert!(faults.struck() > 10, "{fault:?} struck {} times", faults.struck());
            faults.clear();
            sleep(Duration::from_mins(3)).await;
            judge(&stage, 6).await;
            stage.kill();
        });
    }
}

#[test]
fn a_run_on_a_compute_cluster_has_its_logs_at_home_after_both_pods_are_gone() {
    in_paused_time(async {
        let mut stage = Stage::without_nodes(20, &["cloud".to_owned()]).await;
        Stage::node_in(&stage.federation.clusters()["cloud"], "c1").await;
        stage.federation.register("cloud", &json!({})).await.unwrap();
        stage.start();
        stage.definitions().await;
        stage.task("far", &spec(5_000, "0"), json!([])).await;
        sleep(Duration::from_secs(20)).await;
        stage.run("r", "far", json!({})).await;
        let runs = stage.until_reaped(1).await;
        let attempt = &runs["r"]["status"]["attempts"][0];
        assert_eq!(runs["r"]["status"]["outcome"], "Succeeded", "{attempt}");
        assert_eq!((&attempt["node"], &attempt["reap"]["result"]), (&json!("isobar-cloud"), &json!("Deleted")), "{attempt}");
        let text = stage.federation.logs().text(attempt["podUID"].as_str().unwrap(), "main").expect("a log is kept");
        assert_eq!(attempt["logs"]["sha256"], isobar::tasks::names::sha256(&text), "{attempt}");
        assert_eq!((&attempt["logs"]["complete"], text.is_empty()), (&json!(true), false), "{attempt}");
        sleep(Duration::from_secs(5)).await;
        assert_eq!((stage.pods(), stage.federation.leftovers("cloud")), (Vec::new(), Vec::new()));
        assert_eq!(stage.federation.starts().len(), 1);
    });
}

#[test]
fn a_run_that_is_stopped_on_a_compute_cluster_leaves_what_it_wrote() {
    for (seed, logs) in [(21, "AtEnd"), (22, "Follow")] {
        in_paused_time(async move {
            let mut stage = Stage::without_nodes(seed, &["cloud".to_owned()]).await;
            Stage::node_in(&stage.federation.clusters()["cloud"], "c1").await;
            stage.federation.register("cloud", &json!({"logs": logs})).await.unwrap();
            stage.start();
            stage.definitions().await;
            let mut endless = spec(3_600_000, "0");
            endless["template"]["spec"]["containers"][0]["env"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "SIM_LOG_MS", "value": "1000"}));
            stage.task("far", &endless, json!([])).await;
            sleep(Duration::from_secs(20)).await;
            stage.run("r", "far", json!({})).await;
            sleep(Duration::from_secs(20)).await;
            stage.cancel("r").await;
            let runs = stage.until_reaped(1).await;
            let attempt = &runs["r"]["status"]["attempts"][0];
            assert_eq!(runs["r"]["status"]["outcome"], "Cancelled", "{attempt}");
            let text = stage.federation.logs().text(attempt["podUID"].as_str().unwrap(), "main").expect("a log is kept");
            assert!(text.contains("main works, line 10"), "{logs}: {text}");
            assert_eq!((&attempt["logs"]["bytes"], &attempt["logs"]["complete"]), (&json!(text.len()), &json!(true)), "{logs}: {attempt}");
            sleep(Duration::from_mins(2)).await;
            assert_eq!((stage.pods(), stage.federation.leftovers("cloud")), (Vec::new(), Vec::new()));
        });
    }
}
