//! The engine's own task: facts from a bounded channel in, commands to whoever carries them out.
//!
//! The machine is synchronous and never waits; this loop waits for it. It takes what has come, lets the machine decide about a bounded number of pods,
//! hands on the commands, and sleeps until something comes or time alone has something to do. Run on a thread of its own by [`on_own_thread`], so
//! that decisions never hold up network traffic, or as a task under paused time in simulations: the same code.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    kubernetes::clock::Clock,
    model::time::{DurationMs, Timestamp},
    scheduler::{
        engine::Engine,
        input::{Command, Input},
        observe::Gauges,
    },
};

/// Facts that may wait for the engine; then watches stop reading and the API server keeps the rest. About 2 KB each.
pub const INPUTS_MAX: usize = 1024;
/// Facts taken in before pods are decided upon again: some milliseconds of work.
const INPUTS_PER_TURN: usize = 256;
/// Pods decided upon before facts are looked at again: below a millisecond of work, so that a decision is never far behind what is known.
const ATTEMPTS_PER_TURN: u32 = 64;
/// How often sizes are published. Computing them walks over what waits.
const GAUGES_PERIOD: DurationMs = DurationMs(1000);

/// What is driven: the scheduling engine, or a stand-in in tests.
pub trait Machine {
    /// Takes in one fact and appends the effects.
    fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Command>);
    /// When time alone will have something to do.
    fn next_wake(&self) -> Option<Timestamp>;
    /// Whether there is a pod to try.
    fn wants_schedule(&self) -> bool;
    /// Sizes of what is held.
    fn gauges(&self) -> Gauges;
}

impl Machine for Engine {
    fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Command>) {
        Engine::handle(self, now, input, out);
    }
    fn next_wake(&self) -> Option<Timestamp> {
        Engine::next_wake(self)
    }
    fn wants_schedule(&self) -> bool {
        Engine::wants_schedule(self)
    }
    fn gauges(&self) -> Gauges {
        Engine::gauges(self)
    }
}

/// A machine shared with a test that looks at it between two steps.
impl<M: Machine> Machine for Arc<Mutex<M>> {
    fn handle(&mut self, now: Timestamp, input: Input, out: &mut Vec<Command>) {
        self.lock().unwrap_or_else(PoisonError::into_inner).handle(now, input, out);
    }
    fn next_wake(&self) -> Option<Timestamp> {
        self.lock().unwrap_or_else(PoisonError::into_inner).next_wake()
    }
    fn wants_schedule(&self) -> bool {
        self.lock().unwrap_or_else(PoisonError::into_inner).wants_schedule()
    }
    fn gauges(&self) -> Gauges {
        self.lock().unwrap_or_else(PoisonError::into_inner).gauges()
    }
}

/// The loop around a machine.
pub struct Driver<M, D, G> {
    machine: M,
    clock: Clock,
    inputs: mpsc::Receiver<Input>,
    /// Hands a command on. Must not block: what carries out bindings has room for all that the engine lets fly, the rest drops and counts.
    dispatch: D,
    /// Told the sizes about once a second.
    publish: G,
    stop: CancellationToken,
    published: Option<Timestamp>,
}

impl<M: Machine, D: FnMut(Command), G: FnMut(&Gauges)> Driver<M, D, G> {
    /// Drives `machine` with what comes from `inputs`.
    pub fn new(machine: M, clock: Clock, inputs: mpsc::Receiver<Input>, dispatch: D, publish: G) -> Self {
        Self { machine, clock, inputs, dispatch, publish, stop: CancellationToken::new(), published: None }
    }

    /// Ends when the token is cancelled, too.
    #[must_use]
    pub fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }

    /// Runs until nobody can send facts any more, or it is told to stop. Everything that was sent is taken in first.
    pub async fn run(mut self) {
        let mut arrived = Vec::with_capacity(INPUTS_PER_TURN);
        let mut commands = Vec::new();
        loop {
            if !self.wait(&mut arrived).await {
                return;
            }
            let now = self.clock.now();
            for input in arrived.drain(..) {
                self.machine.handle(now, input, &mut commands);
            }
            if self.machine.wants_schedule() && !self.stop.is_cancelled() {
                self.machine.handle(now, Input::Schedule { attempts_max: ATTEMPTS_PER_TURN }, &mut commands);
            }
            commands.drain(..).for_each(&mut self.dispatch);
            self.publish(now);
        }
    }

    /// Fills in what has come; waits only when there is nothing to do. False at the end.
    async fn wait(&mut self, arrived: &mut Vec<Input>) -> bool {
        if self.machine.wants_schedule() && !self.stop.is_cancelled() {
            // Others get their turn between two rounds of decisions.
            tokio::task::yield_now().await;
            while arrived.len() < INPUTS_PER_TURN {
                match self.inputs.try_recv() {
                    Ok(input) => arrived.push(input),
                    Err(mpsc::error::TryRecvError::Empty) => return true,
                    Err(mpsc::error::TryRecvError::Disconnected) => return !arrived.is_empty(),
                }
            }
            return true;
        }
        let stopping = self.inputs.is_closed();
        let wake = self.machine.next_wake().map(|time| self.clock.instant_of(time));
        tokio::select! {
            biased;
            () = self.stop.cancelled(), if !stopping => {
                // What was sent before is still received; nobody can send more.
                self.inputs.close();
                true
            }
            count = self.inputs.recv_many(arrived, INPUTS_PER_TURN) => count > 0,
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                arrived.push(Input::Tick);
                true
            }
        }
    }

    fn publish(&mut self, now: Timestamp) {
        if self.published.is_none_or(|last| now.since(last) >= GAUGES_PERIOD) {
            self.published = Some(now);
            (self.publish)(&self.machine.gauges());
        }
    }
}

