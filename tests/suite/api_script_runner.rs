//! Runs the script of API calls. In: a kube client of any server. Out: the transcript, one JSON value a step, with what differs between two runs (uids,
//! times, versions, tokens) replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{Action, Step, script};

/// A watch is quiet when nothing came for so long. Real servers answer within milliseconds, and paused clocks skip it.
pub const QUIET: Duration = Duration::from_millis(400);
/// Between two questions whether something has come about.
const AWAIT_PAUSE: Duration = Duration::from_millis(400);
/// Longest wait for the end of a watch that ends by itself.
const END_WAIT: Duration = Duration::from_secs(20);
/// Asks this often for what a controller has to bring about.
const AWAIT_TRIES: usize = 50;

/// Runs the script and gives the normalised transcript. A watch counts as quiet after `quiet`, [`QUIET`] for a server across a network.
pub async fn transcript(client: &kube::Client, quiet: Duration) -> Vec<Value> {
    let mut runner = Runner { client: client.clone(), quiet, variables: BTreeMap::new(), watches: BTreeMap::new() };
    let mut lines = Vec::new();
    for step in script() {
        let mut line = json!({"step": step.name});
        match runner.run(&step).await {
            Ok(answer) => merge_into(&mut line, answer),
            Err(error) => line["transport"] = error.into(),
        }
        lines.push(line);
    }
    normalise(&mut lines);
    lines
}

/// A bookmark that does not mark the end of the initial events.
fn is_plain_bookmark(event: &Value) -> bool {
    event["type"] == "BOOKMARK" && event["object"]["metadata"]["annotations"].is_null()
}

fn merge_into(line: &mut Value, answer: Value) {
    for (field, value) in answer.as_object().into_iter().flatten() {
        line[field] = value.clone();
    }
}

struct Runner {
    client: kube::Client,
    quiet: Duration,
    variables: BTreeMap<&'static str, String>,
    watches: BTreeMap<&'static str, mpsc::UnboundedReceiver<Value>>,
}

impl Runner {
    async fn run(&mut self, step: &Step) -> Result<Value, String> {
        match &step.action {
            Action::Call { method, path, content_type, accept, body } => {
                let (path, body) = (self.filled(path), self.filled(body));
                let (code, mut answer) =
                    self.send(method.clone(), &path, [(header::CONTENT_TYPE, *content_type), (header::ACCEPT, *accept)], body).await?;
                for (variable, pointer) in &step.save {
                    let value = answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                    self.variables.insert(variable, value.to_string());
                }
                if step.free_wording && answer["kind"] == "Status" {
                    for field in ["message", "details"] {
                        answer[field] = Value::Null;
                    }
                }
                if step.unrecorded {
                    answer = Value::Null;
                }
                Ok(json!({"request": format!("{method} {path}"), "code": code, "body": answer}))
            }
            Action::Await { path } => {
                for _ in 0..AWAIT_TRIES {
                    if self.send(Method::GET, path, [(header::CONTENT_TYPE, ""), (header::ACCEPT, "")], String::new()).await?.0 == 200 {
                        return Ok(json!({}));
                    }
                    tokio::time::sleep(AWAIT_PAUSE).await;
                }
                Err(format!("{path} did not appear"))
            }
            Action::Open { watch, path } => {
                let path = self.filled(path);
                let code = self.open(watch, &path).await?;
                Ok(json!({"request": format!("WATCH {path}"), "code": code}))
            }
            Action::Read { watch } => {
                let mut events = self.read(watch, self.quiet).await;
                // Whether one falls due in this moment is a matter of timers; those at a watch's end are not.
                events.retain(|event| !is_plain_bookmark(event));
                Ok(json!({"watch": watch, "events": events}))
            }
            Action::End { watch } => Ok(
                json!({"watch": watch, "events": self.read(watch, END_WAIT).await, "ended": self.watches.get(watch).is_none_or(mpsc::UnboundedReceiver::is_closed)}),
            ),
            Action::Close { watch } => {
                self.watches.remove(watch);
                Ok(json!({}))
            }
        }
    }

    fn filled(&self, text: &str) -> String {
        self.variables.iter().fold(text.to_string(), |text, (variable, value)| text.replace(&format!("${{{variable}}}"), value))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: [(header::HeaderName, &str); 2],
        body: String,
    ) -> Result<(u16, Value), String> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body.into_bytes())).map_err(|error| error.to_string())?;
        let response = self.client.send(request).await.map_err(|error| error.to_string())?;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        Ok((code, serde_json::from_str(&text).unwrap_or_else(|_| json!({"text": text.trim()}))))
    }

    async fn open(&mut self, watch: &'static str, path: &str) -> Result<u16, String> {
        let request = Request::get(path).body(Body::empty()).map_err(|error| error.to_string())?;
        let response = self.client.send(request).await.map_err(|error| error.to_string())?;
        let code = response.status().as_u16();
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut frames = response.into_body().into_data_stream();
            let mut held = Vec::new();
            while let Some(Ok(frame)) = frames.next().await {
                held.extend_from_slice(&frame);
                while let Some(at) = held.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = held.drain(..=at).collect();
                    let event = serde_json::from_slice(&line).unwrap_or_else(|_| json!({"text": String::from_utf8_lossy(&line)}));
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        self.watches.insert(watch, receiver);
        Ok(code)
    }

    async fn read(&mut self, watch: &str, quiet: Duration) -> Vec<Value> {
        let mut events = Vec::new();
        let Some(receiver) = self.watches.get_mut(watch) else { return events };
        while let Ok(Some(event)) = tokio::time::timeout(quiet, receiver.recv()).await {
            // How many bookmarks come in a row is a matter of timers.
            if is_plain_bookmark(&event) && events.last().is_some_and(is_plain_bookmark) {
                events.pop();
            }
            events.push(event);
        }
        events
    }
}

