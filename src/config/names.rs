//! Names as Kubernetes allows them. In: text. Out: what is wrong with it, in apimachinery's words.

const NAME_MAX: usize = 63;
const PREFIX_MAX: usize = 253;
const VALUE_MAX: usize = 63;

/// What is wrong with a label key, or any other qualified name (`prefix/name`).
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let parts: Vec<_> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else if !is_subdomain(prefix) {
                wrong.push("prefix part must be a lowercase RFC 1123 subdomain (e.g. 'example.com')".to_owned());
            }
            name
        }
        _ => {
            return vec![
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                 character with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
                    .to_owned(),
            ];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > NAME_MAX {
        wrong.push(format!("name part must be no more than {NAME_MAX} bytes"));
    }
    if !name.is_empty() && !is_name(name) {
        wrong.push(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
             (e.g. 'MyName',  or 'my.name',  or '123-abc')"
                .to_owned(),
        );
    }
    wrong
}

/// What is wrong with a label's value.
pub fn label_value(text: &str) -> Option<String> {
    if text.len() > VALUE_MAX {
        return Some(format!("must be no more than {VALUE_MAX} bytes"));
    }
    (!text.is_empty() && !is_name(text)).then(|| {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character"
            .to_owned()
    })
}

/// Whether a resource is an extended one: a domain of its own, not Kubernetes' own, and a legal quota name.
pub fn is_extended_resource(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && qualified_name(&format!("requests.{name}")).is_empty()
}

fn is_name(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Whether a text is a lowercase RFC 1123 subdomain.
pub fn is_subdomain(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let label = |label: &str| {
        edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= PREFIX_MAX && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        let long = |n| "a".repeat(n);
        for (name, good) in [
            ("zone".to_owned(), true),
            ("topology.kubernetes.io/zone".to_owned(), true),
            (long(63), true),
            (long(64), false),
            (format!("{}/a", long(253)), true),
            (format!("{}/a", long(254)), false),
            ("/a".to_owned(), false),
            ("a/".to_owned(), false),
            ("a/b/c".to_owned(), false),
            ("Domain/a".to_owned(), false),
            ("-a".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(qualified_name(&name).is_empty(), good, "{name}");
        }
        assert_eq!(label_value(""), None);
        assert_eq!(label_value(&long(63)), None);
        assert!(label_value(&long(64)).is_some() && label_value("a b").is_some());
        for (name, extended) in [
            ("nvidia.com/gpu", true),
            ("cpu", false),
            ("kubernetes.io/x", false),
            ("a.kubernetes.io/x", false),
            ("requests.nvidia.com/gpu", false),
        ] {
            assert_eq!(is_extended_resource(name), extended, "{name}");
        }
    }
}
