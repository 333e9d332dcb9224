//! A TCP proxy that is a bad network: delay with jitter, a slow line, connections cut in the middle of a frame or reset, and black
//! holes that swallow one way or both while the connection stands.
//!
//! It reads no message: what goes through it is TLS, of which it looks only at the headers of records, to know whether a cut fell
//! inside one. Each kind of fault is counted when it really happens.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::chance::Chance;

/// Pieces that may be under way in one direction: with their size, 64 KiB, what the buffers along a bad line hold.
const PIECES: usize = 32;

/// Bytes of one piece.
const PIECE_BYTES: usize = 2_048;

/// Bytes of the header of a TLS record; the last two are the length of what follows.
const HEADER_BYTES: usize = 5;

/// How the network is at present; of what comes in from here on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Each byte takes so long.
    pub delay: Duration,
    /// And up to so much longer; order is kept.
    pub jitter: Duration,
    /// Bytes a second in each direction; none: as fast as it goes.
    pub rate: Option<u64>,
    /// What agents say is swallowed.
    pub swallows_up: bool,
    /// What the server says is swallowed, acknowledgements among it.
    pub swallows_down: bool,
    /// Each new connection is cut after some number of bytes from the agent below this.
    pub cut_below: Option<u64>,
    /// New connections end with a reset, however they end.
    pub resets: bool,
}

/// What happened, counted.
#[derive(Debug, Default)]
pub struct Fired {
    /// Connections that were let through.
    pub connections: AtomicU64,
    /// Connections cut.
    pub cuts: AtomicU64,
    /// Those of them that were cut inside a TLS record of the agent.
    pub cuts_inside: AtomicU64,
    /// Bytes that were swallowed on their way to the server.
    pub swallowed_up: AtomicU64,
    /// Bytes that were swallowed on their way to the agent.
    pub swallowed_down: AtomicU64,
    /// Bytes that were made late.
    pub delayed: AtomicU64,
    /// Connections that the agent ended and whose black hole hid it.
    pub agent_noticed: AtomicU64,
    /// Connections that the server ended and whose black hole hid it.
    pub server_noticed: AtomicU64,
}

