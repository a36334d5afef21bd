//! The one table of the HTTP API: the router and the `OpenAPI` document are both made of it. In: nothing. Out: every route, who may use it, what it takes and
//! gives.

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Overview,
    AllTasks,
    AllRuns,
    Tasks,
    Task,
    Apply,
    Suspend,
    Resume,
    TaskEvents,
    Start,
    Runs,
    Run,
    Log,
    Cancel,
    Rerun,
    RunEvents,
}

/// A permission that a caller needs: verb, group, resource, subresource. It is asked for in the namespace of the path, and on the name in the path if `named`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub verb: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
    pub subresource: &'static str,
    pub named: bool,
}

/// A parameter of the query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query {
    pub name: &'static str,
    /// `string`, `integer` or `boolean`.
    pub kind: &'static str,
    pub about: &'static str,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub operation: Operation,
    /// `get`, `put` or `post`.
    pub method: &'static str,
    /// As in the document; names in braces.
    pub path: &'static str,
    pub id: &'static str,
    pub about: &'static str,
    pub needs: &'static [Need],
    pub query: &'static [Query],
    /// Schema of the body that it takes.
    pub takes: Option<&'static str>,
    /// Schema of what it gives; `None` is text.
    pub gives: Option<&'static str>,
    /// Answers that are no failure, and what they mean.
    pub good: &'static [(u16, &'static str)],
    /// Failures beside those that every route has.
    pub bad: &'static [u16],
}

const OURS: &str = "isobar.dev";

const fn any(verb: &'static str, group: &'static str, resource: &'static str) -> Need {
    Need { verb, group, resource, subresource: "", named: false }
}

const fn named(verb: &'static str, resource: &'static str) -> Need {
    Need { verb, group: OURS, resource, subresource: "", named: true }
}

const fn query(name: &'static str, kind: &'static str, about: &'static str) -> Query {
    Query { name, kind, about }
}

const LOGS: Need = Need { verb: "get", group: "", resource: "pods", subresource: "log", named: false };
const OK: &[(u16, &str)] = &[(200, "It is so.")];
const STARTED: &[(u16, &str)] = &[(201, "The run was started."), (200, "It was started before, with the same key and the same content.")];
const RUN_QUERY: &[Query] = &[
    query("task", "string", "Only runs of this task."),
    query("phase", "string", "Only runs in this phase: Waiting, Queued, Launching, Pending, Running, Finishing, Recycling, Reaped."),
    query("limit", "integer", "At most so many, the newest first; 200 unless said, 1000 at most."),
];
const EVENTS: &[Need] = &[any("list", "events.k8s.io", "events")];

const READ: Route = Route {
    operation: Operation::Overview,
    method: "get",
    path: "",
    id: "",
    about: "",
    needs: &[],
    query: &[],
    takes: None,
    gives: None,
    good: OK,
    bad: &[],
};
const WRITE: Route = Route { method: "post", bad: &[404, 409, 422], ..READ };

