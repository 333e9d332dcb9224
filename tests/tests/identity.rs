//! Both sides of identity against each other, over real TLS on loopback. Time is what the test says it is.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on stops where it is"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dawnwatch_agent::identity::connect::channel_with;
use dawnwatch_agent::identity::{
    self as agent, ConnectError, Identity as AgentIdentity, JoinError, Joined, RenewError,
};
use dawnwatch_proto::pb::enrolment_client::EnrolmentClient;
use dawnwatch_proto::pb::enrolment_server::EnrolmentServer;
use dawnwatch_proto::pb::telemetry_client::TelemetryClient;
use dawnwatch_proto::pb::telemetry_server::{Telemetry, TelemetryServer};
use dawnwatch_proto::{HostId, JoinLine, pb};
use dawnwatch_server::identity::{
    Enrolment, First, HostRecord, Identity, Limits, Now, Peer, Refusal, incoming,
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair, SigningKey};
use rustls::pki_types::UnixTime;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream::{self, Stream};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};

const REFUSED: &str = "join token refused: wrong, used up or expired; make a new one on the server: dawnwatch token create";
const TIMEOUT: Duration = Duration::from_secs(10);

/// A server of identity alone, with a clock that the test sets.
struct House {
    dir: tempfile::TempDir,
    identity: Arc<Identity>,
    line: String,
    addr: String,
    clock: Arc<AtomicI64>,
    told: Arc<Mutex<Vec<HostRecord>>>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

/// Lets through who may speak, and says nothing more.
struct Gate(Arc<Identity>, Now);

#[tonic::async_trait]
impl Telemetry for Gate {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<pb::FromServer, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<pb::FromAgent>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        self.0
            .admit(request.extensions().get::<Peer>(), (self.1)())?;
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

fn start_of_time() -> Timestamp {
    "2026-10-05T08:00:00Z".parse().unwrap()
}

impl House {
    async fn new() -> House {
        House::at(tempfile::tempdir().unwrap(), start_of_time()).await
    }

    async fn at(dir: tempfile::TempDir, now: Timestamp) -> House {
        let (identity, first) = Identity::open(dir.path(), now, &[]).unwrap();
        let line = match first {
            First::Start(line) => line.to_string(),
            First::Again => String::new(),
        };
        let clock = Arc::new(AtomicI64::new(now.as_second()));
        let mut house = House {
            dir,
            identity: Arc::new(identity),
            line,
            addr: String::new(),
            clock,
            told: Arc::default(),
            stop: None,
            serving: None,
        };
        house.serve(Limits::default()).await;
        house
    }

    fn now(&self) -> Now {
        let clock = self.clock.clone();
        Arc::new(move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap())
    }

    async fn serve(&mut self, limits: Limits) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.addr = listener.local_addr().unwrap().to_string();
        let config = self.identity.server_config(self.now()).unwrap();
        let connections = incoming(listener, config, limits);
        let told = self.told.clone();
        let on_host = Box::new(move |host: &HostRecord| told.lock().unwrap().push(host.clone()));
        let enrolment = Enrolment::new(self.identity.clone(), self.now(), on_host);
        let gate = Gate(self.identity.clone(), self.now());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = Server::builder()
            .add_service(EnrolmentServer::new(enrolment))
            .add_service(TelemetryServer::new(gate))
            .serve_with_incoming_shutdown(connections, async {
                stopped.await.ok();
            });
        self.stop = Some(stop);
        self.serving = Some(tokio::spawn(async { serving.await.unwrap() }));
    }

    /// Lets days pass, as the server's hourly round would see them.
    fn pass_days(&self, days: i64) {
        self.clock.fetch_add(days * 24 * 3600, Ordering::SeqCst);
        self.identity.renew_if_due((self.now())()).unwrap();
    }

    fn token(&self, uses: u32, seconds: i64) -> String {
        let now = (self.now())();
        let expires = now + SignedDuration::from_secs(seconds);
        self.identity
            .create_token(uses, expires, Vec::new(), now)
            .unwrap()
            .to_string()
    }

