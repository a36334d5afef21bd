//! The engine against the plugins of the real kube-scheduler, bit for bit: feasible nodes, who refuses and why, every score, the best nodes, the message.
//! In: kept vectors, or fresh cases and the oracle. Out: every difference, shrunk, with both answers. README.md beside this file says how to run it.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test says what it expects by failing
#![allow(clippy::needless_pass_by_value)]

mod cases;
mod compare;
mod coverage;
mod mutants;
mod programs;
mod shrink;
mod vectors;

use std::{collections::BTreeSet, process::Command};

use cases::{FAMILIES, Family};
use compare::differences;
use coverage::Coverage;
use programs::{answers, isobar, oracle};
use serde_json::Value;

/// Cases given to the programs at once; bounds what is held in memory.
const CHUNK: u64 = 2_000;
/// Fewer cases of a family need not have reached everything.
const CASES_ENOUGH: u64 = 250;
/// Differing cases that are shown; the first tell what is wrong.
const SHOWN_MAX: usize = 12;
/// Of a family those that are shrunk, which takes a minute each.
const SHRUNK_MAX: usize = 1;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[test]
fn kept_vectors_are_decided_the_same() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for family in FAMILIES.iter().filter(|family| family.built()) {
        let (cases, real) = vectors::read(family.name);
        let ours = answers(isobar(), &cases);
        count += cases.len();
        let mut coverage = Coverage::default();
        for ((case, ours), real) in cases.iter().zip(&ours).zip(&real) {
            coverage.add(real);
            let found = differences(ours, real);
            if !found.is_empty() {
                wrong.push(format!("{}\n  {}\n", found.join("\n  "), case));
            }
        }
        wrong.extend(unreached(family, &coverage));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(SHOWN_MAX)].concat());
    assert!(count >= 2_000, "{count} vectors only");
}

/// With `ISOBAR_ORACLE_CASES` cases over all families, from `ISOBAR_ORACLE_SEED`; nothing without the former.
#[test]
fn fresh_cases_are_decided_the_same() {
    let Some(count) = setting("ISOBAR_ORACLE_CASES") else { return };
    let seed = setting("ISOBAR_ORACLE_SEED").unwrap_or(1);
    let only = std::env::var("ISOBAR_ORACLE_FAMILY").ok();
    let families: Vec<&Family> = FAMILIES.iter().filter(|family| only.as_deref().is_none_or(|only| only == family.name)).collect();
    let built = families.iter().filter(|family| family.built()).count().max(1) as u64;
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for family in families {
        let share = count.div_ceil(built);
        let (coverage, found) = run(family, seed, share);
        println!("=== {}, seed {seed}: {share} cases{}", family.name, if family.built() { "" } else { ", real plugins only" });
        println!("{}", coverage.lines());
        compared += if family.built() { share } else { 0 };
        if share >= CASES_ENOUGH {
            wrong.extend(unreached(family, &coverage));
        }
        wrong.extend(found);
    }
    println!("{compared} cases compared, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "seed {seed}: {} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(SHOWN_MAX)].concat());
}

/// What a family should have reached.
fn unreached(family: &Family, coverage: &Coverage) -> Vec<String> {
    coverage.missing(family.reach).into_iter().map(|what| format!("family {} never reached: {what}\n", family.name)).collect()
}

fn run(family: &Family, seed: u64, count: u64) -> (Coverage, Vec<String>) {
    let (mut coverage, mut wrong) = (Coverage::default(), Vec::new());
    for begin in (0..count).step_by(usize::try_from(CHUNK).expect("small")) {
        let cases: Vec<Value> = (begin..count.min(begin + CHUNK)).map(|number| family.case(seed, number)).collect();
        let lines: Vec<String> = cases.iter().map(ToString::to_string).collect();
        let real = answers(the_oracle(), &lines);
        real.iter().for_each(|answer| coverage.add(answer));
        let broken = real.iter().zip(&lines).filter(|(answer, _)| answer.get("broken").is_some());
        wrong.extend(broken.map(|(answer, line)| format!("the oracle cannot answer: {answer}\n  {line}\n")));
        if !family.built() {
            continue;
        }
        for ((case, ours), real) in cases.iter().zip(answers(isobar(), &lines)).zip(&real) {
            let found = differences(&ours, real);
            if !found.is_empty() {
                wrong.push(if wrong.len() < SHRUNK_MAX { shown(case) } else { format!("{}: {}\n", case["id"], found.join("\n  ")) });
            }
        }
    }
    (coverage, wrong)
}

