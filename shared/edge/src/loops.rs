//! Threads with an event loop each, among which connections are dealt out: a
//! connection stays on its thread, as on a worker of nginx. On one loop that
//! several threads share, a request costs a tenth more for waking the others.

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

/// Loops at most: with as many, the network is what is slow.
const MOST: usize = 8;

/// A loop for each processor.
pub(crate) struct Loops(Vec<Loop>);

struct Loop {
    handle: Handle,
    /// One more for each connection that it has.
    load: Arc<()>,
    /// Dropped: it is to end.
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Loops {
    /// Starts them. Where the system refuses one, it is as with [`Self::none`].
    pub(crate) fn start() -> Self {
        let count = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
        let started = (0..count).map(|_| Loop::start()).collect::<Result<_, _>>();
        Self(started.unwrap_or_else(|error| {
            tracing::warn!(%error, "connections get no threads of their own");
            Vec::new()
        }))
    }

    /// None: everything is done on the loop of whoever calls.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// Serves a connection on the loop that has the fewest.
    pub(crate) fn serve<F>(&self, stream: TcpStream, serve: impl FnOnce(TcpStream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(least) = self.0.iter().min_by_key(|one| Arc::strong_count(&one.load)) else {
            drop(tokio::spawn(serve(stream)));
            return;
        };
        let load = least.load.clone();
        let moved = stream.into_std();
        least.handle.spawn(async move {
            // It is made known to this thread's own loop.
            match moved.and_then(TcpStream::from_std) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!(%error, "a connection could not be handed over"),
            }
            drop(load);
        });
    }

    /// Ends them, with whatever still goes on there.
    pub(crate) async fn end(self) {
        let ending = |Loop { end, thread, .. }| {
            drop(end);
            thread
        };
        let threads: Vec<_> = self.0.into_iter().map(ending).collect();
        let joined = move || threads.into_iter().for_each(|thread| drop(thread.join()));
        let _ = tokio::task::spawn_blocking(joined).await;
    }
}

impl Loop {
    fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let run = move || {
            let _ = runtime.block_on(ended);
        };
        let thread = thread::Builder::new().name("connections".to_owned()).spawn(run)?;
        Ok(Self { handle, load: Arc::new(()), end, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Connections that say on which thread they are, and hold on until the other end closes.
    async fn connected(loops: &Loops, listener: &TcpListener) -> (TcpStream, thread::ThreadId) {
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (tell, told) = mpsc::channel();
        loops.serve(accepted.unwrap().0, move |mut stream| async move {
            tell.send(thread::current().id()).unwrap();
            stream.write_all(b"here").await.unwrap();
            let _ = stream.read(&mut [0]).await;
        });
        let mut client = client.unwrap();
        let mut said = [0; 4];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"here");
        (client, told.recv().unwrap())
    }

    #[tokio::test]
    async fn connections_are_dealt_out_evenly_and_the_end_is_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let loops = Loops((0..3).map(|_| Loop::start().unwrap()).collect());
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(connected(&loops, &listener).await);
        }
        for (_, thread) in &held {
            assert_eq!(held.iter().filter(|(_, other)| other == thread).count(), 2);
        }
        loops.end().await;
        for (client, _) in &mut held {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed");
        }
    }

    #[tokio::test]
    async fn without_a_thread_of_their_own_they_are_served_here() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_client, thread) = connected(&Loops::none(), &listener).await;
        assert_eq!(thread, thread::current().id());
    }
}
