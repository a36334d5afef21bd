//! `isobar demo`. In: a seed. Out: an hour of a weather service on four clusters in memory, told in a report and a picture; or home served to kubectl.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::demo::{self, DemoOptions, Outcome, Progress, ServeOptions};
use crate::telemetry::{self, LogFormat};

/// Longest demo: a day is drawn and counted in a minute.
const MINUTES_MAX: u64 = 24 * 60;
/// Folder below the system's one for temporary files.
const FOLDER: &str = "isobar-demo";

/// Show Isobar at work on clusters in memory: no cluster, no privileges, no network needed
///
/// An hour of a weather service is played in seconds: a home cluster, an ARM hall, an x86 cloud whose line is cut for a while, and a GPU cloud; pods, and the
/// tasks of manifests/examples. API servers and kubelets are simulated, scheduler and tasks are those that `isobar run` starts. The same seed gives the same
/// placements.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Decides arrivals, run times and ties
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Simulated minutes in which work arrives
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MINUTES_MAX))]
    minutes: u64,
    /// Folder for the picture, the list of placements and the kubeconfig; below the system's temporary folder if not given
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Serve the home cluster to kubectl in real time until interrupted
    #[arg(long, conflicts_with = "minutes")]
    serve: bool,
    /// Port on 127.0.0.1 for --serve; 0 takes a free one
    #[arg(long, default_value_t = 0, requires = "serve")]
    port: u16,
}

impl DemoArgs {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let out = self.out.clone().unwrap_or_else(|| std::env::temp_dir().join(FOLDER));
        std::fs::create_dir_all(&out).with_context(|| format!("making folder {}; --out takes another one", out.display()))?;
        let out = out.canonicalize().with_context(|| format!("finding folder {}", out.display()))?;
        if self.serve { self.serve(&out) } else { self.play(&out) }
    }

    fn play(&self, out: &Path) -> anyhow::Result<ExitCode> {
        let options = DemoOptions { seed: self.seed, minutes: self.minutes };
        let mut teller = Teller { on_terminal: std::io::stderr().is_terminal() };
        let outcome = demo::run(options, &mut |progress| teller.tell(progress))?;
        teller.finish();
        let picture = demo::svg(&outcome).map_err(anyhow::Error::msg)?;
        let picture_at = write(out, "utilisation.svg", &picture)?;
        let placements_at = write(out, "placements.csv", &placements(&outcome))?;
        let mut stdout = std::io::stdout().lock();
        write!(stdout, "{}", demo::render(&outcome))?;
        writeln!(stdout)?;
        write!(stdout, "{}", demo::measured(&outcome))?;
        writeln!(stdout, "Picture: {}\nPlacements: {}", picture_at.display(), placements_at.display())?;
        let wrong: Vec<_> = demo::faults(&outcome).into_iter().filter(|(_, count)| *count > 0).collect();
        if !wrong.is_empty() {
            bail!("the demo found faults; this is a bug, please report it with the seed: {wrong:?}");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn serve(&self, out: &Path) -> anyhow::Result<ExitCode> {
        telemetry::start(LogFormat::Text, 0)?;
        let options = ServeOptions { seed: self.seed, port: self.port, kubeconfig: out.join("kubeconfig") };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(demo::serve(&options, |address| {
            let kubeconfig = options.kubeconfig.display();
            println!(
                "The in-memory API server listens on http://{address}; stop it with Ctrl-C. In another terminal:\n\n  \
                 export KUBECONFIG='{kubeconfig}'\n\n  \
                 kubectl get computeclusters,nodes,pods -o wide\n  \
                 kubectl run hello --image=registry.example/hello:1 && kubectl describe pod hello\n  \
                 isobar explain default/wants-riscv\n  \
                 isobar task list && isobar task runs"
            );
        }))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("writing {}; --out takes another folder", path.display()))?;
    Ok(path)
}

fn placements(outcome: &Outcome) -> String {
    let lines =
        outcome.history.placements().into_iter().map(|(pod, place, at_ms)| format!("{pod},{},{at_ms}\n", place.replacen('/', ",", 1)));
    std::iter::once("pod,cluster,node,bound_ms\n".to_owned()).chain(lines).collect()
}

/// Says how far it is: on one line of a terminal, line by line elsewhere.
struct Teller {
    on_terminal: bool,
}

impl Teller {
    fn tell(&mut self, progress: Progress) {
        let Progress { minute, minutes, created, bound, waiting, running } = progress;
        let line =
            format!("minute {minute:3} of {minutes}: {created:4} pods created, {bound:4} bound, {running:4} running, {waiting:4} waiting");
        let mut stderr = std::io::stderr().lock();
        // Nobody may be reading; the report counts.
        _ = if self.on_terminal { write!(stderr, "\r{line}").and_then(|()| stderr.flush()) } else { writeln!(stderr, "{line}") };
    }

    fn finish(&self) {
        if self.on_terminal {
            eprintln!("\n");
        }
    }
}
