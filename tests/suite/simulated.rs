//! Simulations under paused time, side by side. In: pieces of work. Out: what came of each, in any order.

use std::sync::{Mutex, PoisonError};

/// Runs a world to its end in simulated time.
pub fn in_paused_time<R>(world: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(world)
}

/// Does each piece of work once, on all cores.
pub fn on_all_cores<I, R>(pieces: I, work: impl Fn(I::Item) -> R + Sync) -> Vec<R>
where
    I: Iterator + Send,
    R: Send,
{
    let (pieces, results) = (Mutex::new(pieces), Mutex::new(Vec::new()));
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        while let Some(piece) = next() {
            let result = work(piece);
            results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(worker)));
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
