//! Our talk with API servers, as metrics. In: calls of `kubernetes`, from any task. Out: `rest_client_*`, `scheduler_async_api_call_*`, watches, events.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};

use super::{
    Metrics,
    family::Family,
    table::{
        ASYNC_API_CALL_DURATION, ASYNC_API_CALL_EXECUTION, BINDS_IN_FLIGHT, DECODE_REJECTS, EVENTS_DROPPED, EVENTS_SENT,
        PENDING_ASYNC_API_CALLS, REST_CLIENT_RATE_LIMITER_DURATION, REST_CLIENT_REQUEST_DURATION, REST_CLIENT_REQUESTS, WATCH_RESTARTS,
        WATCH_SYNCED,
    },
};

/// A kind of write, by kube-scheduler's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallType {
    /// POST of a binding.
    PodBinding,
    /// PATCH of a pod's status.
    PodStatusPatch,
}

impl CallType {
    const ALL: [Self; 2] = [Self::PodBinding, Self::PodStatusPatch];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::PodBinding => "pod_binding",
            Self::PodStatusPatch => "pod_status_patch",
        }
    }
}

/// Why a watch was begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRestart {
    /// The server closed it in good order.
    Closed,
    /// 410: the place to resume from is gone, the resource is listed again.
    Expired,
    /// It broke.
    Error,
    /// Nothing came for too long, not even a bookmark.
    Idle,
}

impl WatchRestart {
    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Error => "error",
            Self::Idle => "idle",
        }
    }
}

/// Why a Kubernetes Event was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventDrop {
    /// The queue of events was full.
    Full,
    /// Too many for this object or in all.
    Rate,
    /// The API server refused it, or did not answer.
    Failed,
}

impl EventDrop {
    const ALL: [Self; 3] = [Self::Full, Self::Rate, Self::Failed];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Rate => "rate",
            Self::Failed => "failed",
        }
    }
}

/// Handles for everything that talks to API servers. Cloning is cheap and shares them.
#[derive(Clone)]
pub struct ApiMetrics(Arc<Inner>);

struct Inner {
    metrics: Metrics,
    calls: [Call; 2],
    binds_in_flight: Gauge,
    events_dropped: [Counter; 3],
    events_sent: Counter,
    requests: Mutex<Requests>,
}

/// Series whose labels are known only at run time. One short lock a request is nothing beside the request.
struct Requests {
    answers: Family<Counter, 3>,
    durations: Family<Histogram, 2>,
    limiter: Family<Histogram, 2>,
}

struct Call {
    pending: Gauge,
    succeeded: (Counter, Histogram),
    failed: (Counter, Histogram),
}

impl Call {
    fn new(metrics: &Metrics, kind: CallType) -> Self {
        let kind = kind.label();
        let ended = |result: &str| {
            (metrics.counter(&ASYNC_API_CALL_EXECUTION, &[kind, result]), metrics.histogram(&ASYNC_API_CALL_DURATION, &[kind, result]))
        };
        Self { pending: metrics.gauge(&PENDING_ASYNC_API_CALLS, &[kind]), succeeded: ended("success"), failed: ended("error") }
    }
}

impl ApiMetrics {
    /// Takes the handles.
    pub fn new(metrics: &Metrics) -> Self {
        let requests = Requests {
            answers: Family::new(metrics, &REST_CLIENT_REQUESTS),
            durations: Family::new(metrics, &REST_CLIENT_REQUEST_DURATION),
            limiter: Family::new(metrics, &REST_CLIENT_RATE_LIMITER_DURATION),
        };
        Self(Arc::new(Inner {
            metrics: metrics.clone(),
            calls: CallType::ALL.map(|kind| Call::new(metrics, kind)),
            binds_in_flight: metrics.gauge(&BINDS_IN_FLIGHT, &[]),
            events_dropped: EventDrop::ALL.map(|reason| metrics.counter(&EVENTS_DROPPED, &[reason.label()])),
            events_sent: metrics.counter(&EVENTS_SENT, &[]),
            requests: Mutex::new(requests),
        }))
    }

    /// A request was answered up to its head, with `code`, or not at all (`None`). `method` in capitals, `host` with its port.
    pub fn request(&self, host: &str, method: &str, code: Option<u16>, took: Duration) {
        let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let digits = code.map(|code| code.to_string());
        requests.answers.get([digits.as_deref().unwrap_or("<error>"), method, host]).increment(1);
        requests.durations.get([method, host]).record(took.as_secs_f64());
    }

