//! The uplink against a real gRPC server on loopback that keeps what it was sent, with a proxy between that can cut.
//!
//! The oracle is the server's list: each item once, in order, whatever happened on the way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dawnwatch_proto::pb::telemetry_server::{Telemetry, TelemetryServer};
use dawnwatch_proto::pb::{self, from_agent, from_server};
use dawnwatch_proto::wire::Decoder;
use dawnwatch_proto::{Item, Tick};
use dawnwatch_segment::sim::SimDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::spool::{Limits, Spool, Start, sample};

/// What the server was told, and how it behaves.
#[derive(Debug, Default)]
struct Server {
    /// (epoch, number) and item, as kept: once each.
    kept: Vec<(u64, u64, Item)>,
    held: BTreeMap<u64, u64>,
    repeated: u64,
    heartbeats: Vec<(u64, Option<Tick>)>,
    hellos: Vec<pb::Hello>,
    streams: u64,
    /// Acknowledgements are lost on the first this many streams.
    lose_acks: u64,
    /// Statuses to refuse the next streams with.
    refuse: Vec<Status>,
    /// Says "stopping" instead of welcome once.
    drain: bool,
    tick_seconds: u32,
}

#[derive(Debug, Clone, Default)]
struct Handle(Arc<Mutex<Server>>);

