//! One child process. In: a program, its arguments, a folder for its log. Out: a handle that knows the pid, sends signals, shows the log's end,
//! and ends the child when dropped.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// How much of a log an error carries.
const LOG_TAIL_LINES: usize = 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends by the program's own shutdown.
    Term,
    /// Freezes, as a paused machine does.
    Stop,
    /// Ends a freeze.
    Continue,
    /// Ends at once, as a crash does.
    Kill,
}

impl Signal {
    const fn flag(self) -> &'static str {
        match self {
            Self::Term => "-TERM",
            Self::Stop => "-STOP",
            Self::Continue => "-CONT",
            Self::Kill => "-KILL",
        }
    }
}

/// Sends a signal to a child of this process.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    // The shell's builtin, because a safe `kill(2)` is not in the standard library.
    let command = format!("kill {} {pid}", signal.flag());
    let status = Command::new("sh").args(["-c", &command]).status().context("run sh")?;
    ensure!(status.success(), "{command} failed");
    Ok(())
}

#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with both outputs in `folder/name.log`.
    pub fn start<S: AsRef<OsStr>>(name: &str, program: &Path, arguments: impl IntoIterator<Item = S>, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut command = dying_with_parent(program);
        command.args(arguments).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, which: Signal) -> Result<()> {
        signal(self.pid(), which).with_context(|| self.name.clone())
    }

    /// SIGKILL, and reaped on return.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// SIGTERM, then SIGKILL when `grace` has passed.
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        self.signal(Signal::Term)?;
        let begin = Instant::now();
        while begin.elapsed() < grace {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill()?;
        bail!("{} did not end within {grace:?} of SIGTERM\n{}", self.name, self.log_tail())
    }

    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error with the log's end where the child is gone.
    pub fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.has_ended()? {
            bail!("{} ended early with {status}\n{}", self.name, self.log_tail());
        }
        Ok(())
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // By pid, and reaped; a child that is gone already is no error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `setpriv` (util-linux) has the kernel end the child when the starting thread is gone, so that an interrupted test leaves nothing behind. It
/// execs, so the pid is the program's own. Without it the children of a killed test stay.
fn dying_with_parent(program: &Path) -> Command {
    if Path::new("/usr/bin/setpriv").exists() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}