    /// A request waited for our own rate limit.
    pub fn limited(&self, host: &str, method: &str, waited: Duration) {
        let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.limiter.get([method, host]).record(waited.as_secs_f64());
    }

    /// A write was taken up: it waits or is under way until [`Self::call_ended`].
    pub fn call_began(&self, kind: CallType) {
        self.0.calls[kind as usize].pending.increment(1.0);
    }

    /// A write ended, for good or bad, after so long.
    pub fn call_ended(&self, kind: CallType, succeeded: bool, took: Duration) {
        let call = &self.0.calls[kind as usize];
        call.pending.decrement(1.0);
        let (count, duration) = if succeeded { &call.succeeded } else { &call.failed };
        count.increment(1);
        duration.record(took.as_secs_f64());
    }

    /// How many bindings are sent and not answered.
    pub fn binds_in_flight(&self, count: usize) {
        self.0.binds_in_flight.set(super::size(count));
    }

    /// A watch was begun anew. Rare, so its handle is looked up.
    pub fn watch_restarted(&self, cluster: &str, resource: &str, reason: WatchRestart) {
        self.0.metrics.counter(&WATCH_RESTARTS, &[cluster, resource, reason.label()]).increment(1);
    }

    /// Whether a resource is listed whole and watched.
    pub fn watch_synced(&self, cluster: &str, resource: &str, synced: bool) {
        self.0.metrics.gauge(&WATCH_SYNCED, &[cluster, resource]).set(f64::from(u8::from(synced)));
    }

    /// An object could not be read and was left out.
    pub fn decode_rejected(&self, cluster: &str, resource: &str) {
        self.0.metrics.counter(&DECODE_REJECTS, &[cluster, resource]).increment(1);
    }

    /// A Kubernetes Event was written.
    pub fn event_sent(&self) {
        self.0.events_sent.increment(1);
    }

    /// A Kubernetes Event was not written.
    pub fn event_dropped(&self, reason: EventDrop) {
        self.0.events_dropped[reason as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_requests_and_watches_are_counted_under_their_labels() {
        let metrics = Metrics::new();
        let api = ApiMetrics::new(&metrics);
        api.request("h:6443", "POST", Some(201), Duration::from_millis(20));
        api.request("h:6443", "POST", None, Duration::from_secs(1));
        api.limited("h:6443", "POST", Duration::from_millis(1));
        for kind in CallType::ALL {
            api.call_began(kind);
        }
        api.call_ended(CallType::PodStatusPatch, false, Duration::from_millis(3));
        api.binds_in_flight(4);
        api.watch_restarted("home", "pods", WatchRestart::Expired);
        api.watch_synced("home", "pods", true);
        api.decode_rejected("home", "nodes");
        for reason in EventDrop::ALL {
            (0..=reason as usize).for_each(|_| api.event_dropped(reason));
        }
        let text = metrics.render();
        for line in [
            "rest_client_requests_total{code=\"201\",method=\"POST\",host=\"h:6443\"} 1\n",
            "rest_client_requests_total{code=\"<error>\",method=\"POST\",host=\"h:6443\"} 1\n",
            "rest_client_request_duration_seconds_bucket{verb=\"POST\",host=\"h:6443\",le=\"0.025\"} 1\n",
            "rest_client_rate_limiter_duration_seconds_count{verb=\"POST\",host=\"h:6443\"} 1\n",
            "scheduler_pending_async_api_calls{call_type=\"pod_binding\"} 1\n",
            "scheduler_pending_async_api_calls{call_type=\"pod_status_patch\"} 0\n",
            "scheduler_async_api_call_execution_total{call_type=\"pod_status_patch\",result=\"error\"} 1\n",
            "scheduler_async_api_call_execution_total{call_type=\"pod_binding\",result=\"success\"} 0\n",
            "isobar_binds_in_flight 4\n",
            "isobar_watch_restarts_total{cluster=\"home\",resource=\"pods\",reason=\"expired\"} 1\n",
            "isobar_watch_synced{cluster=\"home\",resource=\"pods\"} 1\n",
            "isobar_decode_rejects_total{cluster=\"home\",resource=\"nodes\"} 1\n",
            "isobar_events_dropped_total{reason=\"full\"} 1\n",
            "isobar_events_dropped_total{reason=\"rate\"} 2\n",
            "isobar_events_dropped_total{reason=\"failed\"} 3\n",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
    }
}
