//! What a request means. In: method, path, query and Accept header. Out: the addressed resource, object and subresource, the query's
//! options, and the wanted form of the answer.

use http::{HeaderMap, Uri, header};

use super::status::ApiError;

/// The parts of a resource path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for none or all.
    pub namespace: String,
    /// Plural of the type.
    pub resource: String,
    /// Object name, empty for the collection.
    pub name: String,
    /// Such as `status`, `binding`; empty for the object itself.
    pub subresource: String,
}

impl ResourcePath {
    /// Parses `/api/v1/...` and `/apis/GROUP/VERSION/...` with at least a resource behind.
    pub fn parse(path: &str) -> Option<Self> {
        let segments: Vec<String> = path.trim_start_matches('/').split('/').map(percent_decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, resource, rest) = match rest {
            ["namespaces", namespace, subresource @ ("status" | "finalize")] => {
                return Some(Self::of(group, version, "", "namespaces", namespace, subresource));
            }
            ["namespaces", namespace, resource, rest @ ..] => (*namespace, *resource, rest),
            [resource, rest @ ..] => ("", *resource, rest),
            [] => return None,
        };
        match rest {
            [] => Some(Self::of(group, version, namespace, resource, "", "")),
            [name] => Some(Self::of(group, version, namespace, resource, name, "")),
            [name, subresource] => Some(Self::of(group, version, namespace, resource, name, subresource)),
            _ => None,
        }
    }

    fn of(group: &str, version: &str, namespace: &str, resource: &str, name: &str, subresource: &str) -> Self {
        let own = str::to_string;
        Self {
            group: own(group),
            version: own(version),
            namespace: own(namespace),
            resource: own(resource),
            name: own(name),
            subresource: own(subresource),
        }
    }
}

/// `%2F` and the like; anything malformed stays as it is and then matches no name.
fn percent_decode(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| segment.get(at + 1..at + 3)).flatten();
        if let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The query, in order, decoded.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a URI's query.
    pub fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        pairs.map(|pairs| Self(pairs.0)).map_err(|error| ApiError::bad_request(format!("unable to read the query: {error}")))
    }

    /// First value of a parameter, empty when absent.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Whether a parameter is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// A flag; as upstream reads it, only `false` and `0` mean no once it is given.
    pub fn flag(&self, name: &str) -> bool {
        self.has(name) && !matches!(self.text(name).to_ascii_lowercase().as_str(), "false" | "0")
    }

    /// A number of at least 0, or `None` when absent or empty.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        let number = text.parse::<i64>();
        let why = || ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        Ok(Some(u64::try_from(number.map_err(|_| why())?).unwrap_or(0)))
    }

    /// `resourceVersion`, `None` when absent or empty.
    pub fn resource_version(&self) -> Result<Option<u64>, String> {
        let text = self.text("resourceVersion");
        if text.is_empty() {
            return Ok(None);
        }
        text.parse::<u64>().map(Some).map_err(|_| format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
    }
}

/// The form of objects in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The object itself.
    Object,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`, with the given part of the object in each row.
    Table(RowObject),
}

/// What a table's rows carry beside their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowObject {
    /// Metadata only: the default.
    Metadata,
    /// The whole object.
    Object,
    /// Nothing.
    None,
}

/// Picks the first form of the Accept header that the server has. Protobuf and CBOR are not spoken: such clients list JSON as well.
pub fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Form, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.is_empty() {
        return Ok(Form::Object);
    }
    for clause in accept.split(',') {
        let mut words = clause.split(';').map(str::trim);
        let media_type = words.next().unwrap_or_default();
        if !matches!(media_type, "application/json" | "*/*" | "application/*") {
            continue;
        }
        match words.find_map(|word| word.strip_prefix("as=")) {
            None => return Ok(Form::Object),
            Some("Table") => return row_object(query).map(Form::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Ok(Form::Metadata),
            Some(_) => {}
        }
    }
    let accepted = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    Err(ApiError::not_acceptable(&format!("406: Not Acceptable\n\nAvailable representations: {accepted}")))
}

fn row_object(query: &Query) -> Result<RowObject, ApiError> {
    match query.text("includeObject") {
        "" | "Metadata" => Ok(RowObject::Metadata),
        "Object" => Ok(RowObject::Object),
        "None" => Ok(RowObject::None),
        other => Err(ApiError::bad_request(format!("Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"))),
    }
}

/// Whether aggregated discovery is asked for, and in which version.
pub fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    accept.split(',').find_map(|clause| {
        let has = |word: &str| clause.split(';').any(|part| part.trim() == word);
        if !has("as=APIGroupDiscoveryList") {
            return None;
        }
        if has("v=v2") { Some("v2") } else { has("v=v2beta1").then_some("v2beta1") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let table = [
            ("/api/v1/pods", Some(("", "v1", "", "pods", "", ""))),
            ("/api/v1/namespaces", Some(("", "v1", "", "namespaces", "", ""))),
            ("/api/v1/namespaces/x", Some(("", "v1", "", "namespaces", "x", ""))),
            ("/api/v1/namespaces/x/status", Some(("", "v1", "", "namespaces", "x", "status"))),
            ("/api/v1/namespaces/x/pods", Some(("", "v1", "x", "pods", "", ""))),
            ("/api/v1/namespaces/x/pods/a%2Fb", Some(("", "v1", "x", "pods", "a/b", ""))),
            ("/api/v1/namespaces/x/pods/a/binding", Some(("", "v1", "x", "pods", "a", "binding"))),
            ("/apis/apps/v1/deployments", Some(("apps", "v1", "", "deployments", "", ""))),
            ("/apis/apps/v1/namespaces/x/deployments/d/status", Some(("apps", "v1", "x", "deployments", "d", "status"))),
            ("/api/v1", None),
            ("/healthz", None),
            ("/api/v1/namespaces/x/pods/a/b/c", None),
        ];
        for (path, wanted) in table {
            let wanted = wanted
                .map(|(group, version, namespace, resource, name, sub)| ResourcePath::of(group, version, namespace, resource, name, sub));
            assert_eq!(ResourcePath::parse(path), wanted, "{path}");
        }
    }
}
