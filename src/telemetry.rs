//! The log. In: a level, a format, a filter from the environment. Out: lines on standard error, as text for people or JSON for collectors.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt as _};

/// Filters by module, as `tracing` reads them (`info,isobar::kubernetes=debug`). The first that is set wins over `-v`.
pub const FILTER_VARIABLES: [&str; 2] = ["ISOBAR_LOG", "RUST_LOG"];

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter in the environment cannot be read.
    #[error("{variable}={value:?} is not a log filter: {source}; write for example: info,isobar::kubernetes=debug")]
    Filter {
        /// Which variable.
        variable: &'static str,
        /// What it says.
        value: String,
        /// Why it cannot be read.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something logs already.
    #[error("a log subscriber is set already: {0}")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the whole process. `verbosity` is `-v N` as Kubernetes' components take it: up to 3 is info, 4 and 5 debug, more is
/// trace, of our own modules; libraries stay a step quieter.
pub fn start(format: LogFormat, verbosity: u8) -> Result<(), TelemetryError> {
    let filter = filter(verbosity, |variable| std::env::var(variable).ok())?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

fn filter(verbosity: u8, variable: impl Fn(&'static str) -> Option<String>) -> Result<EnvFilter, TelemetryError> {
    for name in FILTER_VARIABLES {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
        return EnvFilter::try_new(&value).map_err(|source| TelemetryError::Filter { variable: name, value, source });
    }
    // Libraries stay at warnings below trace: their debug lines drown ours.
    let text = match verbosity_level(verbosity) {
        LevelFilter::TRACE => "debug,isobar=trace".to_owned(),
        // What it says of a connection that fails, we say once and in our words.
        level => format!("warn,async_nats=off,isobar={level}"),
    };
    EnvFilter::try_new(&text).map_err(|source| TelemetryError::Filter { variable: "-v", value: text, source })
}

/// Kubernetes' numbers as levels.
fn verbosity_level(verbosity: u8) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4 | 5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(verbosity: u8, variables: &[(&str, &str)]) -> Result<String, String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        filter(verbosity, lookup).map(|filter| filter.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_are_kubernetes() {
        for (verbosity, filter) in [
            (0, "async_nats=off,isobar=info,warn"),
            (3, "async_nats=off,isobar=info,warn"),
            (4, "async_nats=off,isobar=debug,warn"),
            (5, "async_nats=off,isobar=debug,warn"),
            (6, "isobar=trace,debug"),
        ] {
            assert_eq!(filtered(verbosity, &[]).as_deref(), Ok(filter), "-v {verbosity}");
        }
    }

    #[test]
    fn the_environment_wins_and_ours_before_rusts() {
        for (variables, filter) in [
            (vec![("RUST_LOG", "error")], "error"),
            (vec![("RUST_LOG", "error"), ("ISOBAR_LOG", "trace")], "trace"),
            (vec![("ISOBAR_LOG", ""), ("RUST_LOG", "error")], "error"),
        ] {
            assert_eq!(filtered(6, &variables).as_deref(), Ok(filter), "{variables:?}");
        }
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = filtered(0, &[("ISOBAR_LOG", "isobar=loud")]).unwrap_err();
        assert!(error.starts_with("ISOBAR_LOG=\"isobar=loud\" is not a log filter"), "{error}");
    }
}
