//! What a word without quotes means. In: its text. Out: boolean, number or string, by the rules of the YAML reader that kube-scheduler uses.
//!
//! That reader is YAML 1.1 (`go.yaml.in/yaml/v2`): `yes` and `on` are booleans, `010` is eight, `1_000` a thousand. A file means the same here as there.

use serde_json::Value as Json;

/// The value of a plain scalar.
pub fn resolve(text: &str) -> Json {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Json::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Json::Bool(false),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Json::String(text.to_owned());
    }
    let digits = text.replace('_', "");
    if let Some(whole) = integer(&digits) {
        return i64::try_from(whole)
            .map(Json::from)
            .or_else(|_| u64::try_from(whole).map(Json::from))
            .unwrap_or_else(|_| float(&digits, text));
    }
    float(&digits, text)
}

/// A whole number, in any of the notations of Go's `ParseInt` with base 0.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = |lower: &str, upper: &str| digits.strip_prefix(lower).or_else(|| digits.strip_prefix(upper));
    let (digits, radix) = match (prefixed("0x", "0X"), prefixed("0o", "0O"), prefixed("0b", "0B")) {
        (Some(hex), _, _) => (hex, 16),
        (_, Some(octal), _) => (octal, 8),
        (_, _, Some(binary)) => (binary, 2),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

fn float(digits: &str, text: &str) -> Json {
    let numeric = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    let number = if numeric { digits.parse::<f64>().ok().and_then(serde_json::Number::from_f64) } else { None };
    number.map_or_else(|| Json::String(text.to_owned()), Json::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn means_what_it_means_to_kube_scheduler() {
        for (text, value) in [
            ("on", json!(true)),
            ("No", json!(false)),
            ("tRue", json!("tRue")),
            ("50", json!(50)),
            ("-3", json!(-3)),
            ("010", json!(8)),
            ("0x1F", json!(31)),
            ("1_000", json!(1000)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("15s", json!("15s")),
            ("1.2.3", json!("1.2.3")),
            ("-", json!("-")),
            ("+-3", json!("+-3")),
            (".", json!(".")),
            ("0x", json!("0x")),
            ("nan", json!("nan")),
            ("1e999", json!("1e999")),
        ] {
            assert_eq!(resolve(text), value, "{text}");
        }
    }
}