fn the_oracle() -> Command {
    oracle().expect("the oracle is not built: run testbed/oracle/build")
}

/// The shrunk case with both answers.
fn shown(case: &Value) -> String {
    let both = |cases: &[Value]| {
        let lines: Vec<String> = cases.iter().map(ToString::to_string).collect();
        answers(isobar(), &lines).into_iter().zip(answers(the_oracle(), &lines)).collect::<Vec<_>>()
    };
    // A case that one of them cannot answer is another finding than this.
    let differs =
        |(ours, real): &(Value, Value)| ours.get("pod").is_some() && real.get("broken").is_none() && !differences(ours, real).is_empty();
    let smallest = shrink::shrink(case, &|cases| both(cases).iter().map(differs).collect());
    let (ours, real) = &both(std::slice::from_ref(&smallest))[0];
    format!("{}: {}\n  case:   {smallest}\n  isobar: {ours}\n  real:   {real}\n", case["id"], differences(ours, real).join("\n  "))
}

/// Makes the kept vectors anew, `ISOBAR_ORACLE_KEEP` of each family.
#[test]
#[ignore = "writes into the checkout; needs the oracle"]
fn vectors_are_made_anew() {
    let count = setting("ISOBAR_ORACLE_KEEP").unwrap_or(300);
    let seed = setting("ISOBAR_ORACLE_SEED").unwrap_or(1);
    for family in &FAMILIES {
        let cases: Vec<String> = (0..count).map(|number| family.case(seed, number).to_string()).collect();
        vectors::write(family.name, &cases, &answers(the_oracle(), &cases));
    }
}

#[test]
fn a_seed_makes_the_same_cases() {
    for family in &FAMILIES {
        assert_eq!(family.case(7, 3), family.case(7, 3));
        assert_ne!(family.case(7, 3), family.case(7, 4));
        assert_ne!(family.case(7, 3), family.case(8, 3));
    }
}

/// Each part of an answer is looked at: an answer that is right but for one thing is told apart.
#[test]
fn a_wrong_answer_is_seen() {
    let (cases, real) = vectors::read("mixed");
    let mut seen = BTreeSet::new();
    for (right, real) in answers(isobar(), &cases).iter().zip(&real).filter(|(right, real)| differences(right, real).is_empty()) {
        for place in places_to_spoil(right, real) {
            let mut wrong = right.clone();
            *wrong.pointer_mut(&place).unwrap() = "wrong".into();
            assert!(!differences(&wrong, real).is_empty(), "{place} of {right}");
            seen.insert(place.rsplit('/').next().unwrap().to_owned());
        }
    }
    let all = ["best", "code", "error", "feasible", "gated", "message", "normalized", "plugin", "raw", "reasons", "total", "weighted"];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

fn places_to_spoil(answer: &Value, real: &Value) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    let first = |field: &str| answer[field].as_object().and_then(|fields| fields.keys().next().cloned());
    if real["scores"].is_object() {
        places.extend(["/feasible", "/best", "/total"].map(str::to_owned));
    }
    places.extend(["error", "gated", "message"].iter().filter(|field| !answer[**field].is_null()).map(|field| format!("/{field}")));
    if let Some(node) = first("infeasible") {
        places.extend(["plugin", "code", "reasons"].map(|field| format!("/infeasible/{node}/{field}")));
    }
    if let Some(plugin) = first("scores").filter(|_| real["scores"].is_object()) {
        let node = answer["feasible"][0].as_str().unwrap_or_default();
        places.extend(["raw", "normalized", "weighted"].map(|field| format!("/scores/{plugin}/{node}/{field}")));
    }
    places
}
