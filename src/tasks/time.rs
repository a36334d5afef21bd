//! Times and spans as objects bear them. In: text. Out: numbers; what cannot be read is kept as it is, so that validation can say where it stands.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    config::duration,
    model::time::{DurationMs, Timestamp},
};

/// A point in time of an object, in whole seconds: RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self(at.floor_to_second())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse_rfc3339(&text).map(Self::from).ok_or_else(|| D::Error::custom(format!("{text:?} is not a time in RFC 3339")))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// A span such as `1h30m`; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Span(#[schemars(regex(pattern = r"^(([0-9]+(\.[0-9]+)?(ms|s|m|h))+)?$"), length(max = 32))] pub String);

impl Span {
    /// A span from its text.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// How long; `None` when it is empty or cannot be read.
    pub fn ms(&self) -> Option<DurationMs> {
        if self.0.is_empty() { None } else { duration::parse(&self.0) }
    }

    /// How long, or what stands in its place.
    pub fn or(&self, otherwise: DurationMs) -> DurationMs {
        self.ms().unwrap_or(otherwise)
    }

    /// Whether it is neither empty nor a span.
    pub fn is_bad(&self) -> bool {
        !self.0.is_empty() && self.ms().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lose_their_fractions_and_bad_ones_are_named() {
        let time: Time = serde_json::from_str("\"2026-11-28T06:00:00.9Z\"").unwrap();
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-11-28T06:00:00Z\"");
        assert!(serde_json::from_str::<Time>("\"soon\"").unwrap_err().to_string().contains("\"soon\" is not a time"));
    }

    #[test]
    fn spans_are_read_or_bad_or_none() {
        assert_eq!(Span::new("1m30s").ms(), Some(DurationMs(90_000)));
        for (text, bad) in [("", false), ("soon", true), ("-1s", true), ("5m", false)] {
            assert_eq!(Span::new(text).is_bad(), bad, "{text}");
        }
    }
}