    /// A channel of a client that has no certificate, and checks ours as any other client would.
    async fn bare_channel(&self) -> Channel {
        let ca = std::fs::read(self.dir.path().join("ca.der")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let time = Arc::new(TestTime(self.now()));
        let mut config = rustls::ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        channel_with(config, &self.addr.parse().unwrap(), TIMEOUT)
            .await
            .unwrap()
    }

    async fn join(&self, host: &Host, line: &str) -> Result<Joined, JoinError> {
        agent::join(
            &self.addr,
            line,
            &host.state,
            Some(host.name.clone()),
            (self.now())(),
        )
        .await
    }

    /// Whether the server lets this host speak.
    async fn speak(&self, host: &Host) -> Result<(), Status> {
        let identity = host.identity();
        let channel = agent::channel(&identity, &self.addr, TIMEOUT)
            .await
            .unwrap();
        let mut client = TelemetryClient::new(channel);
        client.stream(tokio_stream::empty()).await.map(|_| ())
    }

    async fn renew(&self, host: &Host) -> Result<(), RenewError> {
        host.identity().renew(&self.addr, (self.now())()).await
    }

    fn record(&self, id: HostId) -> HostRecord {
        self.identity.host(id).unwrap()
    }
}

struct TestTime(Now);

impl std::fmt::Debug for TestTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestTime")
    }
}

impl rustls::time_provider::TimeProvider for TestTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .der()
        .to_vec()
}

/// A host's state directory.
struct Host {
    _dir: tempfile::TempDir,
    state: PathBuf,
    name: String,
}

impl Host {
    fn new(name: &str) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        Host {
            _dir: dir,
            state,
            name: name.to_owned(),
        }
    }

    fn identity(&self) -> AgentIdentity {
        AgentIdentity::load(&self.state).unwrap()
    }

    /// The same host as it was at some time.
    fn copy(&self) -> Host {
        let copy = Host::new(&self.name);
        copy_dir(&self.state, &copy.state);
        copy
    }

    fn restore(&self, copy: &Host) {
        std::fs::remove_dir_all(&self.state).unwrap();
        copy_dir(&copy.state, &self.state);
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A refusal that only joining again mends.
fn says_rejoin(result: Result<(), Status>) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(
        status
            .message()
            .contains("re-join with: dawnwatch-agent join"),
        "{status}"
    );
}

#[tokio::test]
async fn a_host_joins_and_speaks() {
    let house = House::new().await;
    let host = Host::new("web01");
    let joined = house.join(&host, &house.line).await.unwrap();
    assert_eq!(joined.host_name, "web01");
    assert!(joined.offset_ms.abs() < 5_000, "{joined:?}");
    house.speak(&host).await.unwrap();
    let record = house.record(joined.host_id);
    assert_eq!((record.name.as_str(), record.generation), ("web01", 1));
    assert_eq!(*house.told.lock().unwrap(), [record]);
    let identity = host.identity();
    assert_eq!(identity.servers, std::slice::from_ref(&house.addr));
    assert_eq!(
        identity.not_after,
        start_of_time() + SignedDuration::from_hours(30 * 24)
    );
    let other = Host::new("web02");
    let second = house.join(&other, &house.line).await.unwrap();
    assert_ne!(
        second.host_id, joined.host_id,
        "another name is another host"
    );
    assert!(!host.state.join("identity.pending.json").exists());
}

#[tokio::test]
async fn without_a_certificate_only_enrolment_answers() {
    let house = House::new().await;
    let channel = house.bare_channel().await;
    let status = TelemetryClient::new(channel.clone())
        .stream(tokio_stream::empty())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(
        status.message().contains("dawnwatch-agent join"),
        "{status}"
    );
    let mut client = EnrolmentClient::new(channel);
    let status = client.join(pb::JoinRequest::default()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, REFUSED)
    );
    let status = client.renew(pb::RenewRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
}

