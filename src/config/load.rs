//! From files to a configuration. In: names and bytes of files. Out: a complete `Configuration`, or every problem of all files with line and column.
//!
//! Several files are one configuration: their profiles are joined in the order of the files, every other field may be set in one of them. A file holds at
//! most one document of each kind, in any order, or one `List` of them (which is how JSON carries two).

use serde_json::{Map, Value as Json};

use super::path::{Path, Step};
use super::problem::{Problem, Problems};
use super::report::{Finding, Report, Severity};
use super::resolved::Configuration;
use super::schema::schema;
use super::shape::{self, shortened};
use super::tree::{self, FILE_BYTES_MAX, Fault, Node, Spot, Value};
use super::{own, resolve, resolve_own, wire};
use crate::scheduler::registry::Registry;

/// A file as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Shown in problems.
    pub name: &'a str,
    /// Whatever was in it.
    pub content: &'a [u8],
}

/// Reads, checks and completes a configuration. No file at all is a configuration, too: the defaults.
pub fn load(sources: &[Source<'_>], registry: &Registry) -> Result<Configuration, Problems> {
    let mut loader = Loader { sources, problems: Vec::new(), kube: Whole::new(wire::KIND), own: Whole::new(own::KIND), incomplete: false };
    for file in 0..sources.len() {
        loader.read(file);
    }
    loader.resolve(registry)
}

/// A document and where it stood.
struct Document {
    file: usize,
    root: Node,
    /// Where it is in its file: empty, or an item of a `List`.
    prefix: Path,
    /// How many profiles of earlier documents come before its own.
    profiles_before: usize,
}

/// All documents of one kind as one.
struct Whole {
    kind: &'static str,
    documents: Vec<Document>,
    json: Map<String, Json>,
    /// Which document set a field.
    owners: Vec<(String, usize)>,
    /// Paths where the shape was wrong.
    broken: Vec<Path>,
}

struct Loader<'a> {
    sources: &'a [Source<'a>],
    /// With the index of the file, to sort by.
    problems: Vec<(usize, Severity, Problem)>,
    kube: Whole,
    own: Whole,
    /// Something could not be read at all, so what is missing may not be missing.
    incomplete: bool,
}

const SUPPORTED: &str =
    "Isobar reads KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1) and IsobarConfiguration (isobar.dev/v1alpha1)";

