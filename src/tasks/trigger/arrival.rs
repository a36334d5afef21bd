//! What arrives over HTTP or a broker. In: a body. Out: arrivals, each with an identity that stays the same when it is sent again; or why it cannot be read.
//! And what an arrival starts by a trigger.

use serde_json::Value;

use super::{Firing, pattern};
use crate::{
    model::time::Timestamp,
    tasks::{
        run::{TriggerKind, WaitsFor},
        spec::Data,
        time::Time,
    },
};

/// A body of more bytes is refused before it is read.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Characters of a name or an identity.
const NAME_CHARS_MAX: usize = 900;
/// Arrivals of one body.
const RECORDS_MAX: usize = 1_000;

/// Something arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Data source of the configuration.
    pub source: String,
    /// The same whenever the same thing is sent again.
    pub id: String,
    /// What expressions are matched with: the subject, or bucket and key of an object, or a file's path.
    pub name: String,
    /// When it happened.
    pub time: Option<Timestamp>,
}

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Too long.
    #[error("the body has {0} bytes; {BODY_BYTES_MAX} are taken: send the address of the data, not the data")]
    TooLong(usize),
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// A field is missing or wrong.
    #[error("{0} {1}")]
    Field(String, &'static str),
    /// Neither of the two.
    #[error("the body is neither a CloudEvent (it has no `specversion`) nor an S3 notification (it has no `Records`)")]
    Unknown,
}

/// Reads a body: `CloudEvents` in structured or batched form, or S3 notifications.
pub fn read(source: &str, body: &[u8]) -> Result<Vec<Arrival>, BadBody> {
    if body.len() > BODY_BYTES_MAX {
        return Err(BadBody::TooLong(body.len()));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| BadBody::NotJson(error.to_string()))?;
    match &value {
        Value::Array(events) if events.len() <= RECORDS_MAX => events.iter().map(|event| cloud_event(source, event)).collect(),
        Value::Array(_) => Err(BadBody::Field("the batch".to_owned(), "has more than 1000 events: send several")),
        _ if value["specversion"].is_string() => Ok(vec![cloud_event(source, &value)?]),
        _ => match value["Records"].as_array() {
            Some(records) if records.len() <= RECORDS_MAX => {
                let made = records.iter().enumerate().filter(|(_, record)| is_creation(record));
                made.map(|(at, record)| s3_record(source, at, record)).collect()
            }
            Some(_) => Err(BadBody::Field("Records".to_owned(), "has more than 1000 entries: send several")),
            None => Err(BadBody::Unknown),
        },
    }
}

/// A `CloudEvent` whose attributes are headers: `name` without `ce-`, value.
pub fn from_headers<'a>(source: &str, headers: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Arrival, BadBody> {
    let attributes: serde_json::Map<String, Value> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.into())).collect();
    cloud_event(source, &Value::Object(attributes))
}

fn text<'a>(value: &'a Value, place: &str) -> Result<&'a str, BadBody> {
    let text = value
        .as_str()
        .filter(|text| !text.is_empty())
        .ok_or_else(|| BadBody::Field(place.to_owned(), "must be a text that is not empty"))?;
    if text.chars().count() > NAME_CHARS_MAX {
        return Err(BadBody::Field(place.to_owned(), "has more than 900 characters"));
    }
    Ok(text)
}

fn time(value: &Value, place: &str) -> Result<Option<Timestamp>, BadBody> {
    match value {
        Value::Null => Ok(None),
        value => {
            let time = value.as_str().and_then(Timestamp::parse_rfc3339);
            time.map(Some).ok_or_else(|| BadBody::Field(place.to_owned(), "is not a time in RFC 3339"))
        }
    }
}

