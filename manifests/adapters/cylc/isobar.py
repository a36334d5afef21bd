"""Cylc job runner: a job is a run of an Isobar task.

In: a job with the directives below. Out: the run's name as the job's ID; kill and poll by that name. Put this file into lib/python of the workflow and set
`job runner = isobar` for a platform. The key is workflow/cycle/task/submission: who submits the same one again meets the same run. The namespace is that of the
kubeconfig's context.

    [runtime]
        [[radar]]
            platform = isobar
            script = eval "$ISOBAR_WAIT"
            [[[directives]]]
                task = radar
                cycle = 2026-11-28T06:00:00Z
                param.station = Z9010

The job script waits for the run on the job host and ends as it ends, so that Cylc's messages, outputs and job logs are as with any other job.
"""

import json
import os
import re
import shlex
import sys
from subprocess import DEVNULL, PIPE, Popen, run

PREFIX = "# ISOBAR "
ISOBAR = os.environ.get("ISOBAR", "isobar")


class IsobarHandler:
    """What Cylc calls."""

    SHOULD_KILL_PROC_GROUP = False
    SHOULD_POLL_PROC_GROUP = False

    @classmethod
    def format_directives(cls, job_conf):
        """Lines of the job script that `submit` reads again."""
        return [f"{PREFIX}{name}={value}" for name, value in job_conf["directives"].items()]

    @classmethod
    def submit(cls, job_file_path, submit_opts):
        """Starts the run, and the job script that waits for it. Out: exit code, output with the run's name, errors."""
        arguments = cls.arguments(job_file_path)
        if not arguments:
            return (1, None, f"{job_file_path}: the directive `task` is missing\n")
        started = run([ISOBAR, "task", "run", *arguments], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
        if started.returncode != 0:
            return (started.returncode, started.stdout, started.stderr)
        name = started.stdout.partition(":")[0].strip()
        log = os.path.dirname(job_file_path)
        wait = " ".join([shlex.quote(one) for one in (ISOBAR, "task", "run", *arguments, "--wait")])
        logs = " ".join([shlex.quote(one) for one in (ISOBAR, "task", "logs", name)])
        # The log comes after the end, and the exit code stays that of the run.
        script = f"{wait}; code=$?; {logs}; (exit $code)"
        env = {**(submit_opts.get("env") or os.environ), "ISOBAR_WAIT": f"bash -c {shlex.quote(script)}", "ISOBAR_RUN": name}
        with open(os.path.join(log, "job.out"), "ab") as out, open(os.path.join(log, "job.err"), "ab") as err:
            Popen([job_file_path], stdin=DEVNULL, stdout=out, stderr=err, env=env, start_new_session=True)
        return (0, f"{name}\n", "")

    @classmethod
    def arguments(cls, job_file_path):
        """Of `isobar task run`."""
        directives = {}
        with open(job_file_path, encoding="utf-8") as job:
            for line in job:
                if line.startswith(PREFIX):
                    name, _, value = line[len(PREFIX):].rstrip("\n").partition("=")
                    directives[name] = value
        task = directives.pop("task", None)
        if not task:
            return []
        # .../WORKFLOW/log/job/CYCLE/TASK/SUBMIT/job
        parts = os.path.abspath(job_file_path).split(os.sep)
        cycle, name, submission = parts[-4:-1]
        workflow = "/".join(parts[:-6]).rpartition("/cylc-run/")[2]
        arguments = [task, "--key", f"{workflow}/{cycle}/{name}/{int(submission)}"]
        for key, value in directives.items():
            if key == "cycle":
                arguments += ["--cycle", value]
            elif key.startswith("param."):
                arguments += ["--param", f"{key[len('param.'):]}={value}"]
        return arguments

    REC_ID_FROM_SUBMIT_OUT = re.compile(r"^(?P<id>[a-z][-a-z0-9]*)$", re.M)
    KILL_CMD_TMPL = f"{ISOBAR} task cancel %(job_id)s"

    # With this on its standard error the command below knows nothing: jobs stay as they are.
    POLL_CANT_CONNECT_ERR = "the cluster does not answer"

    @classmethod
    def get_poll_many_cmd(cls, job_id_list):
        """This file as a program. Cylc reads what a command says only after its end, so it must not say more than a pipe holds, and a list of runs would."""
        return [sys.executable, os.path.abspath(__file__), *job_id_list]

    @classmethod
    def filter_poll_many_output(cls, out):
        """One name on each line."""
        return out.split()


def poll(wanted):
    """Names those of the wanted runs whose pod is not gone yet: the job script ends before that. Out: exit code."""
    asked = run([ISOBAR, "task", "runs", "-o", "json"], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, text=True)
    if asked.returncode != 0:
        print(f"{IsobarHandler.POLL_CANT_CONNECT_ERR}: {asked.stderr.strip()}", file=sys.stderr)
        return 1
    for one in json.loads(asked.stdout)["items"]:
        name = one["metadata"]["name"]
        if name in wanted and one.get("status", {}).get("phase") != "Reaped":
            print(name)
    return 0


JOB_RUNNER_HANDLER = IsobarHandler()

if __name__ == "__main__":
    sys.exit(poll(set(sys.argv[1:])))
