//! Where the real programs are. In: environment variables and the testbed's cache. Out: a path per program, or why a test cannot run.
//!
//! The rule is envtest's (`TEST_ASSET_<NAME>`, then `KUBEBUILDER_ASSETS/<name>`, then a known folder), extended by the programs that envtest does
//! not know and by the cache that `testbed/build` fills.

use std::{
    collections::BTreeSet,
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result};

/// envtest's own last resort.
const ENVTEST_FOLDER: &str = "/usr/local/kubebuilder/bin";

/// Set in CI: a test that cannot run is then a failure.
const REQUIRE: &str = "CI_REQUIRE_CLUSTER";

/// A program of the real control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    Kwok,
    Kubectl,
    S3,
    Registry,
    Nats,
    Cylc,
}

impl Program {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kwok => "kwok",
            Self::Kubectl => "kubectl",
            Self::S3 => "s3",
            Self::Registry => "registry",
            Self::Nats => "nats",
            Self::Cylc => "cylc",
        }
    }

    /// Which script builds it.
    fn script(self) -> &'static Script {
        match self {
            Self::S3 | Self::Registry | Self::Nats => &STORES,
            Self::Cylc => &PYTHON,
            _ => &CONTROL_PLANE,
        }
    }

    fn variable(self) -> String {
        format!("TEST_ASSET_{}", self.name().to_uppercase().replace('-', "_"))
    }

    /// The first place that has it. A `TEST_ASSET_*` that is set wins even where it points at nothing: whoever set it wants to know.
    pub fn find(self) -> Option<PathBuf> {
        if let Some(path) = std::env::var_os(self.variable()) {
            return Some(PathBuf::from(path));
        }
        let mut folders: Vec<PathBuf> = Vec::new();
        folders.extend(std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from));
        folders.extend(self.script().folder().map(Path::to_path_buf));
        folders.push(PathBuf::from(ENVTEST_FOLDER));
        if self == Self::Kubectl {
            folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
        }
        folders.into_iter().map(|folder| folder.join(self.name())).find(|path| path.is_file())
    }

    pub fn path(self) -> Result<PathBuf> {
        self.find()
            .with_context(|| format!("{self} not found: run {}, or set {} or KUBEBUILDER_ASSETS", self.script().path, self.variable()))
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A script that builds programs into a cache. It alone knows how its key is made, so it is asked.
struct Script {
    path: &'static str,
    folder: OnceLock<Option<PathBuf>>,
}

static CONTROL_PLANE: Script = Script { path: "testbed/build", folder: OnceLock::new() };
static STORES: Script = Script { path: "testbed/stores/build", folder: OnceLock::new() };
static PYTHON: Script = Script { path: "testbed/python/build", folder: OnceLock::new() };

impl Script {
    /// The cache folder for the present modules.
    fn folder(&self) -> Option<&Path> {
        let ask = || {
            let answer = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(self.path)).arg("--folder").output().ok()?;
            let folder = PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim());
            (answer.status.success() && folder.is_dir()).then_some(folder)
        };
        self.folder.get_or_init(ask).as_deref()
    }
}

/// Whether `test` can run. Where it cannot, says so past the test runner's capture, and panics where a skip is a failure.
pub fn available(test: &str, needs: &[Program]) -> bool {
    let missing: Vec<_> = needs.iter().filter(|program| program.find().is_none()).collect();
    let names: Vec<_> = missing.iter().map(|program| program.name()).collect();
    let scripts: BTreeSet<_> = missing.iter().map(|program| program.script().path).collect();
    let scripts = scripts.into_iter().collect::<Vec<_>>().join(" and ");
    missing.is_empty() || skip(test, &format!("not found: {}; run {scripts}, or set KUBEBUILDER_ASSETS or TEST_ASSET_*", names.join(", ")))
}

/// Records that `test` does not run; always `false`. Panics under `CI_REQUIRE_CLUSTER=1`.
pub fn skip(test: &str, reason: &str) -> bool {
    assert!(
        std::env::var_os(REQUIRE).is_none_or(|value| value.is_empty() || value == "0"),
        "{test} cannot run and {REQUIRE} is set: {reason}"
    );
    // A plain `eprintln!` would be swallowed for a passing test.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    false
}

/// The `isobar` program under test: `ISOBAR_BIN`, else the one Cargo built for this test or bench.
pub fn isobar() -> PathBuf {
    std::env::var_os("ISOBAR_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_isobar")), PathBuf::from)
}

/// Whether `isobar run` exists in the program that was built.
pub fn isobar_available(test: &str) -> bool {
    let program = isobar();
    let speaks =
        Command::new(&program).args(["run", "--help"]).output().is_ok_and(|answer| answer.status.success() && !answer.stdout.is_empty());
    speaks || skip(test, &format!("{} has no `run` command", program.display()))
}
