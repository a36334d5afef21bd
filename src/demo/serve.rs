//! The demo's clusters for kubectl, in real time. In: a port and a folder. Out: home's API server on loopback, a kubeconfig, and Isobar at work until told
//! to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::author::Author;
use super::run::{DemoError, engine, federation, furnish, start_replica};
use super::scenario::{Deed, standing};
use super::stopwatch::{Laps, Stopwatch};
use super::tasks::{Room, Service};
use crate::kubernetes::clock::Clock;
use crate::kubernetes::tasks::ARRIVALS_MAX;
use crate::sim::kubeconfig::write_kubeconfig;
use crate::sim::kubelet::KubeletOptions;

/// How the cluster is served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Of uids and ties.
    pub seed: u64,
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Where the kubeconfig is written.
    pub kubeconfig: PathBuf,
}

/// Serves until interrupted or terminated. `ready` is told the address when everything stands.
pub async fn serve(options: &ServeOptions, ready: impl FnOnce(SocketAddr)) -> Result<(), DemoError> {
    let clock = Clock::system();
    let mut federation = federation(options.seed, clock.now()).await?;
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await;
    let listener = listener.map_err(DemoError::io(format!("listening on port {} of 127.0.0.1", options.port)))?;
    let address = listener.local_addr().map_err(DemoError::io("listening"))?;
    write_kubeconfig(&options.kubeconfig, address).map_err(DemoError::io(format!("writing {}", options.kubeconfig.display())))?;

    let (arrivals, arriving) = mpsc::channel(ARRIVALS_MAX);
    let author = Author::new(&federation, arrivals);
    furnish(&author, &federation).await?;
    federation.start_world(&KubeletOptions::default());
    let engine = engine(options.seed, Box::new(Stopwatch::new(Laps::default())))?;
    let mut replica = start_replica(&federation, engine, options.seed, true)?;
    let room = Room::start(&federation, &replica, arriving, options.seed)?;
    for deed in standing().into_iter().map(Deed::CreatePod).chain(Service::read()?.standing()) {
        author.perform(&deed).await?;
    }
    ready(address);

    let stop = stop_signal()?;
    tokio::select! {
        () = stop => {}
        served = federation.home().serve(listener) => served.map_err(DemoError::io("serving"))?,
        stopped = replica.live.stopped() => tracing::error!(?stopped, "the scheduler ended by itself; this is a bug"),
    }
    room.end();
    replica.shut_down().await;
    Ok(())
}

fn stop_signal() -> Result<impl Future<Output = ()>, DemoError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(DemoError::io("listening for signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