/// Runs a driver on a thread of its own until its inputs end. Timers and channels are those of the current runtime.
pub fn on_own_thread<M, D, G>(driver: Driver<M, D, G>) -> std::io::Result<thread::JoinHandle<()>>
where
    M: Machine + Send + 'static,
    D: FnMut(Command) + Send + 'static,
    G: FnMut(&Gauges) + Send + 'static,
{
    let runtime = Handle::current();
    thread::Builder::new().name("engine".to_owned()).spawn(move || runtime.block_on(driver.run()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::ids::PodUid;

    /// Remembers what it was given; wants to schedule while `to_schedule` is left, and to be woken at `wake`.
    #[derive(Default)]
    struct Stub {
        handled: Vec<(u64, String)>,
        to_schedule: u32,
        wake: Option<Timestamp>,
    }

    impl Machine for Stub {
        fn handle(&mut self, now: Timestamp, input: Input, _: &mut Vec<Command>) {
            if matches!(input, Input::Schedule { .. }) {
                self.to_schedule -= 1;
            }
            if matches!(input, Input::Tick) {
                self.wake = None;
            }
            self.handled.push((now.0, format!("{input:?}")));
        }
        fn next_wake(&self) -> Option<Timestamp> {
            self.wake
        }
        fn wants_schedule(&self) -> bool {
            self.to_schedule > 0
        }
        fn gauges(&self) -> Gauges {
            Gauges { active: self.to_schedule as usize, ..Gauges::default() }
        }
    }

    fn bound(uid: &str) -> Input {
        Input::Bound(PodUid::from(uid))
    }

    async fn run(stub: Stub, script: impl AsyncFnOnce(mpsc::Sender<Input>)) -> Vec<(u64, String)> {
        let stub = Arc::new(Mutex::new(stub));
        let (sender, inputs) = mpsc::channel(INPUTS_MAX);
        let driver = Driver::new(stub.clone(), Clock::simulated(Timestamp(0)), inputs, |_| {}, |_| {});
        let task = tokio::spawn(driver.run());
        script(sender).await;
        task.await.unwrap();
        let stub = stub.lock().unwrap();
        stub.handled.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn takes_in_facts_before_it_decides_and_sleeps_when_there_is_nothing() {
        let handled = run(Stub { to_schedule: 2, ..Stub::default() }, async |inputs| {
            inputs.send(bound("a")).await.unwrap();
            inputs.send(bound("b")).await.unwrap();
            tokio::time::sleep(Duration::from_secs(5)).await;
            inputs.send(bound("c")).await.unwrap();
        })
        .await;
        let schedule = "Schedule { attempts_max: 64 }";
        let want = [(0, "a"), (0, "b"), (0, schedule), (0, schedule), (5000, "c")];
        assert_eq!(handled.len(), want.len(), "{handled:?}");
        for ((at, what), (want_at, want_what)) in handled.iter().zip(want) {
            assert!(*at == want_at && what.contains(want_what), "{handled:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_when_time_alone_has_something_to_do() {
        let stub = Stub { wake: Some(Timestamp(700)), ..Stub::default() };
        let handled = run(stub, async |_keep| tokio::time::sleep(Duration::from_secs(5)).await).await;
        assert_eq!(handled, [(700, "Tick".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn everything_sent_is_taken_in_before_the_end() {
        let handled = run(Stub { to_schedule: 1, ..Stub::default() }, async |inputs| {
            for n in 0..INPUTS_MAX {
                inputs.send(bound(&n.to_string())).await.unwrap();
            }
        })
        .await;
        assert_eq!(handled.iter().filter(|(_, what)| what.contains("Bound")).count(), INPUTS_MAX);
    }

    #[test]
    fn runs_on_a_thread_of_its_own() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stub = Arc::new(Mutex::new(Stub { to_schedule: 3, wake: Some(Timestamp(20)), ..Stub::default() }));
        let handled = runtime.block_on(async {
            let (sender, inputs) = mpsc::channel(4);
            let driver = Driver::new(stub.clone(), Clock::simulated(Timestamp(0)), inputs, |_| {}, |_| {});
            let thread = on_own_thread(driver).unwrap();
            sender.send(bound("a")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
            drop(sender);
            tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
            stub.lock().unwrap().handled.iter().map(|(_, what)| what.clone()).collect::<Vec<_>>()
        });
        assert_eq!(handled.iter().filter(|what| what.starts_with("Schedule")).count(), 3);
        assert!(handled.contains(&"Tick".to_owned()), "{handled:?}");
    }
}
