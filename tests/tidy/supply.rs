//! What we depend on. In: `cargo metadata` of what is locked, and `deny.toml`. Out: a finding for every licence, source, second version or crate that
//! `deny.toml` does not allow, and for every exception there that nothing needs any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use serde_json::Value;

use crate::source::root;

/// The platform whose crates are linked here.
const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// Our own crate, which has no source.
const OURS: &str = "isobar";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
    source: String,
}

/// What `deny.toml` says.
#[derive(Debug, Default)]
struct Policy {
    licences: Vec<String>,
    banned: Vec<String>,
    /// `name@version-prefix` of the versions that may stand beside another.
    second_versions: Vec<String>,
    registries: Vec<String>,
}

impl Policy {
    /// Reads the lists; every entry stands on a line of its own.
    fn read(text: &str) -> Self {
        let mut policy = Self::default();
        let mut list = "";
        for line in text.lines().map(str::trim) {
            let mut quoted = line.split('"').skip(1).step_by(2).map(str::to_owned);
            match line {
                "allow = [" | "deny = [" | "skip = [" => list = line,
                "]" => list = "",
                _ if line.starts_with("allow-registry") => policy.registries.extend(quoted),
                _ if list == "allow = [" => policy.licences.extend(quoted),
                _ if list == "deny = [" => policy.banned.extend(quoted.next()),
                _ if list == "skip = [" => policy.second_versions.extend(quoted.next()),
                _ => {}
            }
        }
        policy
    }

    fn findings(&self, packages: &BTreeSet<Package>) -> Vec<String> {
        let mut findings = Vec::new();
        for package in packages {
            let Package { name, version, licence, source } = package;
            if !allows(licence, &self.licences) {
                findings.push(format!("{name} {version} is under {licence:?}, which deny.toml does not allow"));
            }
            if self.banned.contains(name) {
                findings.push(format!("{name} is banned by deny.toml"));
            }
            if name != OURS && !self.registries.iter().any(|registry| source.ends_with(registry.as_str())) {
                findings.push(format!("{name} {version} comes from {source:?}, not from a registry of deny.toml"));
            }
        }
        findings.extend(self.second_versions(packages));
        findings
    }

    fn second_versions(&self, packages: &BTreeSet<Package>) -> Vec<String> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        packages.iter().for_each(|package| versions.entry(&package.name).or_default().push(&package.version));
        let mut findings = Vec::new();
        let mut needed: BTreeSet<&String> = BTreeSet::new();
        for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
            let skipped = |version: &&&str| self.second_versions.iter().any(|skip| covers(skip, name, version));
            needed.extend(versions.iter().flat_map(|version| self.second_versions.iter().filter(move |skip| covers(skip, name, version))));
            if versions.iter().filter(|version| !skipped(version)).count() > 1 {
                findings
                    .push(format!("{name} is linked in versions {}: list all but one in deny.toml with the reason", versions.join(", ")));
            }
        }
        let idle = self.second_versions.iter().filter(|skip| !needed.contains(skip));
        findings.extend(idle.map(|skip| format!("deny.toml lists {skip}, which nothing needs any more: remove it")));
        findings
    }
}

/// Whether an entry such as `base64@0.22` means this version.
fn covers(entry: &str, name: &str, version: &str) -> bool {
    let Some((listed, prefix)) = entry.split_once('@') else { return false };
    listed == name && version.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether an SPDX expression can be met with the allowed licences. The old `/` means OR.
fn allows(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    !words.is_empty() && either(&words, &mut at, allowed) && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(words, at, allowed);
    }
    met
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    if words.get(*at) == Some(&"(") {
        *at += 1;
        let met = either(words, at, allowed);
        *at += 1;
        return met;
    }
    let mut licence = words.get(*at).copied().unwrap_or_default().to_owned();
    *at += 1;
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
    }
    allowed.contains(&licence)
}

/// Every crate that is linked into the program or its tests on this platform.
fn packages() -> BTreeSet<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", PLATFORM];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let linked: BTreeSet<&str> =
        metadata["resolve"]["nodes"].as_array().into_iter().flatten().filter_map(|node| node["id"].as_str()).collect();
    let all = metadata["packages"].as_array().into_iter().flatten();
    let text = |package: &Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
    all.filter(|package| package["id"].as_str().is_some_and(|id| linked.contains(id)))
        .map(|package| Package {
            name: text(package, "name"),
            version: text(package, "version"),
            licence: text(package, "license"),
            source: text(package, "source"),
        })
        .collect()
}

#[test]
fn dependencies_are_as_agreed() {
    let policy = Policy::read(&fs::read_to_string(root().join("deny.toml")).expect("deny.toml"));
    assert!(
        policy.licences.len() > 3 && !policy.banned.is_empty() && policy.registries.len() == 1,
        "deny.toml was not understood: {policy:?}"
    );
    let packages = packages();
    assert!(packages.len() > 100, "cargo metadata names {} packages only", packages.len());
    let findings = policy.findings(&packages);
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn each_rule_about_dependencies_can_fail() {
    let policy = Policy::read(
        "allow = [\n    \"MIT\",\n]\ndeny = [\n    { crate = \"bad\", reason = \"x\" },\n]\nskip = [\n    { crate = \"two@1\", reason = \"y\" },\n]\n\
         allow-registry = [\"https://registry\"]",
    );
    let package = |name: &str, version: &str, licence: &str, source: &str| Package {
        name: name.into(),
        version: version.into(),
        licence: licence.into(),
        source: source.into(),
    };
    let good = |name: &str, version: &str| package(name, version, "MIT", "registry+https://registry");
    let findings = |packages: &[Package]| policy.findings(&packages.iter().cloned().collect());
    let two = [good("two", "1.5.0"), good("two", "2.0.0")];
    assert_eq!(findings(&two), [""; 0], "a listed second version passes");
    for (packages, part) in [
        (vec![package("a", "1.0.0", "GPL-3.0", "registry+https://registry")], "is under"),
        (vec![package("a", "1.0.0", "", "registry+https://registry")], "is under"),
        (vec![good("bad", "1.0.0")], "banned"),
        (vec![package("a", "1.0.0", "MIT", "git+https://elsewhere")], "comes from"),
        (vec![good("a", "1.0.0"), good("a", "2.0.0")], "is linked in versions"),
        (vec![good("two", "2.0.0"), good("two", "3.0.0")], "is linked in versions"),
    ] {
        let mut packages = packages;
        packages.extend(two.iter().cloned());
        assert!(findings(&packages).iter().any(|finding| finding.contains(part)), "{packages:?} gives {:?}", findings(&packages));
    }
    assert!(
        findings(&[good("two", "1.5.0")]).iter().any(|finding| finding.contains("remove it")),
        "an exception that nothing needs is found"
    );
}

#[test]
fn licence_expressions_are_read() {
    let allowed: Vec<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND ISC", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR ISC) AND MIT", true),
        ("GPL-3.0 OR ISC AND BSD-2-Clause", false),
        ("Unlicense/MIT", true),
        ("Apache-2.0 / ISC", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("", false),
        ("MIT MIT", false),
    ] {
        assert_eq!(allows(expression, &allowed), met, "{expression}");
    }
}
