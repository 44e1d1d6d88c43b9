//! A worker: one thread, one event loop, and the [`State`] that it needs to serve a connection.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};

use crate::command::Command;
use crate::connection;
use crate::metrics::Limit;
use crate::net::listen;
use crate::net::origin::Side;
use crate::net::socket;
use crate::state::{Common, State};

const SWEEP: Duration = Duration::from_secs(1);

struct Worker {
    state: Rc<State>,
    /// Connections being served: what "least loaded" means to the acceptor.
    load: Arc<AtomicUsize>,
}

/// Serves until it is told to stop.
pub async fn run(
    common: Common,
    load: Arc<AtomicUsize>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let worker = Rc::new(Worker {
        state: Rc::new(State::new(common)),
        load,
    });
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Install(table, done)) => {
                    worker.state.install(&table);
                    let _ = done.send(());
                }
                Some(Command::Outcomes(now, told)) => {
                    let _ = told.send(worker.state.tell(now));
                }
                Some(Command::Unwritten(told)) => {
                    let _ = told.send(worker.state.unwritten.connections());
                }
                Some(Command::Serve(stream, side)) => match TcpStream::from_std(stream) {
                    Ok(stream) => worker.serve(stream, side),
                    Err(error) => tracing::warn!(%error, "cannot take over a connection"),
                },
                Some(Command::Listen(listener, side)) => {
                    let (accepting, phases) = (worker.clone(), worker.state.common.phases.clone());
                    spawn_local(async move {
                        listen::accept(listener, side, phases, |stream| accepting.serve(stream, side)).await;
                    });
                }
                Some(Command::Stop) | None => return,
            },
            _ = sweep.tick() => worker.state.sweep(Instant::now()),
        }
    }
}

impl Worker {
    /// Starts to serve a connection, in a task of its own.
    fn serve(&self, stream: TcpStream, side: Side) {
        let most = self.state.common.limits.connections;
        if self.load.load(Ordering::Relaxed) >= most {
            self.state.metrics().refused(Limit::Connections);
            if self.state.may_log() {
                tracing::warn!(most, ?side, "refused a connection: there are too many");
            }
            socket::reset_on_close(&stream);
            return;
        }
        let (state, connection) = (self.state.clone(), Connection::open(&self.load));
        spawn_local(async move {
            match side {
                Side::Outbound => connection::outbound(state, stream).await,
                Side::Inbound => connection::inbound(state, stream).await,
            }
            drop(connection);
        });
    }
}

/// A connection that counts as load until it is dropped.
struct Connection(Arc<AtomicUsize>);

impl Connection {
    fn open(load: &Arc<AtomicUsize>) -> Connection {
        load.fetch_add(1, Ordering::Relaxed);
        Connection(load.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