#[tonic::async_trait]
impl Telemetry for Handle {
    type StreamStream = ReceiverStream<Result<pb::FromServer, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::FromAgent>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (tx, rx) = mpsc::channel(64);
        let server = Arc::clone(&self.0);
        let inbound = request.into_inner();
        if let Some(status) = server.lock().unwrap().refuse.pop() {
            return Err(status);
        }
        tokio::spawn(serve(server, inbound, tx));
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

type Out = mpsc::Sender<Result<pb::FromServer, Status>>;

async fn serve(server: Arc<Mutex<Server>>, mut inbound: Streaming<pb::FromAgent>, tx: Out) {
    let mut decoder = Decoder::default();
    let mut epochs: Vec<u64> = Vec::new();
    let stream = {
        let mut server = server.lock().unwrap();
        server.streams += 1;
        server.streams
    };
    while let Ok(Some(message)) = inbound.message().await {
        let answer = {
            let mut server = server.lock().unwrap();
            match message.body.unwrap() {
                from_agent::Body::Hello(hello) => {
                    epochs = hello.epochs.iter().map(|e| e.id).collect();
                    server.hellos.push(hello);
                    Some(welcome(&mut server, &epochs))
                }
                from_agent::Body::Schema(schema) => {
                    decoder.schema(schema).unwrap();
                    None
                }
                from_agent::Body::Batch(batch) => {
                    let (index, epoch) = (batch.epoch, epochs[batch.epoch as usize]);
                    let first = batch.first_seq;
                    let items = decoder.batch(batch).unwrap();
                    let seq = keep(&mut server, epoch, first, items);
                    let lost = stream <= server.lose_acks;
                    let ack = pb::Ack {
                        epoch: index,
                        seq,
                        server_wall_ms: Clock.wall().as_millisecond() - 5_000,
                        least_ms: None,
                    };
                    (!lost).then_some(from_server::Body::Ack(ack))
                }
                from_agent::Body::Heartbeat(beat) => {
                    let tick = beat.tick.map(|t| decoder.tick(t).unwrap());
                    server.heartbeats.push((beat.backlog, tick));
                    None
                }
            }
        };
        if let Some(body) = answer {
            let _ = tx.send(Ok(pb::FromServer { body: Some(body) })).await;
        }
    }
}

fn welcome(server: &mut Server, epochs: &[u64]) -> from_server::Body {
    if std::mem::take(&mut server.drain) {
        return from_server::Body::Drain(pb::Drain { retry_after_ms: 1 });
    }
    let held = |id| server.held.get(id).copied().unwrap_or(0);
    from_server::Body::Welcome(pb::Welcome {
        held: epochs.iter().map(held).collect(),
        settings: Some(pb::Settings {
            tick_seconds: server.tick_seconds,
            targets: Vec::new(),
        }),
        ..pb::Welcome::default()
    })
}

fn keep(server: &mut Server, epoch: u64, first: u64, items: Vec<Item>) -> u64 {
    let mut seq = first;
    for item in items {
        let held = server.held.get(&epoch).copied().unwrap_or(0);
        let last = seq + item.width() - 1;
        if last <= held {
            server.repeated += 1;
        } else {
            assert_eq!(seq, held + 1, "numbers of epoch {epoch} have a hole");
            server.held.insert(epoch, last);
            server.kept.push((epoch, seq, item));
        }
        seq = last + 1;
    }
    seq - 1
}

async fn listen(handle: Handle) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(TelemetryServer::new(handle));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

/// Passes connections on; each one is cut after `budget` bytes towards the server.
async fn proxy(to: SocketAddr, budget: Arc<AtomicU64>, cuts: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((agent, _)) = listener.accept().await {
            let (budget, cuts) = (Arc::clone(&budget), Arc::clone(&cuts));
            tokio::spawn(async move {
                if pass(agent, to, &budget).await {
                    cuts.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    address
}

async fn pass(mut agent: TcpStream, to: SocketAddr, budget: &AtomicU64) -> bool {
    let mut server = TcpStream::connect(to).await.unwrap();
    let mut left = usize::try_from(budget.load(Ordering::SeqCst)).unwrap();
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            n = agent.read(&mut up) => match n {
                Ok(n) if n > 0 => {
                    let n = n.min(left);
                    left -= n;
                    if server.write_all(&up[..n]).await.is_err() {
                        return false;
                    }
                    if left == 0 {
                        return true;
                    }
                }
                Ok(_) | Err(_) => return false,
            },
            n = server.read(&mut down) => match n {
                Ok(n) if n > 0 => {
                    if agent.write_all(&down[..n]).await.is_err() {
                        return false;
                    }
                }
                Ok(_) | Err(_) => return false,
            },
        }
    }
}

struct Plain(Vec<String>);

impl Dial for Plain {
    fn servers(&self) -> Vec<String> {
        self.0.clone()
    }

    async fn dial(&self, server: &str) -> Result<Channel, Unreachable> {
        let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
        endpoint
            .connect()
            .await
            .map_err(|e| Unreachable::Later(e.to_string()))
    }
}

const TIMING: Timing = Timing {
    heartbeat: Duration::from_millis(100),
    welcome: Duration::from_secs(5),
    retry: Duration::from_millis(10),
};

fn spool(disk: &Arc<SimDisk>, epoch: u64) -> Spool {
    let limits = Limits {
        bytes_max: 1 << 30,
        items_max: u64::MAX,
    };
    Spool::open(
        Arc::clone(disk) as Arc<_>,
        Path::new("/spool"),
        limits,
        Start {
            id: epoch,
            at: sample::time(0),
        },
    )
    .unwrap()
}

/// Runs an uplink until everything is acknowledged; the test fails if that takes too long.
async fn deliver(shared: &Shared, servers: &[SocketAddr]) {
    let facts = Started::default();
    let uplink = Uplink {
        shared,
        dial: Plain(servers.iter().map(ToString::to_string).collect()),
        facts: &facts,
        clock: Clock,
        timing: TIMING,
    };
    tokio::select! {
        () = uplink.run() => unreachable!("the uplink never ends"),
        () = shared.all_acked() => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => panic!("{} left", shared.backlog()),
    }
}

fn fill(shared: &Shared, from: u64, to: u64) {
    for n in from..=to {
        if n % 50 == 0 {
            shared.event(sample::event_of(n));
        } else {
            let (tick, schema) = sample::tick(n);
            shared.tick(tick, &schema);
        }
    }
}

fn check_kept(server: &Server, epoch: u64, items: u64) {
    let kept: Vec<_> = server.kept.iter().filter(|(e, _, _)| *e == epoch).collect();
    assert_eq!(kept.len() as u64, items);
    for ((_, seq, item), n) in kept.into_iter().zip(1..) {
        assert_eq!(*seq, n);
        let want = if n % 50 == 0 {
            sample::event(n)
        } else {
            Item::Tick(sample::tick(n).0)
        };
        assert_eq!(item, &want);
    }
}

#[tokio::test]
async fn a_backlog_of_several_runs_arrives_once_and_in_order() {
    let disk = Arc::new(SimDisk::new(1));
    for epoch in 1..=3 {
        fill(&Shared::new(spool(&disk, epoch), None), 1, 700 * epoch);
    }
    let shared = Shared::new(spool(&disk, 4), None);
    fill(&shared, 1, 5);
    let handle = Handle::default();
    handle.0.lock().unwrap().tick_seconds = 30;
    deliver(&shared, &[listen(handle.clone()).await]).await;
    let server = handle.0.lock().unwrap();
    for (epoch, items) in [(1, 700), (2, 1_400), (3, 2_100), (4, 5)] {
        check_kept(&server, epoch, items);
    }
    let order: Vec<_> = server
        .kept
        .iter()
        .map(|(epoch, seq, _)| (*epoch, *seq))
        .collect();
    assert!(order.is_sorted(), "epochs overtook each other");
    assert_eq!((server.repeated, server.streams), (0, 1));
    assert_eq!(shared.tick_interval(), Duration::from_secs(30));
}

#[tokio::test]
async fn lost_acks_repeat_and_are_counted_once() {
    let disk = Arc::new(SimDisk::new(1));
    let shared = Shared::new(spool(&disk, 1), None);
    fill(&shared, 1, 200);
    let handle = Handle::default();
    handle.0.lock().unwrap().lose_acks = 1;
    let to = listen(handle.clone()).await;
    let (budget, cuts) = (Arc::new(AtomicU64::new(u64::MAX >> 1)), Arc::default());
    let via = proxy(to, Arc::clone(&budget), Arc::clone(&cuts)).await;
    budget.store(6_000, Ordering::SeqCst);
    let freed = Arc::clone(&budget);
    let seen = Arc::clone(&cuts);
    tokio::spawn(async move {
        while seen.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        freed.store(u64::MAX >> 1, Ordering::SeqCst);
    });
    deliver(&shared, &[via]).await;
    assert!(cuts.load(Ordering::SeqCst) > 0, "the cut never happened");
    check_kept(&handle.0.lock().unwrap(), 1, 200);
}

#[tokio::test]
async fn cuts_at_any_byte_lose_and_double_nothing() {
    let disk = Arc::new(SimDisk::new(1));
    let shared = Shared::new(spool(&disk, 1), None);
    fill(&shared, 1, 1_000);
    let handle = Handle::default();
    let to = listen(handle.clone()).await;
    let (budget, cuts) = (Arc::new(AtomicU64::new(400)), Arc::default());
    let via = proxy(to, Arc::clone(&budget), Arc::clone(&cuts)).await;
    let (grow, seen) = (Arc::clone(&budget), Arc::clone(&cuts));
    tokio::spawn(async move {
        let mut last = 0;
        loop {
            let now: u64 = seen.load(Ordering::SeqCst);
            // Each cut connection is followed by one that may carry 97 bytes more.
            grow.fetch_add((now - last) * 97, Ordering::SeqCst);
            last = now;
            tokio::task::yield_now().await;
        }
    });
    deliver(&shared, &[via]).await;
    assert!(cuts.load(Ordering::SeqCst) > 20, "{cuts:?} cuts only");
    check_kept(&handle.0.lock().unwrap(), 1, 1_000);
}

#[tokio::test]
async fn a_later_run_resumes_where_the_server_is() {
    let disk = Arc::new(SimDisk::new(1));
    fill(&Shared::new(spool(&disk, 1), None), 1, 300);
    let handle = Handle::default();
    handle.0.lock().unwrap().held.insert(1, 120);
    let shared = Shared::new(spool(&disk, 2), None);
    fill(&shared, 1, 1);
    deliver(&shared, &[listen(handle.clone()).await]).await;
    let server = handle.0.lock().unwrap();
    assert_eq!(server.repeated, 0);
    let first = server
        .kept
        .iter()
        .find(|(epoch, _, _)| *epoch == 1)
        .unwrap();
    assert_eq!(first.1, 121);
    assert_eq!(server.held[&1], 300);
    assert_eq!(server.hellos[0].epochs[0].last_seq, 300);
}

#[tokio::test]
async fn a_dead_address_a_refusal_and_a_drain_are_passed_by() {
    let disk = Arc::new(SimDisk::new(1));
    let shared = Shared::new(spool(&disk, 1), None);
    fill(&shared, 1, 10);
    let dead = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let handle = Handle::default();
    handle
        .0
        .lock()
        .unwrap()
        .refuse
        .push(Status::unavailable("starting"));
    deliver(&shared, &[dead, listen(handle.clone()).await]).await;
    check_kept(&handle.0.lock().unwrap(), 1, 10);
    fill(&shared, 11, 20);
    handle.0.lock().unwrap().drain = true;
    deliver(&shared, &[listen(handle.clone()).await]).await;
    let server = handle.0.lock().unwrap();
    assert!(!server.drain && server.refuse.is_empty());
    check_kept(&server, 1, 20);
}

#[tokio::test]
async fn live_ticks_need_no_heartbeat_and_silence_does() {
    let disk = Arc::new(SimDisk::new(1));
    let shared = Shared::new(spool(&disk, 1), None);
    let handle = Handle::default();
    let to = listen(handle.clone()).await;
    fill(&shared, 1, 1);
    let beats = || handle.0.lock().unwrap().heartbeats.len();
    let live = async {
        for n in 2..=15 {
            tokio::time::sleep(TIMING.heartbeat / 2).await;
            fill(&shared, n, n);
        }
        let while_live = beats();
        while beats() < while_live + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while_live
    };
    let facts = Started::default();
    let servers = vec![to.to_string()];
    let uplink = Uplink {
        shared: &shared,
        dial: Plain(servers),
        facts: &facts,
        clock: Clock,
        timing: TIMING,
    };
    let while_live = tokio::select! {
        () = uplink.run() => unreachable!(),
        n = live => n,
    };
    let ahead = shared.offset().ms().expect("the server told its time");
    assert!((5_000..65_000).contains(&ahead), "{ahead}");
    // For what was there before the stream: one ahead of its series, one with them.
    assert!(while_live <= 2, "{while_live} heartbeats beside live ticks");
    let server = handle.0.lock().unwrap();
    check_kept(&server, 1, 15);
    let (backlog, tick) = server.heartbeats.last().unwrap();
    assert_eq!((*backlog, tick.as_ref()), (0, Some(&sample::tick(15).0)));
}

#[tokio::test]
async fn a_backlog_does_not_hide_the_present() {
    let disk = Arc::new(SimDisk::new(1));
    let shared = Shared::new(spool(&disk, 1), None);
    fill(&shared, 1, 60_000);
    let handle = Handle::default();
    // Without acknowledgements the window fills and the backlog stands still.
    handle.0.lock().unwrap().lose_acks = u64::MAX;
    let to = listen(handle.clone()).await;
    let facts = Started::default();
    let servers = vec![to.to_string()];
    let uplink = Uplink {
        shared: &shared,
        dial: Plain(servers),
        facts: &facts,
        clock: Clock,
        timing: TIMING,
    };
    tokio::select! {
        () = uplink.run() => unreachable!(),
        () = async {
            while handle.0.lock().unwrap().heartbeats.len() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    let server = handle.0.lock().unwrap();
    assert!(server.held[&1] < 60_000, "the window has no bound");
    let (backlog, tick) = server.heartbeats.last().unwrap();
    assert_eq!(
        (*backlog, tick.as_ref()),
        (60_000, Some(&sample::tick(59_999).0))
    );
}