impl Loader<'_> {
    fn read(&mut self, file: usize) {
        let text = match decode(self.sources[file].content) {
            Ok(text) => text,
            Err((at, message, help)) => {
                self.incomplete = true;
                return self.fault(file, Fault { at, path: Path::root(), message, help: Some(help.to_owned()) });
            }
        };
        let (roots, faults) = tree::read(text);
        self.incomplete |= !faults.is_empty();
        if roots.is_empty() && faults.is_empty() {
            self.incomplete = true;
            let help = Some(format!("write a document; {SUPPORTED}"));
            self.fault(
                file,
                Fault { at: Spot::default(), path: Path::root(), message: "the file holds no configuration".to_owned(), help },
            );
        }
        for fault in faults {
            self.fault(file, fault);
        }
        for root in roots {
            match (root.text("kind"), root.get("items").map(|items| &items.value.value)) {
                (Some("List"), Some(Value::List(items))) => {
                    for (i, item) in items.iter().enumerate() {
                        self.document(file, item.clone(), Path::root().field("items").index(i));
                    }
                }
                _ => self.document(file, root, Path::root()),
            }
        }
    }

    fn document(&mut self, file: usize, root: Node, prefix: Path) {
        let whole = match classify(&root) {
            Ok(wire::KIND) => &mut self.kube,
            Ok(_) => &mut self.own,
            Err((field, message, help)) => {
                self.incomplete = true;
                let at = root.locate(&Path::root().field(field));
                return self.fault(file, Fault { at, path: prefix, message, help: Some(help) });
            }
        };
        if let Some(first) = whole.documents.iter().find(|document| document.file == file) {
            let (kind, line) = (whole.kind, first.root.at.line);
            let help = Some(format!("the first one begins on line {line}: put everything into it"));
            let at = root.locate(&Path::root().field("kind"));
            return self.fault(file, Fault { at, path: prefix, message: format!("a second {kind} in one file"), help });
        }
        let faults = whole.add(Document { file, root, prefix, profiles_before: 0 }, self.sources);
        for fault in faults {
            self.fault(file, fault);
        }
    }

    fn resolve(mut self, registry: &Registry) -> Result<Configuration, Problems> {
        let mut kube = Report { broken: std::mem::take(&mut self.kube.broken), ..Report::default() };
        let written = if self.kube.documents.is_empty() { None } else { typed(&mut self.kube.json, &mut kube) };
        let mut configuration = resolve::kube_scheduler(written, registry, &mut kube);
        resolve::check_unique_names(&configuration.profiles, |i| self.place_of_profile(i), &mut kube);

        let mut own = Report { broken: std::mem::take(&mut self.own.broken), ..Report::default() };
        let settings: own::IsobarConfiguration = typed(&mut self.own.json, &mut own).unwrap_or_default();
        configuration.isobar = resolve_own::settings(&settings, &mut own);
        // Names are compared only with profiles that were all read.
        if !self.incomplete && !kube.is_wrong(&Path::root().field("profiles")) {
            resolve_own::apply_to_profiles(&settings.profiles, &mut configuration.profiles, &mut own);
        }
        self.findings(&kube.findings, true);
        self.findings(&own.findings, false);
        self.finish(configuration)
    }

    fn finish(mut self, configuration: Configuration) -> Result<Configuration, Problems> {
        self.problems.sort_by(|(file, _, a), (other, _, b)| (file, a.line, a.column).cmp(&(other, b.line, b.column)));
        let (errors, warnings): (Vec<_>, Vec<_>) = self.problems.into_iter().partition(|(_, severity, _)| *severity == Severity::Error);
        let plain = |problems: Vec<(usize, Severity, Problem)>| problems.into_iter().map(|(_, _, problem)| problem).collect();
        if errors.is_empty() { Ok(Configuration { warnings: plain(warnings), ..configuration }) } else { Err(Problems(plain(errors))) }
    }

    fn findings(&mut self, findings: &[Finding], kube: bool) {
        for finding in findings {
            let whole = if kube { &self.kube } else { &self.own };
            let Some((document, path)) = whole.localise(&finding.path) else { continue };
            let (file, at) = (document.file, document.root.locate(&path));
            let path = document.in_file(&path);
            let fault = Fault { at, path, message: finding.message.clone(), help: finding.help.clone() };
            self.push(file, finding.severity, fault);
        }
    }

    fn place_of_profile(&self, index: usize) -> String {
        let path = Path::root().field("profiles").index(index);
        match self.kube.localise(&path) {
            None => "another profile".to_owned(),
            Some((document, local)) => {
                let line = document.root.locate(&local.field("schedulerName")).line;
                format!("the profile at {}:{line}", self.sources[document.file].name)
            }
        }
    }

    fn fault(&mut self, file: usize, fault: Fault) {
        self.push(file, Severity::Error, fault);
    }

    fn push(&mut self, file: usize, severity: Severity, fault: Fault) {
        let source = &self.sources[file];
        let line = (fault.at.line as usize).checked_sub(1).and_then(|skip| source.content.split(|b| *b == b'\n').nth(skip));
        let problem = Problem {
            file: source.name.to_owned(),
            line: fault.at.line,
            column: fault.at.column,
            width: fault.at.width.max(1),
            path: fault.path.to_string(),
            message: fault.message,
            help: fault.help,
            snippet: String::from_utf8_lossy(line.unwrap_or_default()).trim_end().to_owned(),
            warning: severity == Severity::Warning,
        };
        self.problems.push((file, severity, problem));
    }
}

impl Whole {
    fn new(kind: &'static str) -> Self {
        Self { kind, documents: Vec::new(), json: Map::new(), owners: Vec::new(), broken: Vec::new() }
    }

