//! The line between a replica of Isobar and the API server, which knows what passes, and where the sender dies. In: requests, and traps that all lines
//! share. Out: the same requests at the API server, until one meets a trap: its sender is killed, either before the request arrives or before the answer
//! to it returns, and nothing more of it passes.
//!
//! Reports of runs go the same way: their receiver is here.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    response::Response,
};
use http::{Method, StatusCode, Uri, request::Parts};
use kube::{Client, Config};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::process::{Signal, signal};

const BODY_BYTES_MAX: usize = 16 << 20;

/// A request that is one effect of the life of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// As `docs/tasks.md` names it; a write of a run's status with its phase, an announcement with its state.
    pub effect: String,
    /// Of the task, the run or the pod that it is about.
    pub name: String,
}

impl Call {
    /// The task of it: names of runs and pods begin with that of their task, which has no dash here.
    pub fn task(&self) -> &str {
        self.name.split('-').next().unwrap_or_default()
    }

    fn read(method: &Method, uri: &Uri, body: &[u8]) -> Option<Self> {
        let json = || serde_json::from_slice::<Value>(body).unwrap_or_default();
        let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let call = |effect: &str, name: &str| Some(Self { effect: effect.to_owned(), name: name.to_owned() });
        if uri.path() == "/reports" {
            let event = json();
            let state = text(&event, "/type");
            return call(if state.ends_with("finished") { "Announce Finished" } else { "Announce Reaped" }, &text(&event, "/subject"));
        }
        let after_namespace = uri.path().split_once("/namespaces/")?.1.split_once('/')?.1;
        let parts: Vec<&str> = after_namespace.split('/').collect();
        match (method.as_str(), &*parts) {
            ("POST", ["taskruns"]) => call("CreateRun", &text(&json(), "/metadata/name")),
            ("PATCH", ["taskruns", run]) => call("FillIn", run),
            ("PUT", ["taskruns", run, "status"]) => call(&format!("WriteRun {}", text(&json(), "/status/phase")), run),
            ("DELETE", ["taskruns", run]) => call("DeleteRun", run),
            ("PUT", ["tasks", task, "status"]) => call("WriteTask", task),
            ("POST", ["pods"]) => call("CreatePod", &text(&json(), "/metadata/name")),
            ("GET", ["pods", pod]) => call("ReadPod", pod),
            ("GET", ["pods", pod, "log"]) => {
                call(if uri.query().unwrap_or_default().contains("follow=true") { "Follow" } else { "SaveLogs" }, pod)
            }
            ("DELETE", ["pods", pod]) => call("DeletePod", pod),
            ("PATCH", ["pods", pod]) => call("ReleasePod", pod),
            _ => None,
        }
    }
}

/// Where a sender dies, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    pub task: String,
    pub effect: &'static str,
    /// After the effect, before its answer.
    pub after: bool,
    /// It counts only when this effect has passed for the same task.
    pub once: Option<&'static str>,
}

/// What has passed, and what is to happen.
#[derive(Default)]
pub struct Ledger {
    pub set: Vec<Trap>,
    pub sprung: Vec<Trap>,
    /// Effects that the API server has acknowledged, in order, with its answer.
    pub passed: Vec<(Call, StatusCode)>,
    /// Reports that were acknowledged.
    pub heard: Vec<Value>,
    /// Pods that were let go before their logs were in the archive.
    pub silent: Vec<String>,
}

impl Ledger {
    fn spring(&mut self, call: &Call) -> Option<Trap> {
        let has_passed = |effect: &str| self.passed.iter().any(|(other, _)| other.effect == effect && other.task() == call.task());
        let meets = |trap: &Trap| trap.task == call.task() && trap.effect == call.effect && trap.once.is_none_or(has_passed);
        let at = self.set.iter().position(meets)?;
        let trap = self.set.remove(at);
        self.sprung.push(trap.clone());
        Some(trap)
    }

    /// How often something was made: by what was made.
    pub fn made(&self, effect: &str) -> BTreeMap<String, usize> {
        let made = self.passed.iter().filter(|(call, status)| call.effect == effect && *status == StatusCode::CREATED);
        made.fold(BTreeMap::new(), |mut counts, (call, _)| {
            *counts.entry(call.name.clone()).or_default() += 1;
            counts
        })
    }
}

/// What all lines share. Cheap to clone.
#[derive(Clone, Default)]
pub struct Traps(Arc<Mutex<Ledger>>);

