//! Regular expressions over names of what arrives, and over values. In: an expression, a text. Out: parameters and cycle, or why the expression is bad.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use crate::model::time::Timestamp;

/// Bytes that a compiled expression may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// The group that is the cycle.
pub const CYCLE: &str = "cycle";

/// What a name says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Values of parameters.
    pub params: BTreeMap<String, String>,
    /// The cycle.
    pub cycle: Option<Timestamp>,
}

/// An expression that must match the whole text.
pub fn whole(text: &str) -> Result<Regex, String> {
    compiled(&format!("^(?:{text})$"), text)
}

/// An expression that may match a part.
pub fn part(text: &str) -> Result<Regex, String> {
    compiled(text, text)
}

fn compiled(text: &str, shown: &str) -> Result<Regex, String> {
    let build = RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build();
    build.map_err(|error| {
        let last = error.to_string().lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
        format!("{shown:?} is not a regular expression: {last}")
    })
}

/// What a name says by an expression; `None` when it does not match, or when its cycle is no time.
pub fn extract(expression: &Regex, name: &str) -> Option<Extracted> {
    let groups = expression.captures(name)?;
    let mut extracted = Extracted::default();
    for group in expression.capture_names().flatten() {
        let Some(value) = groups.name(group) else { continue };
        if group == CYCLE {
            extracted.cycle = Some(cycle(value.as_str())?);
        } else {
            extracted.params.insert(group.to_owned(), value.as_str().to_owned());
        }
    }
    Some(extracted)
}

/// Year, month, day, and perhaps hour and minute: whatever stands between the digits.
pub fn cycle(text: &str) -> Option<Timestamp> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let part = |from: usize, to: usize| digits.get(from..to);
    let (hour, minute) = match digits.len() {
        8 => ("00", "00"),
        10 => (part(8, 10)?, "00"),
        12 | 14 => (part(8, 10)?, part(10, 12)?),
        _ => return None,
    };
    let second = part(12, 14).unwrap_or("00");
    let text = format!("{}-{}-{}T{hour}:{minute}:{second}Z", part(0, 4)?, part(4, 6)?, part(6, 8)?);
    // 31 February is not the third of March.
    Timestamp::parse_rfc3339(&text).filter(|at| at.to_rfc3339() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_parameters_and_cycle() {
        let expression = part(r"^(?<station>Z\d{4})_(?<cycle>\d{12})\.bz2$").unwrap();
        let said = extract(&expression, "Z9010_202611280606.bz2").unwrap();
        assert_eq!(said.params["station"], "Z9010");
        assert_eq!(said.cycle, Timestamp::parse_rfc3339("2026-11-28T06:06:00Z"));
        for other in ["Z901_202611280606.bz2", "Z9010_202613280606.bz2", "Z9010_202602300606.bz2", ""] {
            assert_eq!(extract(&expression, other), None, "{other}");
        }
    }

    #[test]
    fn cycles_are_digits_with_anything_between() {
        for (text, wanted) in [
            ("20261128", Some("2026-11-28T00:00:00Z")),
            ("2026112806", Some("2026-11-28T06:00:00Z")),
            ("2026-11-28T06:30", Some("2026-11-28T06:30:00Z")),
            ("2026/11/28/06", Some("2026-11-28T06:00:00Z")),
            ("20261128063015", Some("2026-11-28T06:30:15Z")),
            ("2026", None),
            ("20260230", None),
        ] {
            assert_eq!(cycle(text).map(Timestamp::to_rfc3339).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn bad_expressions_are_named_and_bounded() {
        assert!(part("(").unwrap_err().contains("\"(\" is not a regular expression: unclosed group"));
        assert!(part("(a{1000}){1000}").unwrap_err().contains("is not a regular expression"));
        assert!(whole("a|b").unwrap().is_match("b") && !whole("a|b").unwrap().is_match("ab"));
    }
}