    /// Checks the shape of a document and joins it to the ones before.
    fn add(&mut self, mut document: Document, sources: &[Source<'_>]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let json = shape::check(&document.root, self.kind, schema(), &mut faults);
        document.profiles_before = self.json.get("profiles").and_then(Json::as_array).map_or(0, Vec::len);
        self.broken.extend(faults.iter().map(|fault| document.in_whole(&fault.path)));
        let index = self.documents.len();
        let Json::Object(fields) = json else { return faults };
        for (name, value) in fields {
            match (self.json.get_mut(&name), value) {
                (Some(Json::Array(profiles)), Json::Array(more)) if name == "profiles" => profiles.extend(more),
                (Some(_), _) if name == "apiVersion" || name == "kind" => {}
                (Some(_), _) => {
                    let owner = self.owners.iter().find(|(field, _)| *field == name).map_or(0, |(_, owner)| *owner);
                    let first = sources[self.documents[owner].file].name;
                    let path = Path::root().field(&name);
                    let at = document.root.get(&name).map_or(document.root.at, |entry| entry.name_at);
                    let message = format!("is set in {} already", shortened(first));
                    faults.push(Fault { at, path, message, help: Some("set it in one file; only profiles are joined".to_owned()) });
                }
                (None, value) => {
                    self.owners.push((name.clone(), index));
                    self.json.insert(name, value);
                }
            }
        }
        for fault in &mut faults {
            fault.path = document.in_file(&fault.path);
        }
        self.documents.push(document);
        faults
    }

    /// The document that a path of the whole leads into, and the path in it.
    fn localise(&self, path: &Path) -> Option<(&Document, Path)> {
        match &path.0[..] {
            [Step::Field(profiles), Step::Index(index), rest @ ..] if profiles == "profiles" => {
                let document = self.documents.iter().rfind(|document| document.profiles_before <= *index)?;
                let mut steps = vec![Step::Field(profiles.clone()), Step::Index(index - document.profiles_before)];
                steps.extend_from_slice(rest);
                Some((document, Path(steps)))
            }
            [Step::Field(name), ..] => {
                let owner = self.owners.iter().find(|(field, _)| field == name).map_or(0, |(_, owner)| *owner);
                Some((self.documents.get(owner)?, path.clone()))
            }
            _ => Some((self.documents.first()?, path.clone())),
        }
    }
}

impl Document {
    fn in_file(&self, path: &Path) -> Path {
        Path(self.prefix.0.iter().chain(&path.0).cloned().collect())
    }

    fn in_whole(&self, path: &Path) -> Path {
        let mut steps = path.0.clone();
        if let [Step::Field(profiles), Step::Index(index), ..] = &mut steps[..]
            && profiles == "profiles"
        {
            *index += self.profiles_before;
        }
        Path(steps)
    }
}

/// The shape was checked, so this succeeds; should it not, that is said.
fn typed<T: serde::de::DeserializeOwned>(json: &mut Map<String, Json>, report: &mut Report) -> Option<T> {
    let json = Json::Object(std::mem::take(json));
    serde_json::from_value(json)
        .map_err(|error| report.error(&Path::root(), format!("not of the expected form: {error}")).help(SUPPORTED))
        .ok()
}

type Undecodable = (Spot, String, &'static str);

fn decode(content: &[u8]) -> Result<&str, Undecodable> {
    if content.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes, more than the {FILE_BYTES_MAX} that are read", content.len());
        return Err((Spot::default(), message, "a configuration fits a ConfigMap; is this the right file?"));
    }
    std::str::from_utf8(content).map_err(|error| {
        let good = &content[..error.valid_up_to()];
        let line = good.split(|b| *b == b'\n').count();
        let last = good.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let column = String::from_utf8_lossy(&good[last..]).chars().count() + 1;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let at = Spot { line: number(line), column: number(column), width: 1 };
        (at, "not text: a byte that is not UTF-8".to_owned(), "save the file as UTF-8; is this the right file?")
    })
}

type Unclassified = (&'static str, String, String);

/// Which kind a document is; else the field that says otherwise, and why.
fn classify(root: &Node) -> Result<&'static str, Unclassified> {
    if !matches!(root.value, Value::Map(_)) {
        return Err(("", "expected a mapping with apiVersion and kind".to_owned(), SUPPORTED.to_owned()));
    }
    let begin = format!("begin the document with apiVersion: {} and kind: {}", wire::API_VERSION, wire::KIND);
    let (Some(kind), version) = (root.text("kind"), root.text("apiVersion")) else {
        return Err(("kind", "Object 'Kind' is missing".to_owned(), begin));
    };
    let Some(version) = version else {
        let version = if kind == own::KIND { own::API_VERSION } else { wire::API_VERSION };
        return Err(("apiVersion", "Object 'apiVersion' is missing".to_owned(), format!("add apiVersion: {version}")));
    };
    let unknown = || format!("no kind {} is registered for version {}", shortened(kind), shortened(version));
    let expected = match kind {
        wire::KIND => wire::API_VERSION,
        own::KIND => own::API_VERSION,
        _ => {
            let meant = shape::did_you_mean(kind, [wire::KIND, own::KIND].into_iter());
            return Err(("kind", unknown(), meant.map_or_else(|| SUPPORTED.to_owned(), |meant| format!("did you mean {meant}?"))));
        }
    };
    if version == expected {
        return Ok(if kind == wire::KIND { wire::KIND } else { own::KIND });
    }
    let old = version.starts_with("kubescheduler.config.k8s.io/") || version.starts_with("componentconfig/");
    let gone = if old && kind == wire::KIND { "; older versions were removed in Kubernetes 1.29" } else { "" };
    Err(("apiVersion", unknown(), format!("write apiVersion: {expected}{gone}")))
}