impl Traps {
    pub fn look(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line of one replica.
pub struct Gate {
    pub url: String,
    line: Arc<Line>,
    serving: JoinHandle<()>,
}

/// The sender is dead, or dies.
struct Dead;

struct Line {
    onward: Client,
    traps: Traps,
    archive: PathBuf,
    /// Whose requests these are.
    pid: AtomicU32,
    /// The sender is dead or dies: nothing of it passes any more.
    closed: AtomicBool,
}

impl Gate {
    /// `admin`: a kubeconfig that knows the API server; callers bring their own tokens. `archive`: where their logs are kept.
    pub async fn open(admin: &Path, traps: &Traps, archive: &Path) -> Result<Self> {
        let kubeconfig = kube::config::Kubeconfig::read_from(admin)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
        config.auth_info = kube::config::AuthInfo::default();
        config.default_retry = false;
        config.read_timeout = None;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let line = Arc::new(Line {
            onward: Client::try_from(config)?,
            traps: traps.clone(),
            archive: archive.to_owned(),
            pid: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        });
        let router = Router::new().fallback(pass).with_state(line.clone());
        let serving = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, line, serving })
    }

    pub fn is_of(&self, pid: u32) {
        self.line.pid.store(pid, Ordering::SeqCst);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What has begun goes on when its sender dies, as it does in a socket's buffer.
async fn pass(State(line): State<Arc<Line>>, request: Request) -> Response {
    let passing = tokio::spawn(through(line, request));
    passing.await.unwrap_or_else(|error| answer(StatusCode::BAD_GATEWAY, Body::from(error.to_string())))
}

async fn through(line: Arc<Line>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else { return answer(StatusCode::BAD_REQUEST, Body::empty()) };
    let call = Call::read(&parts.method, &parts.uri, &body);
    let Ok(trap) = line.enter(call.as_ref()) else { return std::future::pending().await };
    if trap.as_ref().is_some_and(|trap| !trap.after) {
        line.kill();
        return std::future::pending().await;
    }
    let response = match &call {
        Some(call) if call.effect.starts_with("Announce") => {
            line.traps.look().heard.push(serde_json::from_slice(&body).unwrap_or_default());
            answer(StatusCode::ACCEPTED, Body::empty())
        }
        // Its log is then read at its end.
        Some(call) if call.effect == "Follow" && line.traps.look().keeps_from_following(call.task()) => {
            answer(StatusCode::SERVICE_UNAVAILABLE, Body::empty())
        }
        _ => {
            line.look_at_release(call.as_ref());
            line.send(parts, body).await.unwrap_or_else(|error| answer(StatusCode::BAD_GATEWAY, Body::from(format!("{error:#}"))))
        }
    };
    if let Some(call) = call {
        line.traps.look().passed.push((call, response.status()));
    }
    if trap.is_some() {
        line.kill();
        return std::future::pending().await;
    }
    response
}

fn answer(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl Ledger {
    fn keeps_from_following(&self, task: &str) -> bool {
        self.set.iter().chain(&self.sprung).any(|trap| trap.effect == "SaveLogs" && trap.task == task)
    }
}

impl Line {
    async fn send(&self, parts: Parts, body: Bytes) -> Result<Response> {
        let mut request = http::Request::new(kube::client::Body::from(body));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (parts.method, parts.uri, parts.headers);
        request.headers_mut().remove(http::header::HOST);
        let response = self.onward.send(request).await.context("the API server")?;
        Ok(response.map(Body::new))
    }

    /// The trap that a request meets, if it meets one: nothing of its sender passes after that.
    fn enter(&self, call: Option<&Call>) -> Result<Option<Trap>, Dead> {
        let mut ledger = self.traps.look();
        if self.closed.load(Ordering::SeqCst) {
            return Err(Dead);
        }
        let trap = call.and_then(|call| ledger.spring(call));
        self.closed.store(trap.is_some(), Ordering::SeqCst);
        Ok(trap)
    }

    /// Kills the sender, which never hears of the request.
    fn kill(&self) {
        if let Err(error) = signal(self.pid.load(Ordering::SeqCst), Signal::Kill) {
            eprintln!("{error:#}");
        }
    }

    /// The log of a pod is in the archive before the pod may go.
    fn look_at_release(&self, call: Option<&Call>) {
        let Some(call) = call.filter(|call| call.effect == "ReleasePod") else { return };
        if !has_log(&self.archive, &call.name) {
            self.traps.look().silent.push(call.name.clone());
        }
    }
}

/// Whether a file that is not empty lies in a folder of this name.
fn has_log(folder: &Path, pod: &str) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return has_log(&path, pod);
        }
        // The folder of a pod is called by its name and its UID.
        let is_of_pod = |part: &OsStr| part.to_str().is_some_and(|part| part.strip_prefix(pod).is_some_and(|rest| rest.starts_with('_')));
        path.iter().any(is_of_pod) && entry.metadata().is_ok_and(|file| file.len() > 0)
    })
}