fn cloud_event(source: &str, event: &Value) -> Result<Arrival, BadBody> {
    if event["specversion"] != "1.0" {
        return Err(BadBody::Field("specversion".to_owned(), "must be \"1.0\""));
    }
    text(&event["type"], "type")?;
    // `source` and `id` together are an event's identity.
    let id = format!("{}#{}", text(&event["source"], "source")?, text(&event["id"], "id")?);
    let name = if event["subject"].is_null() { &event["id"] } else { &event["subject"] };
    Ok(Arrival { source: source.to_owned(), id, name: text(name, "subject")?.to_owned(), time: time(&event["time"], "time")? })
}

fn is_creation(record: &Value) -> bool {
    record["eventName"].as_str().is_some_and(|name| name.trim_start_matches("s3:").starts_with("ObjectCreated"))
}

fn s3_record(source: &str, at: usize, record: &Value) -> Result<Arrival, BadBody> {
    let place = |rest: &str| format!("Records[{at}].{rest}");
    let bucket = text(&record["s3"]["bucket"]["name"], &place("s3.bucket.name"))?;
    let object = &record["s3"]["object"];
    let key = unescaped(text(&object["key"], &place("s3.object.key"))?);
    // The version, else what orders events of one object, else its content, else the time: the first that the store gives.
    let given = [&object["versionId"], &object["sequencer"], &object["eTag"], &record["eventTime"]];
    let version = given.into_iter().find_map(Value::as_str).unwrap_or_default();
    let time = time(&record["eventTime"], &place("eventTime"))?;
    Ok(Arrival { source: source.to_owned(), id: format!("{bucket}/{key}#{version}"), name: format!("{bucket}/{key}"), time })
}

/// Keys come as in the query of an address.
fn unescaped(key: &str) -> String {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%').then(|| key.len() - tail.len()).and_then(|at| u8::from_str_radix(key.get(at..at + 2)?, 16).ok());
        match (hex, first) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = &tail[2..];
                continue;
            }
            (None, b'+') => bytes.push(b' '),
            (None, byte) => bytes.push(*byte),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A data trigger that can be asked.
#[derive(Clone, Debug)]
pub struct Matcher {
    data: Data,
    /// `match` and `allOf`.
    expressions: Vec<regex::Regex>,
}

impl Matcher {
    /// Compiles a trigger's expressions.
    pub fn new(data: &Data) -> Result<Self, String> {
        let texts = std::iter::once(&data.matches).chain(&data.all_of);
        let expressions = texts.map(|text| pattern::part(text)).collect::<Result<_, _>>()?;
        Ok(Self { data: data.clone(), expressions })
    }

    /// What an arrival starts. With `allOf` the run is one for the cycle and waits for the rest.
    pub fn firing(&self, arrival: &Arrival, now: Timestamp) -> Option<Firing> {
        if arrival.source != self.data.source {
            return None;
        }
        let (at, said) = self.expressions.iter().enumerate().find_map(|(at, one)| Some((at, pattern::extract(one, &arrival.name)?)))?;
        let time = arrival.time.unwrap_or(now);
        let mut firing = Firing { kind: TriggerKind::Data, cycle: said.cycle, time: Some(time), params: said.params, ..Firing::default() };
        if self.data.all_of.is_empty() {
            firing.key = format!("{}/{}", arrival.source, arrival.id);
            return Some(firing);
        }
        let cycle = said.cycle?;
        firing.key = format!("{}/cycle/{}", arrival.source, cycle.to_rfc3339());
        // All arrivals of a cycle are as old as the cycle: one that comes late finds its run among those that are remembered.
        firing.time = Some(cycle);
        let all_of: Vec<String> = self.expressions.iter().map(|one| one.as_str().to_owned()).collect();
        firing.arrived = all_of.get(at).cloned();
        firing.waits_for = Some(WaitsFor {
            all_of,
            deadline: self.data.deadline.ms().map(|span| Time::from(now + span)),
            on_deadline: self.data.on_deadline,
        });
        Some(firing)
    }
}

#[cfg(test)]
#[path = "arrival_tests.rs"]
mod tests;
