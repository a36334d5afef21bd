//! The process seen from outside. In: `/proc/self` (Linux). Out: `process_*` lines for a scrape; nothing where there is no `/proc`.

use std::{fmt::Write as _, fs};

use super::table::PROCESS_TABLE;

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, which Linux fixes at 100 for user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What `/proc` says, in the units of the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    max_fds: f64,
    start_seconds: f64,
    threads: f64,
}

/// Lines in the text format; empty when `/proc` cannot be read.
pub(super) fn render() -> String {
    let Some(process) = read() else { return String::new() };
    let mut text = String::new();
    for spec in PROCESS_TABLE {
        let value = match spec.name {
            "process_cpu_seconds_total" => process.cpu_seconds,
            "process_resident_memory_bytes" => process.resident_bytes,
            "process_virtual_memory_bytes" => process.virtual_bytes,
            "process_open_fds" => process.open_fds,
            "process_max_fds" => process.max_fds,
            "process_start_time_seconds" => process.start_seconds,
            "process_threads" => process.threads,
            _ => continue,
        };
        let (name, kind) = (spec.name, spec.kind.word());
        let _infallible = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n{name} {value}\n", spec.help);
    }
    text
}

fn read() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let mut process = parse(&stat, &status, &limits, &boot)?;
    // Reading the directory opens one more.
    process.open_fds = fs::read_dir("/proc/self/fd").ok().map_or(0.0, |entries| as_float(entries.count().saturating_sub(1)));
    Some(process)
}

fn parse(stat: &str, status: &str, limits: &str, boot: &str) -> Option<Process> {
    // The command's name is in parentheses and may itself hold spaces and parentheses: fields count from the last one. Field 3 is the first here.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let kib = |key: &str| status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse::<f64>().ok();
    let booted = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    Some(Process {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        resident_bytes: kib("VmRSS:")? * 1024.0,
        virtual_bytes: kib("VmSize:")? * 1024.0,
        open_fds: 0.0,
        max_fds: max_fds.parse().unwrap_or(f64::INFINITY),
        start_seconds: booted + field(22)? / TICKS_PER_SECOND,
        threads: field(20)?,
    })
}

#[allow(clippy::cast_precision_loss)] // counts of open files stay far below 2^53
fn as_float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000 50 184";
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\n";
        let limits = "Max open files            1024                 4096                 files     \n";
        let got = parse(stat, status, limits, "cpu 1\nbtime 1700000000\n").expect("all there");
        let (cpu_seconds, resident_bytes, virtual_bytes) = (3.0, 524_288.0, 2_097_152.0);
        let start_seconds = 1_700_000_123.45;
        assert_eq!(
            got,
            Process { cpu_seconds, resident_bytes, virtual_bytes, open_fds: 0.0, max_fds: 1024.0, start_seconds, threads: 9.0 }
        );
    }

    #[test]
    fn garbage_gives_nothing() {
        for stat in ["", "7 (x", "7 (x) S", "7 (x) S 1 2 3 4 5 6 7 8 9 10 u s"] {
            assert_eq!(parse(stat, "VmSize: 1 kB\nVmRSS: 1 kB", "Max open files 1", "btime 1"), None, "{stat}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_there() {
        let process = read().expect("linux has /proc");
        assert!(process.resident_bytes > 1e6 && process.open_fds >= 3.0 && process.threads >= 1.0 && process.start_seconds > 1e9);
        assert_eq!(render().matches("# TYPE ").count(), PROCESS_TABLE.len());
    }
}