/// A running proxy.
#[derive(Debug)]
pub struct Chaos {
    /// Where agents connect.
    pub address: SocketAddr,
    /// What happened so far.
    pub fired: Arc<Fired>,
    weather: Arc<Mutex<Weather>>,
    cut: watch::Sender<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Chaos {
    /// Starts a proxy on loopback in front of a server; good weather. The seed decides jitter and where connections are cut.
    ///
    /// # Panics
    /// Where no port can be had.
    pub async fn start(server: SocketAddr, seed: u64) -> Chaos {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port on loopback");
        let address = listener.local_addr().expect("a bound port has an address");
        let (weather, fired) = (Arc::<Mutex<Weather>>::default(), Arc::<Fired>::default());
        let (cut, cuts) = watch::channel(0);
        let net = Net {
            server,
            weather: Arc::clone(&weather),
            fired: Arc::clone(&fired),
            cuts,
        };
        let task = tokio::spawn(net.serve(listener, Chance::new(seed)));
        Chaos {
            address,
            fired,
            weather,
            cut,
            task,
        }
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Cuts every connection there is.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A number that was counted.
#[must_use]
pub fn count(of: &AtomicU64) -> u64 {
    of.load(Ordering::Relaxed)
}

#[derive(Debug, Clone)]
struct Net {
    server: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    fired: Arc<Fired>,
    cuts: watch::Receiver<u64>,
}

impl Net {
    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, listener: TcpListener, mut chance: Chance) {
        while let Ok((agent, _)) = listener.accept().await {
            let (net, chance) = (self.clone(), Chance::new(chance.below(u64::MAX)));
            tokio::spawn(async move {
                if let Ok(server) = TcpStream::connect(net.server).await {
                    net.carry(agent, server, chance).await;
                }
            });
        }
    }

    /// Carries one connection until one side ends it, or it is cut.
    async fn carry(mut self, agent: TcpStream, server: TcpStream, mut chance: Chance) {
        self.fired.connections.fetch_add(1, Ordering::Relaxed);
        self.cuts.mark_unchanged();
        let weather = self.weather();
        for stream in [&agent, &server] {
            let _ = stream.set_nodelay(true);
            if weather.resets {
                let _ = stream.set_zero_linger();
            }
        }
        let limit = weather.cut_below.map(|most| chance.below(most.max(1)));
        let (from_agent, to_agent) = agent.into_split();
        let (from_server, to_server) = server.into_split();
        let up = Way::new(&self, chance.below(u64::MAX), true);
        let down = Way::new(&self, chance.below(u64::MAX), false);
        let both = ends(
            up.carry(from_agent, to_server, limit),
            down.carry(from_server, to_agent, None),
        );
        let mut cuts = self.cuts.clone();
        tokio::select! {
            () = both => {}
            _ = cuts.changed() => add(&self.fired.cuts, 1),
        }
    }
}

/// What keeps the other side's connection open after an end that a black hole hides from it.
type Hidden = Option<mpsc::Sender<(Instant, Vec<u8>)>>;

/// Waits until a connection is over. An end that one side made is passed on at once, unless a black hole hides it: then the other
/// side must notice by itself.
async fn ends(up: impl Future<Output = Hidden>, down: impl Future<Output = Hidden>) {
    tokio::pin!(up, down);
    tokio::select! {
        hidden = &mut up => if hidden.is_some() { down.await; },
        hidden = &mut down => if hidden.is_some() { up.await; },
    }
}

/// One direction of a connection.
struct Way {
    net: Net,
    chance: Chance,
    is_up: bool,
    /// When the slow line has sent all that it was given.
    idle_at: Instant,
    records: Records,
}

impl Way {
    fn new(net: &Net, seed: u64, is_up: bool) -> Way {
        Way {
            net: net.clone(),
            chance: Chance::new(seed),
            is_up,
            idle_at: Instant::now(),
            records: Records::default(),
        }
    }

    /// Carries bytes until the sender ends, or so many were carried.
    async fn carry(
        mut self,
        mut from: OwnedReadHalf,
        to: OwnedWriteHalf,
        limit: Option<u64>,
    ) -> Hidden {
        let (pieces, queue) = mpsc::channel(PIECES);
        let writer = tokio::spawn(deliver(queue, to));
        let (mut is_black, mut carried, mut due) = (false, 0, Instant::now());
        let mut buffer = [0; PIECE_BYTES];
        loop {
            let Ok(mut read @ 1..) = from.read(&mut buffer).await else {
                if is_black || self.swallows() {
                    self.noticed();
                    return Some(pieces);
                }
                break;
            };
            // What was swallowed once leaves a hole that nothing may follow.
            is_black |= self.swallows();
            if is_black {
                self.swallowed(read);
                continue;
            }
            let is_cut = limit.is_some_and(|limit| carried + wide(read) > limit);
            if let Some(limit) = limit.filter(|_| is_cut) {
                read = usize::try_from(limit - carried).unwrap_or(read);
            }
            carried += wide(read);
            self.records.pass(&buffer[..read]);
            due = due.max(self.arrives(read));
            if pieces.send((due, buffer[..read].to_vec())).await.is_err() {
                break;
            }
            if is_cut {
                add(&self.net.fired.cuts, 1);
                add(
                    &self.net.fired.cuts_inside,
                    u64::from(self.records.is_inside()),
                );
                break;
            }
        }
        drop(pieces);
        let _ = writer.await;
        None
    }

    /// When a piece that is sent now arrives.
    fn arrives(&mut self, bytes: usize) -> Instant {
        let (weather, now) = (self.net.weather(), Instant::now());
        let jitter_us = u64::try_from(weather.jitter.as_micros()).unwrap_or(0);
        let late = weather.delay + Duration::from_micros(self.chance.below(jitter_us + 1));
        self.idle_at = self.idle_at.max(now);
        if let Some(rate) = weather.rate {
            self.idle_at += Duration::from_micros(wide(bytes) * 1_000_000 / rate.max(1));
        }
        let arrives = self.idle_at + late;
        if arrives > now {
            add(&self.net.fired.delayed, wide(bytes));
        }
        arrives
    }

    fn swallows(&self) -> bool {
        let weather = self.net.weather();
        (self.is_up && weather.swallows_up) || (!self.is_up && weather.swallows_down)
    }

    fn swallowed(&self, bytes: usize) {
        let Fired {
            swallowed_up,
            swallowed_down,
            ..
        } = &*self.net.fired;
        add(
            if self.is_up {
                swallowed_up
            } else {
                swallowed_down
            },
            wide(bytes),
        );
    }

    fn noticed(&self) {
        let Fired {
            agent_noticed,
            server_noticed,
            ..
        } = &*self.net.fired;
        add(
            if self.is_up {
                agent_noticed
            } else {
                server_noticed
            },
            1,
        );
    }
}

/// Where a row of bytes is among TLS records.
#[derive(Debug, Default)]
struct Records {
    header: Vec<u8>,
    body_left: usize,
}

impl Records {
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let want = if self.body_left > 0 {
                self.body_left
            } else {
                HEADER_BYTES - self.header.len()
            };
            let (now, later) = bytes.split_at(want.min(bytes.len()));
            bytes = later;
            if self.body_left > 0 {
                self.body_left -= now.len();
                continue;
            }
            self.header.extend_from_slice(now);
            if let [_, _, _, high, low] = self.header[..] {
                self.body_left = usize::from(u16::from_be_bytes([high, low]));
                self.header.clear();
            }
        }
    }

    fn is_inside(&self) -> bool {
        self.body_left > 0 || !self.header.is_empty()
    }
}

/// Writes each piece when it is due.
async fn deliver(mut queue: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
    while let Some((due, piece)) = queue.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
}

fn add(to: &AtomicU64, number: u64) {
    to.fetch_add(number, Ordering::Relaxed);
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
