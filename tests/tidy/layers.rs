//! Who may know whom. In: the paths that each file names. Out: a finding for every import against the direction of the rooms, and for everything
//! that a pure room must not name.

use crate::source::{Finding, Source};

/// Rooms without I/O, clock, async code and Kubernetes types: the same input gives the same output, always.
const PURE_ROOMS: [&str; 5] = ["model", "scheduler", "federation", "tasks", "config"];

/// The rooms below `cli`. That a room may import itself goes without saying.
const BELOW_CLI: [&str; 16] = [
    "model",
    "scheduler",
    "config",
    "federation",
    "tasks",
    "metrics",
    "telemetry",
    "kubernetes",
    "http",
    "archive",
    "extenders",
    "driver",
    "live",
    "sim",
    "app",
    "demo",
];

/// Every room with the rooms it may import, besides itself. A room that is not here is refused: say where it belongs first.
const ROOMS: [(&str, &[&str]); 18] = [
    ("model", &[]),
    ("scheduler", &["model"]),
    ("config", &["model", "scheduler"]),
    ("federation", &["model", "scheduler", "config"]),
    ("tasks", &["model", "config"]),
    ("metrics", &["model", "scheduler"]),
    ("telemetry", &[]),
    ("kubernetes", &["model", "scheduler", "config", "federation", "tasks", "metrics"]),
    ("http", &["model", "scheduler", "config", "federation", "tasks", "metrics", "kubernetes"]),
    ("archive", &["model", "metrics", "kubernetes", "http"]),
    ("extenders", &["model", "scheduler", "config", "metrics", "kubernetes"]),
    ("driver", &["model", "scheduler", "config", "federation", "tasks", "metrics", "kubernetes"]),
    ("live", &["model", "scheduler", "config", "federation", "tasks", "metrics", "kubernetes", "archive", "extenders", "driver"]),
    ("sim", &["model", "scheduler", "config", "federation", "metrics", "kubernetes", "extenders", "driver", "live"]),
    (
        "app",
        &[
            "model",
            "scheduler",
            "config",
            "federation",
            "tasks",
            "metrics",
            "telemetry",
            "kubernetes",
            "http",
            "archive",
            "extenders",
            "driver",
            "live",
        ],
    ),
    ("demo", &BELOW_CLI),
    ("cli", &BELOW_CLI),
    ("main", &["cli"]),
];

/// Single files that may import against the table, each with the reason.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "src/kubernetes/review.rs",
    "http",
    "it answers the trait `Reviewer` that `http` asks: the server names its question, the client fulfils it",
)];

/// Single files of pure rooms that may name something impure, each with the reason.
const MAY_NAME: [(&str, &str, &str); 1] = [(
    "src/tasks/trigger/calendar.rs",
    "jiff",
    "civil time in a zone is computed, from rules that are part of the program; no clock is read",
)];

/// What a pure room must not name, and what to do instead.
const IMPURE: [(&str, &str); 21] = [
    ("tokio", "the pure rooms are synchronous: return a Command and let the driver act"),
    ("futures", "the pure rooms are synchronous: return a Command and let the driver act"),
    ("kube", "no Kubernetes types: make facts of it in src/kubernetes/wire"),
    ("k8s_openapi", "no Kubernetes types: make facts of it in src/kubernetes/wire"),
    ("axum", "no I/O: serve it from src/http"),
    ("hyper", "no I/O: serve it from src/http"),
    ("jiff", "time is an argument: model::time::Timestamp"),
    ("std::fs", "no I/O: let cli or app read the file and pass its text"),
    ("std::net", "no I/O"),
    ("std::io", "no I/O"),
    ("std::env", "no environment: pass the value in"),
    ("std::process", "no processes"),
    ("std::thread", "no threads: the engine has one owner"),
    ("std::sync::Mutex", "no locks: the engine has one writer"),
    ("std::sync::RwLock", "no locks: the engine has one writer"),
    ("std::time::SystemTime", "time is an argument: model::time::Timestamp"),
    ("std::time::Instant", "time is an argument; stopwatches are the Observer's (`Observer::ticks`)"),
    ("rand::rng", "random numbers come from a seed in the settings"),
    ("rand::random", "random numbers come from a seed in the settings"),
    ("rand::thread_rng", "random numbers come from a seed in the settings"),
    ("rand::rngs", "use the named generator rand_pcg: StdRng may change with a release"),
];

/// Values of `std::net` that do nothing: an address is a number.
const PLAIN_ADDRESSES: [&str; 6] = ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];

/// Words of async code; they are not paths.
const ASYNC_WORDS: [&str; 4] = ["async fn", "async move", "async {", ".await"];

/// Everything wrong with the layering of a file.
pub fn check(source: &Source) -> Vec<Finding> {
    let Some(room) = source.room().filter(|room| *room != "lib") else { return Vec::new() };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![source.finding(1, format!("the room `{room}` is not in the table of tests/tidy/layers.rs: say what it may import"))];
    };
    let mut findings = imports(source, room, allowed);
    if PURE_ROOMS.contains(&room) {
        findings.extend(impure_names(source));
    }
    findings
}

