//! What a process has cost so far. In: a pid. Out: CPU time and peak memory, as the kernel counts them.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// `USER_HZ`: what /proc counts in. 100 on every architecture that Kubernetes runs on.
const TICKS_PER_SECOND: u64 = 100;

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// `VmHWM`: the most that was resident at one time.
    pub peak_memory_bytes: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let ticks = cpu_ticks(&stat).with_context(|| format!("cannot read CPU time from {stat:?}"))?;
        let peak_kib = peak_memory_kib(&status).with_context(|| format!("process {pid} has no VmHWM"))?;
        Ok(Self { cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND), peak_memory_bytes: peak_kib * 1024 })
    }
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    // The program's name, in parentheses, may itself hold blanks and parentheses; fields count from behind it: utime is 14, stime 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn peak_memory_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

#[test]
fn reads_the_fields_of_proc() {
    assert_eq!(cpu_ticks("7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 31 11 0 0 20 0 1 0 1 1"), Some(42));
    assert_eq!(peak_memory_kib("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 1000 kB\n"), Some(1234));
    assert!(Usage::of(std::process::id()).is_ok_and(|usage| usage.peak_memory_bytes > 0));
}
