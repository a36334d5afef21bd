//! Configuration files through the program: what `isobar config` says of every file under `tests/config` and `config`.

use std::path::{Path, PathBuf};
use std::process::Command;

use isobar::config::{self, Configuration, Problems, Source, show};
use isobar::scheduler::profile::{PodTopologySpreadArgs, ScoringStrategy, TieBreak};
use isobar::scheduler::registry::Registry;
use proptest::prelude::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect("a folder of the checkout");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).filter(|path| path.extension().is_some()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

/// Exit code and output of `isobar config ...`, run where `folder` is.
fn isobar(folder: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_isobar")).current_dir(root().join(folder)).arg("config").args(args).output();
    let output = output.expect("the program runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "problems are the answer, not a failure");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn load(text: &str) -> Result<Configuration, Problems> {
    config::load(&[Source { name: "f", content: text.as_bytes() }], &Registry::in_tree())
}

fn load_file(path: &Path) -> Configuration {
    let content = std::fs::read(path).expect("readable");
    let loaded = config::load(&[Source { name: &name(path), content: &content }], &Registry::in_tree());
    loaded.unwrap_or_else(|problems| panic!("{}: {problems}", path.display()))
}

/// Without warnings, which name lines of a file.
fn silent(configuration: Configuration) -> Configuration {
    Configuration { warnings: Vec::new(), ..configuration }
}

#[test]
fn every_bad_file_is_refused_with_all_its_problems() {
    let bad = files("tests/config/bad");
    assert!(bad.len() >= 25, "only {} files", bad.len());
    for path in bad {
        let name = name(&path);
        let (code, said) = isobar("tests/config/bad", &["check", &name]);
        assert_eq!(code, Some(1), "{name}");
        insta::assert_snapshot!(name, said);
    }
}

#[test]
fn files_that_contradict_each_other_are_refused() {
    let (code, said) = isobar("tests/config/several", &["check", "a.yaml", "b.yaml"]);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!("several-files", said);
    let (code, said) = isobar("tests/config/several", &["check", "a.yaml", "c.yaml"]);
    assert_eq!((code, said.lines().next()), (Some(0), Some("a.yaml, c.yaml: ok, serves a, shared, c")), "{said}");
    let (code, _) = isobar("tests/config/several", &["check", "--each", "a.yaml", "b.yaml"]);
    assert_eq!(code, Some(0), "each is good by itself");
}

#[test]
fn good_files_and_ready_profiles_are_accepted_and_survive_being_shown() {
    for path in files("tests/config/good").into_iter().chain(files("config").into_iter().filter(|path| name(path) != "schema.json")) {
        let loaded = load_file(&path);
        let (code, said) = isobar("", &["check", &path.display().to_string()]);
        assert_eq!(code, Some(0), "{said}");
        let yaml = show::yaml(&loaded).expect("plain data");
        let again = load(&yaml).unwrap_or_else(|problems| panic!("shown {}: {problems}\n{yaml}", path.display()));
        assert_eq!(silent(again), silent(loaded.clone()), "{}", path.display());
        let json = show::json(&loaded).expect("plain data").to_string();
        let again = load(&json).unwrap_or_else(|problems| panic!("shown {}: {problems}\n{json}", path.display()));
        assert_eq!(silent(again), silent(loaded), "{}", path.display());
    }
}

#[test]
fn warnings_are_said_and_applied_all_the_same() {
    let (code, said) = isobar("tests/config/good", &["check", "warnings.yaml"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("warnings", said);
}

#[test]
fn everything_is_shown() {
    let (code, said) = isobar("tests/config/good", &["show", "everything.yaml"]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!("everything", said);
    let (_, defaults) = isobar("", &["show"]);
    insta::assert_snapshot!("defaults", defaults);
}

#[test]
fn the_committed_schema_is_current() {
    let committed = std::fs::read_to_string(root().join("config/schema.json")).expect("config/schema.json");
    let (_, current) = isobar("", &["schema"]);
    assert!(committed == current, "run: cargo run -- config schema > config/schema.json");
}

/// The default file, the minimal file, a file that kube-scheduler v1.37 wrote itself, and no file at all are the same, but for names.
#[test]
fn the_default_file_is_upstreams_default() {
    let same_names = |mut configuration: Configuration| {
        configuration.profiles[0].scheduler_name = "x".to_owned();
        configuration.leader_election.resource_name = "x".to_owned();
        configuration.client_connection.kubeconfig = None;
        silent(configuration)
    };
    let expected = same_names(load_file(&root().join("tests/config/good/kubeadm.yaml")));
    let none = config::load(&[], &Registry::in_tree()).expect("the defaults");
    assert_eq!(same_names(none.clone()), expected);
    assert_eq!(same_names(load_file(&root().join("tests/config/good/minimal.yaml"))), expected);
    assert_eq!(same_names(load_file(&root().join("config/default.yaml"))), expected);
    assert_eq!(
        (none.profiles[0].scheduler_name.as_str(), none.leader_election.resource_name.as_str()),
        ("isobar-scheduler", "isobar-scheduler")
    );
    let replacing = load_file(&root().join("config/replace-kube-scheduler.yaml"));
    assert_eq!(replacing.leader_election.resource_name, "kube-scheduler");
}

#[test]
fn ready_profiles_are_what_they_say() {
    let strategy = |file: &str, profile: &str| {
        let configuration = load_file(&root().join("config").join(file));
        let profile = configuration.profile(profile).expect("the profile").clone();
        (profile.args.node_resources_fit.strategy, profile.tie_break)
    };
    assert_eq!(strategy("packing.yaml", "packing"), (ScoringStrategy::MostAllocated, TieBreak::StableRank));
    assert_eq!(strategy("spreading.yaml", "spreading"), (ScoringStrategy::LeastAllocated, TieBreak::Random));
    let (gpu, tie_break) = strategy("gpu-packing.yaml", "gpu-packing");
    assert!(matches!(gpu, ScoringStrategy::RequestedToCapacityRatio(shape) if shape.len() == 2));
    assert_eq!(tie_break, TieBreak::StableRank);
    let spreading = load_file(&root().join("config/spreading.yaml"));
    assert!(matches!(&spreading.profiles[0].args.pod_topology_spread, PodTopologySpreadArgs::List(list) if list.len() == 2));
    let weights = &spreading.profiles[0].plugins.score;
    assert_eq!(weights.iter().find(|plugin| plugin.name == "NodeResourcesFit").map(|plugin| plugin.weight), Some(5));
}

#[test]
fn a_value_from_anywhere_reaches_its_profile() {
    let configuration = load_file(&root().join("tests/config/good/everything.yaml"));
    let [one, two] = &configuration.profiles[..] else { panic!("two profiles") };
    assert_eq!((one.percentage_of_nodes_to_score, two.percentage_of_nodes_to_score), (None, Some(50)), "0 in the profile wins over 50");
    assert_eq!((two.tie_break, two.seed), (TieBreak::StableRank, Some(7)));
    for profile in [one, two] {
        assert_eq!(profile.args.node_resources_fit.ignored_resources, ["example.com/foo"], "the extender's, in every profile");
    }
    assert!(!configuration.extenders[0].ignorable, "needed extenders are called first");
    assert_eq!(configuration.client_connection.qps, None);
    let aliased = load_file(&root().join("tests/config/good/aliases.yaml"));
    let weights: Vec<_> = aliased.profiles.iter().map(|profile| profile.args.inter_pod_affinity.hard_pod_affinity_weight).collect();
    assert_eq!(weights, [5, 5, 5]);
}

/// Lines of real files, so that random texts get past the first word.
fn lines() -> impl Strategy<Value = String> {
    let text: Vec<String> = files("tests/config/good").iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect();
    let lines: Vec<String> = text.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    prop::collection::vec(prop::sample::select(lines), 0..40).prop_map(|lines| lines.join("\n"))
}

fn never_panics(content: &[u8]) {
    let sources = [Source { name: "f", content }, Source { name: "g", content }];
    for sources in [&sources[..1], &sources[..]] {
        match config::load(sources, &Registry::in_tree()) {
            Ok(configuration) => assert!(show::yaml(&configuration).is_ok()),
            Err(problems) => {
                assert!(!problems.0.is_empty());
                assert!(problems.to_string().contains("nothing applied"));
                assert!(problems.0.is_sorted_by_key(|problem| (problem.file.clone(), problem.line, problem.column)));
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(content in prop::collection::vec(any::<u8>(), 0..200)) {
        never_panics(&content);
    }

    #[test]
    fn any_text_is_read_or_refused(content in "\\PC{0,200}") {
        never_panics(content.as_bytes());
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(content in "[-a-c:?&*!|>'\"{}\\[\\],#\n \t~0-9<%@`]{0,120}") {
        never_panics(content.as_bytes());
    }

    #[test]
    fn shuffled_lines_of_good_files_are_read_or_refused(content in lines()) {
        never_panics(content.as_bytes());
    }

    #[test]
    fn a_good_file_with_a_hole_is_read_or_refused(from in 0_usize..4000, len in 0_usize..60, instead in "[-a:{}\\[\\]\n '&*9]{0,4}") {
        let good = std::fs::read_to_string(root().join("tests/config/good/everything.yaml")).expect("readable");
        let from = good.floor_char_boundary(from.min(good.len()));
        let to = good.floor_char_boundary((from + len).min(good.len()));
        never_panics(format!("{}{instead}{}", &good[..from], &good[to..]).as_bytes());
    }
}