fn imports(source: &Source, room: &str, allowed: &[&str]) -> Vec<Finding> {
    let may = |other: &str| {
        other == room || allowed.contains(&other) || EXCEPTIONS.iter().any(|(file, exempt, _)| *file == source.path && *exempt == other)
    };
    let mut findings = Vec::new();
    for (line, path) in source.paths() {
        let Some(other) = imported_room(source, &path) else { continue };
        if ROOMS.iter().any(|(name, _)| *name == other) && !may(&other) {
            findings.push(source.finding(
                line,
                format!("`{room}` may not import `{other}`: dependencies point inwards (tests/tidy/layers.rs has the table)"),
            ));
        }
    }
    findings
}

/// The room that a path leads into: `crate::x`, `isobar::x`, or enough `super`s.
fn imported_room(source: &Source, path: &str) -> Option<String> {
    let mut parts = path.split("::").peekable();
    if matches!(parts.peek(), Some(&"crate" | &"isobar")) {
        return parts.nth(1).map(str::to_owned);
    }
    let ups = path.split("::").take_while(|part| *part == "super").count();
    let inside = source.path.strip_prefix("src/")?.trim_end_matches(".rs");
    let depth = inside.trim_end_matches("/mod").split('/').count();
    (ups > 0 && ups >= depth).then(|| path.split("::").nth(ups).map(str::to_owned))?
}

fn impure_names(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_address = |path: &str| {
        path.strip_prefix("std::net::").is_some_and(|rest| PLAIN_ADDRESSES.iter().any(|plain| rest.split("::").next() == Some(plain)))
    };
    for (line, path) in source.paths().into_iter().filter(|(_, path)| !is_address(path)) {
        let named = IMPURE.iter().find(|(name, _)| path == *name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with("::")));
        let may = |name: &str| MAY_NAME.iter().any(|(file, exempt, _)| *file == source.path && *exempt == name);
        if let Some((name, instead)) = named.filter(|(name, _)| !may(name)) {
            findings.push(source.finding(line, format!("a pure room names `{name}`: {instead}")));
        }
    }
    for (line, text) in source.product_lines() {
        if let Some(word) = ASYNC_WORDS.iter().find(|word| text.contains(**word)) {
            findings.push(source.finding(line, format!("a pure room says `{word}`: the pure rooms are synchronous")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path, text, false)).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn every_impure_name_is_refused_in_every_pure_room_in_each_way_of_writing_it() {
        for room in PURE_ROOMS {
            for (name, _) in IMPURE {
                let (head, tail) = name.rsplit_once("::").unwrap_or((name, "Thing"));
                let tree = format!("use {head}::{{cell, {tail}}};");
                for text in [format!("use {name};"), format!("fn f() {{ {name}::x() }}"), tree] {
                    let path = format!("src/{room}/x.rs");
                    assert!(whats(&path, &text).iter().any(|what| what.contains(name)), "{text} passes in {room}");
                }
            }
            for word in ["async fn f() {}", "fn f() { async move {} }", "fn f() { async { } }", "fn f() { g().await }"] {
                assert_eq!(whats(&format!("src/{room}/x.rs"), word).len(), 1, "{word} passes in {room}");
            }
        }
    }

    #[test]
    fn impure_names_are_free_elsewhere_and_in_tests_comments_and_longer_words() {
        assert!(whats("src/kubernetes/x.rs", "use tokio::time; async fn f() {}").is_empty());
        for text in [
            "#[cfg(test)]\nmod tests { use std::fs; }",
            "// tokio::spawn",
            "let a = \"std::fs\";",
            "use tokio_like::x; use my::tokio;",
            "use std::net::{IpAddr, SocketAddr};",
        ] {
            assert!(whats("src/model/x.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn imports_point_inwards() {
        for (path, text, refused) in [
            ("src/model/x.rs", "use crate::scheduler::cache;", true),
            ("src/model/x.rs", "use super::super::scheduler::cache;", true),
            ("src/model/x.rs", "use super::scheduler;", false),
            ("src/model/mod.rs", "use super::scheduler::cache;", true),
            ("src/scheduler/view/mod.rs", "use super::super::config::load;", true),
            ("src/scheduler/view/mod.rs", "use super::config::load;", false),
            ("src/scheduler/view/lane.rs", "use super::super::super::config::load;", true),
            ("src/scheduler/x.rs", "use crate::{model::ids, config};", true),
            ("src/scheduler/x.rs", "use crate::{model::ids, scheduler::{cache, view}};", false),
            ("src/scheduler/x.rs", "fn f() { crate::config::load() }", true),
            ("src/config/x.rs", "use crate::{model::ids, scheduler::cache};", false),
            ("src/kubernetes/x.rs", "use crate::http::Reviewer;", true),
            ("src/kubernetes/review.rs", "use crate::http::Reviewer;", false),
            ("src/kubernetes/review.rs", "use crate::cli::run;", true),
            ("src/sim/x.rs", "use crate::demo::run;", true),
            ("src/main.rs", "fn main() { isobar::cli::main() }", false),
            ("src/main.rs", "fn main() { isobar::app::run() }", true),
            ("src/helpers2/x.rs", "", true),
        ] {
            assert_eq!(!whats(path, text).is_empty(), refused, "{path}: {text}");
        }
    }

    #[test]
    fn the_table_has_no_circle() {
        for (at, (room, allowed)) in ROOMS.iter().enumerate() {
            let before: Vec<&str> = ROOMS[..at].iter().map(|(name, _)| *name).collect();
            assert!(allowed.iter().all(|other| other == room || before.contains(other)), "{room} imports a room that stands after it");
        }
    }
}
