//! One suite, either scheduler: rows of objects, steps and what must come true, played over the API against the real kube-scheduler and against Isobar,
//! with the same rig and the same configuration file. A row that kube-scheduler does not pass is a wrong row and fails the test.

mod extender;
mod stage;
mod table;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};

use self::{stage::Stage, table::Table};
use crate::harness::{
    assets::{Program, available},
    control_plane::{ControlPlane, Options},
    scheduler::{self, Scheduler},
};

/// A pod that failed once waits a second, twice two, and so on up to ten; no row needs more than two failures before its time comes.
const BEFORE_LONG: Duration = Duration::from_secs(45);
const SCHEDULER_NAME: &str = "default-scheduler";

macro_rules! area {
    ($name:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            both(stringify!($name), include_str!(concat!(stringify!($name), ".yaml"))).await
        }
    };
}

area!(filters);
area!(spread);
area!(affinity);
area!(scoring);
area!(queueing);
area!(preemption);
area!(profiles);
area!(conditions);
area!(volumes);
area!(extenders);

/// Without this a rig that sees nothing would pass everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_wrong_fail() -> Result<()> {
    let table = table::read("wrong", include_str!("wrong.yaml"))?;
    let kind = scheduler::Kind::KubeScheduler;
    if !available("rows_that_are_wrong_fail", &[Program::Etcd, Program::KubeApiserver]) || !kind.available("rows_that_are_wrong_fail") {
        return Ok(());
    }
    let plane = ControlPlane::start(Options::default()).await?;
    let mut failed = Vec::new();
    let within = Duration::from_secs(3);
    let passed = play(&plane, kind, "wrong", &table, within, &mut BTreeSet::new(), &mut failed).await?;
    ensure!(passed == 0 && failed.len() == table.rows.len(), "{passed} wrong rows pass; of the others: {failed:#?}");
    Ok(())
}

async fn both(name: &str, text: &str) -> Result<()> {
    let table = table::read(name, text)?;
    let kinds = [scheduler::Kind::KubeScheduler, scheduler::Kind::Isobar];
    let mut programs = vec![Program::Etcd, Program::KubeApiserver];
    programs.extend(table.controllers.is_some().then_some(Program::KubeControllerManager));
    if !available(name, &programs) || !kinds.iter().all(|kind| kind.available(name)) {
        return Ok(());
    }
    let mut options = Options { controllers: table.controllers.clone(), ..Options::default() };
    options.apiserver.priority = true;
    let plane = ControlPlane::start(options).await?;
    let mut priorities = BTreeSet::new();
    let mut failed = Vec::new();
    for kind in kinds {
        let passed = play(&plane, kind, name, &table, BEFORE_LONG, &mut priorities, &mut failed).await?;
        println!("{name}: {} passes {passed} of {} rows", kind.name(), table.rows.len());
    }
    ensure!(failed.is_empty(), "{} rows failed\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

/// Plays the rows that the environment asks for, all without it; returns how many came true.
async fn play(
    plane: &ControlPlane,
    kind: scheduler::Kind,
    name: &str,
    table: &Table,
    within: Duration,
    priorities: &mut BTreeSet<i64>,
    failed: &mut Vec<String>,
) -> Result<usize> {
    let identity = format!("{}-{name}", kind.name());
    let extenders = if name == "extenders" { extender::serve(plane.client()).await? } else { serde_json::Value::Null };
    let options = scheduler::Options::new(&identity, SCHEDULER_NAME)
        .with_profile(table.profile.clone())
        .with_more_profiles(&table.more_profiles)
        .with_extenders(extenders);
    let mut scheduler = Scheduler::start(plane, kind, &options).await?;
    let mut stage = Stage {
        client: plane.client(),
        scheduler_name: SCHEDULER_NAME.to_owned(),
        prefix: identity,
        within,
        priorities: std::mem::take(priorities),
    };
    let wanted = std::env::var("ISOBAR_PARITY_ROW").unwrap_or_default();
    let mut passed = 0;
    for (number, row) in table.rows.iter().enumerate().filter(|(_, row)| row.name.contains(&wanted)) {
        match stage.play(number, row).await {
            Ok(()) => passed += 1,
            Err(why) => failed.push(format!("{}: {why:#}", kind.name())),
        }
        scheduler.process.ensure_running()?;
    }
    *priorities = stage.priorities;
    scheduler.process.stop(Duration::from_secs(20)).await?;
    Ok(passed)
}
