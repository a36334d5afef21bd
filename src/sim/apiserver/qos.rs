//! Quality of service class of a pod. In: its containers' requests and limits. Out: `Guaranteed`, `Burstable` or `BestEffort` by upstream's rule.

use serde_json::Value;

const COMPUTE: &[&str] = &["cpu", "memory"];

/// The class that the server writes into a new pod's status.
pub(super) fn class_of(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let pod_level = &spec["resources"];
    let resources: Vec<&Value> = if pod_level["requests"].is_object() || pod_level["limits"].is_object() {
        vec![pod_level]
    } else {
        let lists = [&spec["initContainers"], &spec["containers"]];
        lists.into_iter().filter_map(Value::as_array).flatten().map(|container| &container["resources"]).collect()
    };
    let named = |part: &str, resource: &&str| resources.iter().any(|container| is_positive(&container[part][*resource]));
    let any = COMPUTE.iter().any(|resource| named("requests", resource) || named("limits", resource));
    if !any {
        return "BestEffort";
    }
    let guaranteed = resources.iter().all(|container| {
        COMPUTE.iter().all(|resource| {
            let (request, limit) = (&container["requests"][*resource], &container["limits"][*resource]);
            is_positive(limit) && (request.is_null() || amount(request) == amount(limit))
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

fn is_positive(quantity: &Value) -> bool {
    amount(quantity).is_some_and(|amount| amount > 0)
}

/// A quantity in billionths, enough to compare requests with limits; `None` for what is no quantity.
pub(super) fn amount(quantity: &Value) -> Option<i128> {
    let text = match quantity {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let digits = text.trim_start_matches(['+', '-']);
    let end = digits.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction: String = format!("{fraction:0<9}").chars().take(9).collect();
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let billionths = whole.checked_mul(1_000_000_000)?.checked_add(fraction.parse().ok()?)?;
    let scaled = scale(billionths, suffix)?;
    Some(if text.starts_with('-') { -scaled } else { scaled })
}

fn scale(billionths: i128, suffix: &str) -> Option<i128> {
    let thousand = |power: u32| 1000_i128.checked_pow(power);
    let binary = |power: u32| 1024_i128.checked_pow(power);
    let factor = match suffix {
        "" => Some(1),
        "k" => thousand(1),
        "M" => thousand(2),
        "G" => thousand(3),
        "T" => thousand(4),
        "P" => thousand(5),
        "E" => thousand(6),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "m" => return Some(billionths / 1000),
        "u" => return Some(billionths / 1_000_000),
        "n" => return Some(billionths / 1_000_000_000),
        _ => return exponent(billionths, suffix),
    }?;
    billionths.checked_mul(factor)
}

fn exponent(billionths: i128, suffix: &str) -> Option<i128> {
    let power: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power < 0 { Some(billionths / factor) } else { billionths.checked_mul(factor) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts() {
        let table = [
            ("1", Some(1_000_000_000)),
            ("1000m", Some(1_000_000_000)),
            ("0.5", Some(500_000_000)),
            ("1Ki", Some(1_024_000_000_000)),
            ("1e3", Some(1_000_000_000_000)),
            ("x", None),
            ("", None),
            ("1x", None),
            ("-1", Some(-1_000_000_000)),
        ];
        for (text, wanted) in table {
            assert_eq!(amount(&json!(text)), wanted, "{text}");
        }
    }

    #[test]
    fn classes() {
        let container = |resources: Value| json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        assert_eq!(class_of(&container(json!({}))), "BestEffort");
        assert_eq!(class_of(&container(json!({"requests": {"cpu": "1"}}))), "Burstable");
        assert_eq!(
            class_of(&container(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}))),
            "Guaranteed"
        );
        assert_eq!(class_of(&container(json!({"limits": {"cpu": "1"}}))), "Burstable");
        assert_eq!(class_of(&container(json!({"requests": {"nvidia.com/gpu": "1"}}))), "BestEffort");
    }
}