#[tokio::test]
async fn the_secret_never_reaches_a_server_with_another_ca() {
    let house = House::new().await;
    let other = tempfile::tempdir().unwrap();
    let (other, _) = Identity::open(other.path(), start_of_time(), &[]).unwrap();
    let config = other.server_config(house.now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    // Same names, same TLS, another CA: it counts what it gets to read.
    let fake = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        if let Ok(mut tls) = tokio_rustls::TlsAcceptor::from(config).accept(tcp).await {
            tls.read_to_end(&mut heard).await.ok();
        }
        heard.len()
    });
    let host = Host::new("web01");
    let error = agent::join(&addr, &house.line, &host.state, None, start_of_time()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, JoinError::WrongServer(_)), "{error}");
    assert_eq!(error.exit_code(), 77);
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("the server at {addr} is not the one that made")),
        "{text}"
    );
    assert_eq!(fake.await.unwrap(), 0, "bytes after the handshake");
    assert!(AgentIdentity::load(&host.state).is_err());
    assert_eq!(house.identity.tokens()[0].uses_left, 500);
}

#[tokio::test]
async fn a_host_s_certificate_does_not_make_a_server() {
    let house = House::new().await;
    let host = Host::new("web01");
    house.join(&host, &house.line).await.unwrap();
    // The thief of a host's key has a chain that ends in the right CA.
    let text = std::fs::read_to_string(host.state.join("identity.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let leaf = unbase64(document["leaf"].as_str().unwrap());
    let key = unbase64(document["key"].as_str().unwrap());
    let ca = std::fs::read(house.dir.path().join("ca.der")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.into(), ca.into()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key).into(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let fake = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(tcp)
            .await
            .is_ok()
    });
    let victim = Host::new("db01");
    let error = agent::join(&addr, &house.line, &victim.state, None, start_of_time()).await;
    assert!(matches!(error, Err(JoinError::WrongServer(_))), "{error:?}");
    assert!(!fake.await.unwrap());
}

#[tokio::test]
async fn a_bad_token_is_refused_in_one_way_whatever_is_wrong_with_it() {
    let house = House::new().await;
    let used = house.token(1, 3600);
    house.join(&Host::new("first"), &used).await.unwrap();
    let expired = house.token(9, 3600);
    let revoked = house.token(9, 24 * 3600 * 3);
    house
        .identity
        .revoke_token(&revoked.parse::<JoinLine>().unwrap().id)
        .unwrap();
    let good = house.token(9, 24 * 3600 * 3).parse::<JoinLine>().unwrap();
    let mut wrong_secret = good.clone();
    wrong_secret.secret = used.parse::<JoinLine>().unwrap().secret;
    let mut wrong_id = good.clone();
    wrong_id.id = "aaaaaaaa".to_owned();
    house.pass_days(1);
    let lines = [
        used,
        expired,
        revoked,
        wrong_secret.to_string(),
        wrong_id.to_string(),
    ];
    for line in lines {
        let error = house.join(&Host::new("web01"), &line).await.unwrap_err();
        assert!(matches!(error, JoinError::Refused(_)), "{error}");
        assert_eq!(
            (error.to_string().as_str(), error.exit_code()),
            (REFUSED, 77),
            "{line}"
        );
    }
    house
        .join(&Host::new("web01"), &good.to_string())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_lets_in_one_of_fifty() {
    let house = Arc::new(House::new().await);
    let line = house.token(1, 3600);
    let mut joining = Vec::new();
    for number in 0..50 {
        let (house, line) = (house.clone(), line.clone());
        joining.push(tokio::spawn(async move {
            house
                .join(&Host::new(&format!("host{number}")), &line)
                .await
        }));
    }
    let mut won = 0;
    for result in joining {
        match result.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error.to_string(), REFUSED),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(house.identity.hosts().len(), 1);
    let (again, _) = Identity::open(house.dir.path(), start_of_time(), &[]).unwrap();
    assert_eq!(
        again.hosts(),
        house.identity.hosts(),
        "and so it stands on disk"
    );
    let left: Vec<u32> = again.tokens().iter().map(|token| token.uses_left).collect();
    assert!(left.contains(&0), "{left:?}");
}

#[tokio::test]
async fn joining_again_with_the_same_line_costs_nothing() {
    let house = House::new().await;
    let line = house.token(1, 3600);
    let host = Host::new("web01");
    let first = house.join(&host, &line).await.unwrap();
    house.pass_days(2);
    let second = house.join(&host, &line).await.unwrap();
    assert_eq!(
        (second.host_id, second.host_name),
        (first.host_id, first.host_name)
    );
    house.renew(&host).await.unwrap();
    house.speak(&host).await.unwrap();
    house.join(&host, &line).await.unwrap();
    house.speak(&host).await.unwrap();
    let record = house.record(first.host_id);
    assert_eq!((record.generation, house.identity.hosts().len()), (2, 1));
}

#[tokio::test]
async fn killed_at_any_point_of_joining_it_goes_on_where_it_was() {
    let house = House::new().await;
    let line = house.token(1, 3600);
    let host = Host::new("web01");
    let first = house.join(&host, &line).await.unwrap();
    // The answer was lost: the key is pending, the identity was never written.
    let whole = host.copy();
    let text = std::fs::read_to_string(host.state.join("identity.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pending = serde_json::json!({
        "version": 1,
        "purpose": {"join": {"pin": document["pins"][0], "token": document["token"]}},
        "key": document["key"],
    });
    std::fs::remove_file(host.state.join("identity.json")).unwrap();
    std::fs::write(
        host.state.join("identity.pending.json"),
        pending.to_string(),
    )
    .unwrap();
    std::fs::write(host.state.join(".identity.json.tmp"), "{\"ver").unwrap();
    let second = house.join(&host, &line).await.unwrap();
    assert_eq!(second.host_id, first.host_id);
    house.speak(&host).await.unwrap();
    // The identity was written, the pending key not yet forgotten.
    host.restore(&whole);
    std::fs::write(
        host.state.join("identity.pending.json"),
        pending.to_string(),
    )
    .unwrap();
    house.speak(&host).await.unwrap();
    house.renew(&host).await.unwrap();
    house.speak(&host).await.unwrap();
    assert_eq!(house.record(first.host_id).generation, 2);
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_repeated() {
    let house = House::new().await;
    let host = Host::new("web01");
    let id = house.join(&host, &house.line).await.unwrap().host_id;
    let before = host.copy();
    house.renew(&host).await.unwrap();
    // The server has given generation 2; this host never heard of it. Its old certificate goes on to count.
    host.restore(&before);
    house.speak(&host).await.unwrap();
    house.renew(&host).await.unwrap();
    house.speak(&host).await.unwrap();
    assert_eq!(house.record(id).generation, 3);
    says_rejoin(house.speak(&before).await);
    // Killed after the server gave generation 4 and before it was stored: the pending key gets the same one.
    let before = host.copy();
    house.renew(&host).await.unwrap();
    let text = std::fs::read_to_string(host.state.join("identity.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pending = serde_json::json!({
        "version": 1,
        "purpose": {"renew": {"host_id": document["host_id"]}},
        "key": document["key"],
    });
    host.restore(&before);
    std::fs::write(
        host.state.join("identity.pending.json"),
        pending.to_string(),
    )
    .unwrap();
    house.renew(&host).await.unwrap();
    house.speak(&host).await.unwrap();
    assert_eq!(house.record(id).generation, 4);
}

#[tokio::test]
async fn a_clock_ten_years_off_joins_and_renews() {
    let house = House::new().await;
    let ten_years = SignedDuration::from_hours(10 * 365 * 24);
    for (name, wall) in [
        ("past", start_of_time() - ten_years),
        ("future", start_of_time() + ten_years),
    ] {
        let host = Host::new(name);
        let joining = agent::join(
            &house.addr,
            &house.line,
            &host.state,
            Some(name.to_owned()),
            wall,
        );
        let joined = joining.await.unwrap();
        let off = (wall.as_millisecond() + joined.offset_ms) - start_of_time().as_millisecond();
        assert!(off.abs() < 5_000, "{name}: {off} ms");
        house.speak(&host).await.unwrap();
        let mut identity = host.identity();
        assert!(
            !identity.renew_if_due(&house.addr, wall).await.unwrap(),
            "{name}: not due"
        );
        let late = wall + SignedDuration::from_hours(20 * 24);
        assert!(
            identity.renew_if_due(&house.addr, late).await.unwrap(),
            "{name}: due"
        );
        house.speak(&host).await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_is_set_right_is_taken_note_of() {
    let house = House::new().await;
    let host = Host::new("web01");
    let wrong = start_of_time() + SignedDuration::from_hours(10 * 365 * 24);
    agent::join(&house.addr, &house.line, &host.state, None, wrong)
        .await
        .unwrap();
    let right = start_of_time() + SignedDuration::from_hours(20 * 24);
    let mut identity = host.identity();
    assert!(
        !identity.is_due(right),
        "by the old offset it is ten years ago"
    );
    identity
        .note_server_time(right.as_millisecond(), right)
        .unwrap();
    assert!(identity.is_due(right));
    assert!(host.identity().is_due(right), "and stored");
}

#[tokio::test]
async fn the_same_machine_joins_again_under_its_old_id() {
    let house = House::new().await;
    let host = Host::new("web01");
    let first = house.join(&host, &house.line).await.unwrap();
    house.speak(&host).await.unwrap();
    let fresh = Host::new("web01");
    let second = house.join(&fresh, &house.line).await.unwrap();
    assert_eq!(
        (second.host_id, second.host_name.as_str()),
        (first.host_id, "web01")
    );
    house.speak(&host).await.unwrap();
    house.speak(&fresh).await.unwrap();
    // Now that the new certificate is in use, the old one is over, on streams that live too.
    says_rejoin(house.speak(&host).await);
    assert_eq!(house.record(first.host_id).generation, 2);
    assert_eq!(house.record(first.host_id).joined, start_of_time());
    house.join(&host, &house.token(1, 60)).await.unwrap();
    house.speak(&host).await.unwrap();
}

#[tokio::test]
async fn a_retired_host_is_refused_until_it_joins_again() {
    let house = House::new().await;
    let host = Host::new("web01");
    let id = house.join(&host, &house.line).await.unwrap().host_id;
    house.identity.retire(id, start_of_time()).unwrap();
    says_rejoin(house.speak(&host).await);
    let refused = house.renew(&host).await.unwrap_err();
    assert!(matches!(refused, RenewError::Refused(_)), "{refused}");
    let again = house.join(&host, &house.line).await.unwrap();
    assert_eq!(again.host_id, id);
    house.speak(&host).await.unwrap();
    assert_eq!(house.record(id).retired, None);
}

#[tokio::test]
async fn a_denied_key_is_of_no_more_use() {
    let house = House::new().await;
    let host = Host::new("web01");
    let id = house.join(&host, &house.line).await.unwrap().host_id;
    let thief = host.copy();
    house.identity.deny(id).unwrap();
    says_rejoin(house.speak(&host).await);
    let refused = house.renew(&thief).await.unwrap_err();
    assert!(matches!(refused, RenewError::Refused(_)), "{refused}");
    house.join(&host, &house.line).await.unwrap();
    house.speak(&host).await.unwrap();
    says_rejoin(house.speak(&thief).await);
}

#[tokio::test]
async fn an_expired_certificate_renews_and_one_taken_back_does_not() {
    let house = House::new().await;
    let (host, denied) = (Host::new("web01"), Host::new("web02"));
    house.join(&host, &house.line).await.unwrap();
    let bad = house.join(&denied, &house.line).await.unwrap().host_id;
    house.identity.deny(bad).unwrap();
    house.pass_days(60);
    let status = house.speak(&host).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(
        status.message().contains("web01 ended on 2026-11-04"),
        "{status}"
    );
    house.renew(&host).await.unwrap();
    house.speak(&host).await.unwrap();
    assert!(matches!(
        house.renew(&denied).await,
        Err(RenewError::Refused(_))
    ));
}

#[tokio::test]
async fn after_ninety_days_only_joining_helps() {
    let house = House::new().await;
    let host = Host::new("web01");
    let id = house
        .join(&host, &house.token(1, 60))
        .await
        .unwrap()
        .host_id;
    house.pass_days(121);
    let refused = house.renew(&host).await.unwrap_err().to_string();
    assert!(
        refused.contains("too long ago to renew: re-join with:"),
        "{refused}"
    );
    let again = house.join(&host, &house.token(1, 60)).await.unwrap();
    assert_eq!(again.host_id, id);
    house.speak(&host).await.unwrap();
}

#[tokio::test]
async fn a_signature_proves_who_renews_where_tls_does_not() {
    let house = House::new().await;
    let mut client = EnrolmentClient::new(house.bare_channel().await);
    let line: JoinLine = house.line.parse().unwrap();
    let (held, fresh) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let joining = pb::JoinRequest {
        token_id: line.id,
        secret: line.secret,
        csr: csr(&held),
        hostname: "web01".to_owned(),
        ..pb::JoinRequest::default()
    };
    let joined = client.join(joining).await.unwrap().into_inner();
    let certificate = joined.chain[0].clone();
    let renewal = |signer: &KeyPair, key: &KeyPair| {
        let csr = csr(key);
        let proof = signer
            .sign(&[b"dawnwatch renew", csr.as_slice()].concat())
            .unwrap();
        pb::RenewRequest {
            certificate: certificate.clone(),
            csr,
            proof,
        }
    };
    let good = renewal(&held, &fresh);
    let of_ca = pb::RenewRequest {
        certificate: joined.ca.clone(),
        ..good.clone()
    };
    let moved = pb::RenewRequest {
        csr: csr(&held),
        ..good.clone()
    };
    let unsigned = pb::RenewRequest {
        proof: Vec::new(),
        ..good.clone()
    };
    for bad in [renewal(&fresh, &fresh), of_ca, moved, unsigned] {
        let status = client.renew(bad).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    }
    client.renew(good).await.unwrap();
    let record = house.record(joined.host_id.parse().unwrap());
    assert_eq!(record.issued.len(), 2);
}

#[tokio::test]
async fn a_server_certificate_from_before_our_own_is_refused() {
    let house = House::new().await;
    let host = Host::new("web01");
    house.join(&host, &house.line).await.unwrap();
    let stolen = tempfile::tempdir().unwrap();
    copy_dir(house.dir.path(), stolen.path());
    house.pass_days(60);
    house.renew(&host).await.unwrap();
    house.speak(&host).await.unwrap();
    let thief = House::at(stolen, start_of_time()).await;
    let error = agent::channel(&host.identity(), &thief.addr, TIMEOUT)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Expired { .. }), "{error}");
}

#[tokio::test]
async fn a_joined_host_does_not_speak_to_another_server() {
    let (house, other) = (House::new().await, House::new().await);
    let host = Host::new("web01");
    house.join(&host, &house.line).await.unwrap();
    let error = agent::channel(&host.identity(), &other.addr, TIMEOUT)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::WrongServer { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("is not the one this host joined"),
        "{error}"
    );
    // Joining the other one is what a person may want; the servers of the first are forgotten.
    house.join(&host, &house.line).await.unwrap();
    other.join(&host, &other.line).await.unwrap();
    assert_eq!(host.identity().servers, std::slice::from_ref(&other.addr));
    other.speak(&host).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_of_another_ca_is_refused() {
    let (house, other) = (House::new().await, House::new().await);
    let host = Host::new("web01");
    other.join(&host, &other.line).await.unwrap();
    // An agent that was made to trust this server, with the identity of the other.
    let text = std::fs::read_to_string(host.state.join("identity.json")).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pin: String = house
        .identity
        .pin()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    document["pins"] = serde_json::json!([pin]);
    std::fs::write(host.state.join("identity.json"), document.to_string()).unwrap();
    // TLS 1.3: the client learns of the refusal with its first reading, which HTTP/2 may or may not have done by now.
    let channel = match agent::channel(&host.identity(), &house.addr, TIMEOUT).await {
        Ok(channel) => channel,
        Err(error) => {
            assert!(matches!(error, ConnectError::Http { .. }), "{error}");
            return;
        }
    };
    let status = TelemetryClient::new(channel)
        .stream(tokio_stream::empty())
        .await
        .unwrap_err();
    assert!(
        !status.message().contains("re-join"),
        "it got past TLS: {status}"
    );
}

#[tokio::test]
async fn a_server_that_forgot_a_generation_goes_on_and_one_that_forgot_a_host_says_so() {
    let house = House::new().await;
    let host = Host::new("web01");
    let id = house.join(&host, &house.line).await.unwrap().host_id;
    let backup = tempfile::tempdir().unwrap();
    copy_dir(house.dir.path(), backup.path());
    house.renew(&host).await.unwrap();
    let later = Host::new("web02");
    house.join(&later, &house.line).await.unwrap();
    let restored = House::at(backup, start_of_time()).await;
    restored.speak(&host).await.unwrap();
    assert_eq!(restored.record(id).generation, 2);
    says_rejoin(restored.speak(&later).await);
}

#[tokio::test]
async fn a_stream_that_lives_is_cut_when_its_certificate_is_taken_back_or_ends() {
    let house = House::new().await;
    let host = Host::new("web01");
    let id = house.join(&host, &house.line).await.unwrap().host_id;
    let not_after = host.identity().not_after;
    let proven = dawnwatch_server::identity::Proven {
        id,
        generation: 1,
        not_after,
    };
    let check = |now| house.identity.check(&proven, now);
    assert_eq!(check(not_after), Ok(()));
    let ended = Refusal::Expired {
        name: "web01".to_owned(),
        ended: not_after,
    };
    assert_eq!(check(not_after + SignedDuration::from_secs(1)), Err(ended));
    house.identity.deny(id).unwrap();
    assert_eq!(
        check(start_of_time()),
        Err(Refusal::Denied {
            name: "web01".to_owned()
        })
    );
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_apart() {
    let house = House::new().await;
    let host = Host::new("web01");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let line = &house.line;
    for (server, line, code, told) in [
        ("https://mon", line.as_str(), 64, "begins with a scheme"),
        (&house.addr, "dw1.cut", 65, "has 2 parts"),
        (&closed.to_string(), line, 69, "cannot connect to 127.0.0.1"),
        (
            "no-such-host.invalid",
            line,
            69,
            "cannot resolve no-such-host.invalid:7443",
        ),
    ] {
        let error = agent::join(server, line, &host.state, None, start_of_time()).await;
        let error = error.unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(told), "{error}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let state = file.path().join("state");
    let error = agent::join(&house.addr, line, &state, None, start_of_time())
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 73, "{error}");
    let plain = plain_server().await;
    let error = agent::join(&plain.to_string(), line, &host.state, None, start_of_time()).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("check the port"), "{error}");
    assert_eq!(error.exit_code(), 69);
}

#[tokio::test]
async fn connections_that_say_nothing_hold_nobody_up() {
    let mut house = House::new().await;
    drop(house.stop.take());
    house.serving.take().unwrap().await.unwrap();
    let handshake_timeout = Duration::from_millis(200);
    house
        .serve(Limits {
            handshakes: 4,
            handshake_timeout,
            ..Limits::default()
        })
        .await;
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(TcpStream::connect(&house.addr).await.unwrap());
    }
    let host = Host::new("web01");
    house.join(&host, &house.line).await.unwrap();
    house.speak(&host).await.unwrap();
}

/// Base64, as the identity file has it.
fn unbase64(text: &str) -> Vec<u8> {
    let letters: Vec<u8> = (b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .chain(b'0'..=b'9')
        .chain(*b"+/")
        .collect();
    let mut out = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        let value = letters.iter().position(|letter| *letter == c).unwrap();
        held = (held << 6) | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from((held >> bits) & 0xff).unwrap());
        }
    }
    out
}

/// Answers in plain text, like the server that somebody took for ours.
async fn plain_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut hello = [0; 64];
        tcp.read_exact(&mut hello).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"SSH-2.0-OpenSSH_9.2\r\n")
            .await
            .unwrap();
    });
    addr
}