/// Every route.
pub(super) static ROUTES: &[Route] = &[
    Route {
        operation: Operation::Overview,
        path: "/api/v1/overview",
        id: "overview",
        about: "Clusters, nodes by architecture and GPU with what is requested of them, and pods that wait for a node with the reason.",
        needs: &[any("list", "", "nodes"), any("list", "", "pods")],
        gives: Some("Overview"),
        ..READ
    },
    Route {
        operation: Operation::AllTasks,
        path: "/api/v1/tasks",
        id: "listAllTasks",
        about: "Tasks of all namespaces, without their templates.",
        needs: &[any("list", OURS, "tasks")],
        gives: Some("TaskList"),
        ..READ
    },
    Route {
        operation: Operation::AllRuns,
        path: "/api/v1/runs",
        id: "listAllRuns",
        about: "Runs of all namespaces, the newest first, without their templates.",
        needs: &[any("list", OURS, "taskruns")],
        query: RUN_QUERY,
        gives: Some("TaskRunList"),
        bad: &[400],
        ..READ
    },
    Route {
        operation: Operation::Tasks,
        path: "/api/v1/namespaces/{namespace}/tasks",
        id: "listTasks",
        about: "Tasks of a namespace, without their templates.",
        needs: &[any("list", OURS, "tasks")],
        gives: Some("TaskList"),
        ..READ
    },
    Route {
        operation: Operation::Task,
        path: "/api/v1/namespaces/{namespace}/tasks/{task}",
        id: "showTask",
        about: "One task, whole.",
        needs: &[named("get", "tasks")],
        gives: Some("Task"),
        bad: &[404],
        ..READ
    },
    Route {
        operation: Operation::Apply,
        method: "put",
        path: "/api/v1/namespaces/{namespace}/tasks/{task}",
        id: "applyTask",
        about: "Registers a task, or changes it to be so (a server-side apply).",
        needs: &[named("create", "tasks"), named("patch", "tasks")],
        takes: Some("Task"),
        gives: Some("Task"),
        bad: &[400, 409, 413, 422],
        ..WRITE
    },
    Route {
        operation: Operation::Suspend,
        path: "/api/v1/namespaces/{namespace}/tasks/{task}/suspend",
        id: "suspendTask",
        about: "No trigger starts runs of it any more; what the clock would have started is not made up for.",
        needs: &[named("patch", "tasks")],
        gives: Some("Task"),
        ..WRITE
    },
    Route {
        operation: Operation::Resume,
        path: "/api/v1/namespaces/{namespace}/tasks/{task}/resume",
        id: "resumeTask",
        about: "Triggers start runs of it again.",
        needs: &[named("patch", "tasks")],
        gives: Some("Task"),
        ..WRITE
    },
    Route {
        operation: Operation::TaskEvents,
        path: "/api/v1/namespaces/{namespace}/tasks/{task}/events",
        id: "listEventsOfTask",
        about: "What happened to a task, the newest last. The API server keeps events for an hour unless told otherwise.",
        needs: EVENTS,
        gives: Some("EventList"),
        ..READ
    },
    Route {
        operation: Operation::Start,
        path: "/api/v1/namespaces/{namespace}/tasks/{task}/runs",
        id: "startRun",
        about: "Starts a run. With a key the same key is the same run, whoever sends it how often.",
        needs: &[named("get", "tasks"), any("create", OURS, "taskruns")],
        takes: Some("Start"),
        gives: Some("TaskRun"),
        good: STARTED,
        bad: &[400, 404, 409, 413, 422],
        ..WRITE
    },
    Route {
        operation: Operation::Runs,
        path: "/api/v1/namespaces/{namespace}/runs",
        id: "listRuns",
        about: "Runs of a namespace, the newest first, without their templates.",
        needs: &[any("list", OURS, "taskruns")],
        query: RUN_QUERY,
        gives: Some("TaskRunList"),
        bad: &[400],
        ..READ
    },
    Route {
        operation: Operation::Run,
        path: "/api/v1/namespaces/{namespace}/runs/{run}",
        id: "showRun",
        about: "One run, whole, with its attempts.",
        needs: &[named("get", "taskruns")],
        gives: Some("TaskRun"),
        bad: &[404],
        ..READ
    },
    Route {
        operation: Operation::Log,
        path: "/api/v1/namespaces/{namespace}/runs/{run}/log",
        id: "logOfRun",
        about: "The log of an attempt: from its pod while there is one, then from the archive.",
        needs: &[named("get", "taskruns"), LOGS],
        query: &[
            query("container", "string", "Only this container. Unless said all, one after another."),
            query("attempt", "integer", "Number of the attempt. Unless said the last one."),
            query("follow", "boolean", "Go on while it runs."),
            query("timestamps", "boolean", "Begin each line with its time."),
        ],
        bad: &[400, 404, 409],
        ..READ
    },
    Route {
        operation: Operation::Cancel,
        path: "/api/v1/namespaces/{namespace}/runs/{run}/cancel",
        id: "cancelRun",
        about: "Stops a run: its pod is ended and deleted. Of one that is over nothing changes.",
        needs: &[named("patch", "taskruns")],
        gives: Some("TaskRun"),
        ..WRITE
    },
    Route {
        operation: Operation::Rerun,
        path: "/api/v1/namespaces/{namespace}/runs/{run}/rerun",
        id: "rerun",
        about: "Starts a run with the parameters and the cycle of another one.",
        needs: &[named("get", "taskruns"), any("create", OURS, "taskruns")],
        takes: Some("Rerun"),
        gives: Some("TaskRun"),
        good: STARTED,
        bad: &[400, 404, 409, 413, 422],
        ..WRITE
    },
    Route {
        operation: Operation::RunEvents,
        path: "/api/v1/namespaces/{namespace}/runs/{run}/events",
        id: "listEventsOfRun",
        about: "What happened to a run, the newest last.",
        needs: EVENTS,
        gives: Some("EventList"),
        ..READ
    },
];
