//! `isobar config check|schema|show`. In: files. Out: every problem with its line, the JSON Schema, or the configuration with all that it leaves unsaid.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::files::{File, load, read_all};
use crate::config::{Configuration, schema, show};
use crate::scheduler::registry::{ExtensionPoint, Registry};

/// Check, describe and write out configuration files.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say everything that is wrong with configuration files; exit code 1 if anything is
    ///
    /// Several files are checked as one configuration, as `isobar run` would load them.
    Check {
        /// Files; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Check each file by itself
        #[arg(long)]
        each: bool,
    },
    /// Print the JSON Schema of configuration files, for editors
    Schema,
    /// Print the configuration with every default and every plugin list written out
    ///
    /// The output is a valid configuration file itself. Without files: the defaults.
    Show {
        /// Files; - is standard input
        files: Vec<PathBuf>,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
        output: Output,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

impl ConfigArgs {
    /// Runs the subcommand.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = std::io::stdout().lock();
        match self.command {
            ConfigCommand::Check { files, each } => {
                let files = read_all(&files)?;
                let batches: Vec<&[File]> = if each { files.chunks(1).collect() } else { vec![&files] };
                let mut good = true;
                for batch in batches {
                    good &= check(batch, &mut out)?;
                }
                Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            ConfigCommand::Schema => {
                write!(out, "{}", schema::text())?;
                Ok(ExitCode::SUCCESS)
            }
            ConfigCommand::Show { files, output } => match load(&read_all(&files)?) {
                Ok(configuration) => {
                    match output {
                        Output::Yaml => write!(out, "{}", show::yaml(&configuration)?)?,
                        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&show::json(&configuration)?)?)?,
                    }
                    Ok(ExitCode::SUCCESS)
                }
                Err(problems) => {
                    eprintln!("{problems}");
                    Ok(ExitCode::FAILURE)
                }
            },
        }
    }
}

/// Prints what there is to say; whether all is well.
fn check(files: &[File], out: &mut impl Write) -> std::io::Result<bool> {
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    match load(files) {
        Err(problems) => {
            writeln!(out, "{problems}")?;
            Ok(false)
        }
        Ok(configuration) => {
            for warning in &configuration.warnings {
                writeln!(out, "{warning}")?;
            }
            let profiles: Vec<_> = configuration.profiles.iter().map(|profile| profile.scheduler_name.as_str()).collect();
            writeln!(out, "{}: ok, serves {}", names.join(", "), profiles.join(", "))?;
            note_missing(&configuration, out)?;
            Ok(true)
        }
    }
}

/// What this version cannot do yet is said before it is found out.
fn note_missing(configuration: &Configuration, out: &mut impl Write) -> std::io::Result<()> {
    let registry = Registry::in_tree();
    let used = |name: &str| {
        let runs = |point| configuration.profiles.iter().any(|profile| profile.plugins.names(point).contains(&name));
        ExtensionPoint::ALL.into_iter().any(runs)
    };
    let missing: Vec<_> = registry.iter().filter(|info| !info.built && used(info.name)).map(|info| info.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    writeln!(out, "note: not built in this version, so pods that need one of them stay pending: {}", missing.join(", "))
}