// === normalisation ===

/// Replaces what differs from run to run: uids by the order of their appearance, times by `<time>`, versions by their rank, generated names and tokens.
fn normalise(lines: &mut [Value]) {
    let mut versions: Vec<u64> = Vec::new();
    let mut uids: Vec<String> = Vec::new();
    for line in lines.iter() {
        collect(line, &mut versions, &mut uids);
    }
    versions.sort_unstable();
    versions.dedup();
    let names = Names { versions, uids };
    for line in lines {
        names.replace(line, "");
    }
}

struct Names {
    versions: Vec<u64>,
    uids: Vec<String>,
}

/// Versions of objects (not of lists and bookmarks, which may be any moment) and uids.
fn collect(value: &Value, versions: &mut Vec<u64>, uids: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(uid) = fields.get("uid").and_then(Value::as_str).filter(|uid| !uids.iter().any(|known| known == uid)) {
                uids.push(uid.to_string());
            }
            if fields.contains_key("uid")
                && let Some(version) = fields.get("resourceVersion").and_then(Value::as_str).and_then(|text| text.parse().ok())
            {
                versions.push(version);
            }
            fields.values().for_each(|value| collect(value, versions, uids));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, versions, uids)),
        _ => {}
    }
}

impl Names {
    fn replace(&self, value: &mut Value, field: &str) {
        match value {
            Value::Object(fields) => {
                fields.shift_remove("managedFields");
                if fields.contains_key("priority") && fields.contains_key("format") {
                    // Documentation of a table's column.
                    fields.shift_remove("description");
                }
                let of_object = fields.contains_key("uid");
                if let Some(Value::String(version)) = fields.get_mut("resourceVersion") {
                    *version = self.version(version, of_object);
                }
                let inner: Vec<String> = fields.keys().cloned().collect();
                for name in inner.iter().filter(|name| *name != "resourceVersion") {
                    self.replace(&mut fields[name.as_str()], name);
                }
                sort_fields(fields);
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace(item, field)),
            Value::String(text) => *text = self.text(text, field),
            _ => {}
        }
    }

    /// `v12` for the twelfth version of any object; lists and bookmarks are at least at one.
    fn version(&self, text: &str, of_object: bool) -> String {
        let Ok(version) = text.parse::<u64>() else { return text.to_string() };
        let rank = self.versions.partition_point(|known| *known <= version);
        if of_object { format!("v{rank}") } else { format!(">=v{rank}") }
    }

    fn text(&self, text: &str, field: &str) -> String {
        match field {
            "cells" if is_age(text) => return "<age>".into(),
            "continue" if !text.is_empty() => return "<token>".into(),
            "request" => return text.split('?').next().unwrap_or_default().split("/gen-").next().unwrap_or_default().to_string(),
            _ => {}
        }
        if is_time(text) && !text.starts_with("2026-01-01") {
            return "<time>".into();
        }
        let mut text = text.to_string();
        for (at, uid) in self.uids.iter().enumerate() {
            text = text.replace(uid.as_str(), &format!("<uid {at}>"));
        }
        if text.starts_with("gen-") {
            text = "gen-<suffix>".into();
        }
        if field == "message" { mask_versions(&text) } else { text }
    }
}

fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && text.ends_with('Z')
}

/// `5s`, `2m10s`, `327d`; in the future they are `<invalid>`.
fn is_age(text: &str) -> bool {
    let unit = text.chars().last().is_some_and(|letter| matches!(letter, 's' | 'm' | 'h' | 'd' | 'y'));
    text == "<invalid>" || (unit && text.starts_with(|letter: char| letter.is_ascii_digit()))
}

/// Numbers in messages about versions: `record (123)`, `too old resource version: 1 (123)`, `ResourceVersion in object meta: 123`.
fn mask_versions(text: &str) -> String {
    if !text.contains("ersion") {
        return text.to_string();
    }
    let mut masked = String::new();
    for (at, part) in text.split_inclusive(['(', ' ']).enumerate() {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        if at > 0 && digits > 1 {
            masked.push('#');
            masked.push_str(&part[digits..]);
        } else {
            masked.push_str(part);
        }
    }
    masked
}

/// Field order is not part of the answer.
fn sort_fields(fields: &mut Map<String, Value>) {
    fields.sort_keys();
}
