//! The port for people, on a real server over loopback: set-up link, login, rate limit, CSRF, foreign names, slow clients,
//! every route with every role, a certificate that is replaced, a proxy in front.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_engine::{Effect, Entry};
use dawnwatch_proto::api::{BearerToken, History, Me, NewPerson, PersonState, Role, SetupLink};
use dawnwatch_segment::{Disk, RealDisk};
use dawnwatch_server::ledger;
use dawnwatch_server::web::access::{Access, ROUTES};
use dawnwatch_tests::house::{Server, ServerOptions, binary};
use dawnwatch_tests::wait::until;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

const PASSWORD: &str = "correct horse battery";

/// No single answer takes longer; a head that drips is cut off within it as well.
const WITHIN: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug, Clone)]
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn csrf(&self) -> &str {
        let after = self.body.split("name=\"csrf\" value=\"").nth(1);
        let value = after.and_then(|rest| rest.split('"').next());
        value.unwrap_or_else(|| panic!("no form: {self:?}"))
    }
}

/// A browser: keeps cookies, says what a test wants it to say.
#[derive(Debug, Clone)]
struct Browser {
    address: SocketAddr,
    /// Trusted certificate, where it speaks TLS.
    trusted: Option<Vec<u8>>,
    cookies: BTreeMap<String, String>,
    headers: Vec<(String, String)>,
}

impl Browser {
    fn new(server: &Server) -> Browser {
        Browser {
            address: server.web,
            trusted: None,
            cookies: BTreeMap::new(),
            headers: Vec::new(),
        }
    }

    fn with(&self, name: &str, value: &str) -> Browser {
        let mut out = self.clone();
        out.headers.retain(|(key, _)| key != name);
        out.headers.push((name.to_owned(), value.to_owned()));
        out
    }

    fn get(&mut self, path: &str) -> Answered {
        self.ask("GET", path, "")
    }

    fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answered {
        let body: Vec<String> = form
            .iter()
            .map(|(key, value)| format!("{key}={}", value.replace(' ', "+").replace('&', "%26")))
            .collect();
        self.ask("POST", path, &body.join("&"))
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Answered {
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        let mut headers = self.headers.clone();
        let has =
            |headers: &[(String, String)], name: &str| headers.iter().any(|(key, _)| key == name);
        if !has(&headers, "host") {
            headers.push(("host".to_owned(), self.address.to_string()));
        }
        if !has(&headers, "content-type") {
            let kind = "application/x-www-form-urlencoded";
            headers.push(("content-type".to_owned(), kind.to_owned()));
        }
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        headers.push(("cookie".to_owned(), cookies.join("; ")));
        headers.push(("content-length".to_owned(), body.len().to_string()));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let text = self.exchange(&format!("{head}\r\n{body}"));
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let answered = Answered {
            status: status.expect("a status"),
            head: head.replace('\r', ""),
            body: body.to_owned(),
        };
        self.keep_cookies(&answered);
        answered
    }

    fn exchange(&self, request: &str) -> String {
        let stream = TcpStream::connect(self.address).expect("the port answers");
        stream.set_read_timeout(Some(WITHIN)).expect("a bound");
        let mut text = Vec::new();
        match &self.trusted {
            None => {
                let mut stream = stream;
                stream
                    .write_all(request.as_bytes())
                    .expect("a request is sent");
                stream.read_to_end(&mut text).expect("an answer comes");
            }
            Some(certificate) => {
                let mut stream = tls(stream, certificate);
                stream
                    .write_all(request.as_bytes())
                    .expect("a request is sent");
                stream.read_to_end(&mut text).expect("an answer comes");
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn keep_cookies(&mut self, answered: &Answered) {
        for line in answered.head.lines() {
            let Some(set) = line.strip_prefix("set-cookie: ") else {
                continue;
            };
            let pair = set.split(';').next().and_then(|pair| pair.split_once('='));
            let (name, value) = pair.expect("a cookie has a name");
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn log_in(&mut self, name: &str, password: &str) -> Answered {
        let csrf = self.get("/login").csrf().to_owned();
        let form = [
            ("name", name),
            ("password", password),
            ("csrf", &csrf),
            ("next", "/account"),
        ];
        self.post("/login", &form)
    }

    /// Uses a link up.
    fn set_up(&mut self, link: &str, name: &str) -> Answered {
        let code = link.split("code=").nth(1).expect("a code");
        let csrf = self.get(&format!("/setup?code={code}")).csrf().to_owned();
        let form = [
            ("code", code),
            ("name", name),
            ("password", PASSWORD),
            ("again", PASSWORD),
            ("csrf", &csrf),
        ];
        self.post("/setup", &form)
    }

    fn me(&mut self) -> Option<Me> {
        let answered = self.get("/api/v1/me");
        (answered.status == 200).then(|| serde_json::from_str(&answered.body).expect("a person"))
    }
}

fn tls(
    stream: TcpStream,
    certificate: &[u8],
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(certificate).expect("a certificate"))
        .expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("watch.example.org").expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    rustls::StreamOwned::new(connection, stream)
}

fn start(settings: &str) -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    fs::create_dir(&data).expect("a directory");
    fs::write(data.join("dawnwatch.toml"), settings).expect("settings");
    let server = Server::start(&data, &ServerOptions::default());
    (dir, server)
}

fn first_link(server: &Server) -> String {
    let link = fs::read_to_string(server.data.join("first-admin")).expect("the first link");
    link.trim().to_owned()
}

/// What the ledger says of people: who, whom, what.
fn noted(server: &Server) -> Vec<(String, String, String)> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut out = Vec::new();
    let walked = ledger::walk(&disk, &server.data, |frame| {
        for effect in frame.effects {
            if let Effect::Record(Entry::Person { by, about, what }) = effect {
                out.push((by, about, what));
            }
        }
    });
    walked.expect("the ledger is whole");
    out
}

#[test]
fn the_first_admin_comes_by_a_link_that_works_once() {
    let (_dir, mut server) = start("");
    let link = first_link(&server);
    let mut ann = Browser::new(&server);
    for _ in 0..3 {
        let path = &link[link.find("/setup").expect("a path")..];
        assert_eq!(ann.get(path).status, 200, "a GET uses nothing up");
    }
    let code = link.split("code=").nth(1).expect("a code");
    let csrf = ann.get(&format!("/setup?code={code}")).csrf().to_owned();
    for (password, again, part) in [
        ("short", "short", "fewer than 12"),
        (PASSWORD, "correct horse batter", "differ"),
        ("annannannann", "annannannann", "guessed"),
    ] {
        let form = [
            ("code", code),
            ("name", "Ann"),
            ("password", password),
            ("again", again),
            ("csrf", &csrf),
        ];
        let refused = ann.post("/setup", &form);
        assert_eq!(refused.status, 422);
        assert!(refused.body.contains(part), "{}", refused.body);
    }
    assert_eq!(ann.set_up(&link, "Ann").status, 303);
    assert_eq!(
        ann.me(),
        Some(Me {
            name: "Ann".to_owned(),
            role: Role::Admin
        })
    );
    let mut eve = Browser::new(&server);
    assert_eq!(eve.get(&format!("/setup?code={code}")).status, 410);
    let csrf = eve.get("/login").csrf().to_owned();
    let form = [
        ("code", code),
        ("name", "Eve"),
        ("password", PASSWORD),
        ("again", PASSWORD),
        ("csrf", &csrf),
    ];
    assert_eq!(eve.post("/setup", &form).status, 410);
    assert_eq!(eve.me(), None);
    // The next admin comes by the command.
    let made = server.command(&["people", "admin-link"]);
    let made = String::from_utf8_lossy(&made.stdout).into_owned();
    let link = made.lines().next().expect("a link").to_owned();
    assert_eq!(eve.set_up(&link, "ann").status, 422, "the name is taken");
    assert_eq!(eve.set_up(&link, "Bea").status, 303);
    let people: Vec<PersonState> = server.get("/api/v1/people").expect("people");
    assert_eq!(people.len(), 2);
    assert!(server.stop().success());
    let noted = noted(&server);
    assert!(
        noted.iter().any(|(by, about, what)| by == "P-1"
            && about == "P-1"
            && what.contains("became admin")),
        "{noted:?}"
    );
    assert!(
        !format!("{noted:?}").contains("Ann"),
        "the ledger holds no names: {noted:?}"
    );
}

#[test]
fn wrong_passwords_are_answered_alike_and_slow_down_and_sessions_end() {
    let (_dir, mut server) = start("");
    let mut ann = Browser::new(&server);
    assert_eq!(ann.set_up(&first_link(&server), "Ann").status, 303);
    let session = ann.cookies.clone();
    let csrf = ann.get("/account").csrf().to_owned();
    assert_eq!(ann.post("/logout", &[("csrf", &csrf)]).status, 303);
    let mut stolen = Browser {
        cookies: session,
        ..Browser::new(&server)
    };
    assert_eq!(stolen.me(), None, "a session that ended is no session");

    let again = ann.log_in("ann", PASSWORD);
    assert_eq!(
        (again.status, again.header("location")),
        (303, Some("/account"))
    );
    // Another browser changes the password: the first one's session ends.
    let mut other = Browser::new(&server);
    other.log_in("Ann", PASSWORD);
    let csrf = other.get("/account").csrf().to_owned();
    let new = "battery horse correct";
    let change = |old: &'static str| [("old", old), ("password", new), ("again", new)];
    let send = |browser: &mut Browser, old| {
        let mut form = change(old).to_vec();
        form.push(("csrf", &csrf));
        browser.post("/account", &form)
    };
    assert_eq!(send(&mut other, "wrong wrong wrong").status, 403);
    assert_eq!(send(&mut other, PASSWORD).status, 303);
    assert!(other.me().is_some());
    assert_eq!(ann.me(), None);

    let mut eve = Browser::new(&server);
    let known = eve.log_in("ann", "wrong wrong wrong");
    let unknown = eve.log_in("nobody", "wrong wrong wrong");
    assert_eq!((known.status, unknown.status), (401, 401));
    let body =
        |answered: &Answered, name: &str| answered.body.replace(&format!("value=\"{name}\""), "");
    assert_eq!(body(&known, "ann"), body(&unknown, "nobody"));
    let slowed = until("too many wrong passwords", WITHIN, || {
        let answered = eve.log_in("ann", "wrong wrong wrong");
        (answered.status == 429).then_some(answered)
    });
    assert!(
        slowed
            .header("retry-after")
            .is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 0))
    );
    assert_eq!(
        eve.log_in("ann", new).status,
        429,
        "not even the right one is looked at"
    );
    assert!(server.stop().success());
    let failed: Vec<_> = noted(&server)
        .into_iter()
        .filter(|(by, _, _)| by == "server")
        .collect();
    assert!(
        failed
            .iter()
            .any(|(_, about, what)| about == "P-1" && what.contains("wrong passwords")),
        "{failed:?}"
    );
    assert!(failed.len() < 4, "told together: {failed:?}");
}

#[test]
fn what_other_sites_ask_for_is_refused() {
    let (_dir, server) = start("");
    let mut ann = Browser::new(&server);
    assert_eq!(ann.set_up(&first_link(&server), "Ann").status, 303);
    let csrf = ann.get("/account").csrf().to_owned();
    // A page elsewhere whose name points here.
    assert_eq!(
        ann.with("host", "evil.example").get("/api/v1/now").status,
        421
    );
    assert_eq!(
        ann.with("host", "localhost:1").get("/api/v1/now").status,
        200
    );
    // Posts from elsewhere, without and with what a browser says.
    let leave = [("csrf", csrf.as_str())];
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        assert_eq!(
            ann.with(name, value).post("/logout", &leave).status,
            403,
            "{name} {value}"
        );
    }
    assert_eq!(ann.post("/logout", &[]).status, 403);
    assert_eq!(ann.post("/logout", &[("csrf", "guess")]).status, 403);
    let json = ann.with("content-type", "application/json");
    assert_eq!(
        json.clone()
            .ask("POST", "/api/v1/incidents/I-999/ack", "{}")
            .status,
        403
    );
    let mut ours = json.with("x-csrf-token", &csrf);
    assert_eq!(
        ours.ask("POST", "/api/v1/incidents/I-999/ack", "{}").status,
        404
    );
    // A login form that another browser loaded.
    let mut eve = Browser::new(&server);
    let theirs = ann.get("/login").csrf().to_owned();
    let form = [("name", "ann"), ("password", PASSWORD), ("csrf", &theirs)];
    assert_eq!(eve.post("/login", &form).status, 403);
    assert!(ann.me().is_some(), "nothing of it logged anybody out");
    let page = ann.get("/account");
    for (name, part) in [
        ("content-security-policy", "default-src 'none'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert!(
            page.header(name).is_some_and(|value| value.contains(part)),
            "{name}"
        );
    }
    let own = ann
        .with("origin", &format!("http://{}", server.web))
        .post("/logout", &leave);
    assert_eq!(own.status, 303);
}

#[test]
#[allow(clippy::too_many_lines, reason = "one walk over the table")]
fn every_route_asks_for_its_role() {
    let (_dir, server) = start("");
    let mut tokens = BTreeMap::new();
    for role in Role::ALL {
        let wish = NewPerson {
            name: role.word().to_owned(),
            role,
        };
        let link: SetupLink = server.post("/api/v1/people", &wish).expect("a person");
        assert_eq!(Browser::new(&server).set_up(&link.link, "").status, 303);
        let path = format!("/api/v1/people/{}/token", role.word());
        let made: BearerToken = server.post(&path, &()).expect("a token");
        tokens.insert(role, made.token);
    }
    for route in ROUTES {
        let path = route
            .path
            .replace("{id}", "x")
            .replace("{name}", "x")
            .replace("{file}", "x");
        let ask = |token: Option<&String>| {
            let mut browser = Browser::new(&server).with("content-type", "application/json");
            if let Some(token) = token {
                browser = browser.with("authorization", &format!("Bearer {token}"));
            }
            browser.ask(route.method, &path, "[]")
        };
        let to_login = |answered: &Answered| {
            answered.status == 401 && (route.path.starts_with("/api/") || route.path == "/metrics")
                || answered
                    .header("location")
                    .is_some_and(|to| to.starts_with("/login?next="))
        };
        let says_no = |answered: &Answered| {
            let body = answered.body.to_lowercase();
            answered.status == 403
                && (body.contains("this needs the role") || body.contains("only root"))
        };
        let known = |answered: &Answered| {
            !answered.body.contains("does not know the request")
                && !answered.body.contains("no such page")
        };
        let what = |who: &str, answered: &Answered| {
            format!("{} {} as {who}: {answered:?}", route.method, route.path)
        };
        let nobody = ask(None);
        let refused = match route.access {
            Access::Open => !to_login(&nobody) && !says_no(&nobody),
            Access::Needs(_) => to_login(&nobody),
            Access::Root => says_no(&nobody),
        };
        assert!(refused, "{}", what("nobody", &nobody));
        for role in Role::ALL {
            let answered = ask(tokens.get(&role));
            let may = match route.access {
                Access::Open => true,
                Access::Needs(needed) => role >= needed,
                Access::Root => false,
            };
            assert_eq!(!says_no(&answered), may, "{}", what(role.word(), &answered));
            assert!(
                known(&answered) && !to_login(&answered),
                "{}",
                what(role.word(), &answered)
            );
        }
    }
    let mut made_up = Browser::new(&server).with("authorization", "Bearer dwp_P-1_aaaa");
    assert_eq!(made_up.get("/api/v1/now").status, 401);
    let bad = Browser::new(&server)
        .with(
            "authorization",
            &format!("Bearer {}", tokens[&Role::Viewer]),
        )
        .get("/api/v1/history");
    assert_eq!(bad.status, 400);
    assert!(bad.body.contains("\"error\""), "a problem: {}", bad.body);
    let role = server.command(&["people", "role", "operator", "viewer"]);
    assert!(role.status.success());
    let mut operator = Browser::new(&server).with(
        "authorization",
        &format!("Bearer {}", tokens[&Role::Operator]),
    );
    assert_eq!(
        operator.me().map(|me| me.role),
        Some(Role::Viewer),
        "in force with the next request"
    );
    assert!(
        server
            .command(&["people", "reset", "operator"])
            .status
            .success()
    );
    assert_eq!(operator.me(), None);
}

#[test]
fn who_dawdles_is_cut_off_and_holds_nobody_up() {
    let (_dir, server) = start("");
    let mut slow: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(server.web).expect("a connection");
            stream.set_read_timeout(Some(WITHIN)).expect("a bound");
            stream
                .write_all(b"GET / HTTP/1.1\r\nhost: loc")
                .expect("half a head");
            stream
        })
        .collect();
    assert_eq!(Browser::new(&server).get("/login").status, 200);
    for stream in &mut slow {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut rest);
        let text = String::from_utf8_lossy(&rest);
        assert!(text.is_empty() || text.contains(" 408 "), "{text}");
    }
    let mut huge = Browser::new(&server);
    let long = "x".repeat(2 * 1024 * 1024);
    let answered = huge.ask("POST", "/login", &format!("name={long}&password=x"));
    assert_eq!(answered.status, 413);
}

#[test]
fn the_server_says_whether_it_is_ready_and_its_numbers_to_those_who_may_know() {
    let (_dir, server) = start("");
    let mut anybody = Browser::new(&server);
    assert_eq!(anybody.get("/healthz").status, 200);
    until("the server to judge", WITHIN, || {
        (anybody.get("/readyz").status == 200).then_some(())
    });
    assert_eq!(anybody.get("/metrics").status, 401);
    assert_eq!(anybody.set_up(&first_link(&server), "Ann").status, 303);
    let numbers = anybody.get("/metrics").body;
    for name in [
        "judged_age_seconds",
        "inputs_judged_total",
        "journal_queue_inputs",
        "journal_lag_seconds",
        "journal_sync_seconds",
        "journal_sync_max_seconds",
        "step_max_seconds",
        "inputs_total",
        "outbox_pending_notifications",
        "outbox_oldest_seconds",
        "streams_open",
        "data_free_bytes",
        "data_size_bytes",
        "data_bytes{part=\"journal\"}",
        "data_bytes{part=\"history\"}",
        "data_bytes{part=\"ledger\"}",
        "resident_memory_bytes",
    ] {
        let line = numbers
            .lines()
            .find(|line| line.starts_with(&format!("dawnwatch_server_{name} ")));
        let value = line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
        assert!(value.is_some_and(f64::is_finite), "{name}: {numbers}");
        // Of what a running server must have some.
        if name.contains("sync") || name.contains("memory") || name.ends_with("total") {
            assert!(value > Some(0.0), "{name}: {numbers}");
        }
    }
    let described = |line: &&str| line.starts_with("# TYPE dawnwatch_server_data_bytes ");
    assert_eq!(numbers.lines().filter(described).count(), 1, "{numbers}");
}

#[test]
fn the_server_keeps_a_history_of_itself_and_is_no_host() {
    let (_dir, server) = start("");
    let mut ann = Browser::new(&server);
    assert_eq!(ann.set_up(&first_link(&server), "Ann").status, 303);
    let synced = until("a row of the server itself", WITHIN, || {
        let found = ann.get("/api/v1/history?host=server&series=journal_sync_max");
        let found: Option<History> = serde_json::from_str(&found.body).ok();
        found.filter(|found| !found.points.is_empty())
    });
    assert_eq!(synced.name, "server");
    assert_eq!(synced.series, "dawnwatch_server_journal_sync_max_seconds");
    let series = ann.get("/api/v1/series?host=server").body;
    assert!(
        series.contains("dawnwatch_server_data_bytes{part="),
        "{series}"
    );
    assert_eq!(ann.get("/api/v1/hosts?state=all").body, "[]");
    let now = ann.get("/api/v1/now").body;
    assert!(now.contains("\"hosts\":0"), "{now}");
    let rules = ann.get("/api/v1/rules").body;
    for rule in [
        "journal_slow",
        "outbox_old",
        "server_disk",
        "server_restarting",
    ] {
        assert!(rules.contains(rule), "{rule}: {rules}");
    }
    let unknown = ann.get("/api/v1/history?host=sever&series=journal_lag");
    assert_eq!(unknown.status, 404, "{unknown:?}");
}

fn certificate(dir: &Path, name: &str) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec![name.to_owned()];
    let params = rcgen::CertificateParams::new(names).expect("a name");
    let cert = params.self_signed(&key).expect("a certificate").pem();
    fs::write(dir.join("key.pem"), key.serialize_pem()).expect("a file");
    fs::write(dir.join("cert.pem"), &cert).expect("a file");
    cert.into_bytes()
}

#[test]
fn a_certificate_is_taken_up_when_it_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = certificate(dir.path(), "watch.example.org");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let settings = format!(
        "[web]\ncert = \"{}\"\nkey = \"{}\"\nname = \"watch.example.org\"\n",
        path("cert.pem"),
        path("key.pem")
    );
    let (_data, server) = start(&settings);
    let mut ann = Browser {
        trusted: Some(first),
        ..Browser::new(&server)
    }
    .with("host", "watch.example.org");
    let link = first_link(&server);
    assert!(link.starts_with("https://watch.example.org:"), "{link}");
    assert_eq!(ann.set_up(&link, "Ann").status, 303);
    assert!(ann.me().is_some());
    assert!(
        ann.cookies.keys().all(|name| name.starts_with("__Host-")),
        "{:?}",
        ann.cookies
    );

    let second = certificate(dir.path(), "watch.example.org");
    until("the new certificate", WITHIN, || {
        let stream = TcpStream::connect(server.web).expect("a connection");
        let mut stream = tls(stream, &second);
        stream
            .write_all(b"GET /login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .ok()
    });
    ann.trusted = Some(second);
    assert!(ann.me().is_some(), "the session went on");
}

#[test]
fn a_proxy_is_believed_and_nobody_else() {
    let (_dir, server) =
        start("[web]\nbehind_proxy = \"127.0.0.1\"\nname = \"watch.example.org\"\n");
    let link = first_link(&server);
    assert!(
        link.starts_with("https://watch.example.org/setup?"),
        "{link}"
    );
    let proxy = Browser::new(&server)
        .with("host", "watch.example.org")
        .with("x-forwarded-proto", "https")
        .with("x-forwarded-for", "203.0.113.9, 198.51.100.7");
    let mut ann = proxy.clone();
    assert_eq!(ann.set_up(&link, "Ann").status, 303);
    assert!(ann.cookies.keys().all(|name| name.starts_with("__Host-")));
    let mut plain = proxy.with("x-forwarded-proto", "http");
    assert_eq!(
        plain.get("/login").status,
        403,
        "the proxy does not encrypt"
    );
    // Tries are held against the address that the proxy saw, whatever stands before it.
    let mut eve = proxy.with("x-forwarded-for", "192.0.2.1, 198.51.100.8");
    let mut tried = 0;
    until("too many wrong passwords", WITHIN, || {
        tried += 1;
        eve = eve.with("x-forwarded-for", &format!("192.0.2.{tried}, 198.51.100.8"));
        (eve.log_in(&format!("name{tried}"), "wrong wrong wrong")
            .status
            == 429)
            .then_some(())
    });
    assert_eq!(ann.log_in("ann", PASSWORD).status, 303, "others go on");

    let (_dir, other) = start("");
    let mut direct = Browser::new(&other)
        .with("x-forwarded-proto", "https")
        .with("x-forwarded-for", "192.0.2.1");
    direct.get("/login");
    assert!(
        direct
            .cookies
            .keys()
            .all(|name| !name.starts_with("__Host-")),
        "nobody's proxy"
    );
}

fn run(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("dawnwatch-server"));
    command.arg("--data").arg(data).args(arguments);
    command.output().expect("dawnwatch-server runs")
}

#[test]
fn what_would_be_served_in_the_clear_or_on_a_taken_port_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |settings: &str, part: &str| {
        fs::write(dir.path().join("dawnwatch.toml"), settings).expect("settings");
        let said = run(dir.path(), &["check"]);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(78), "{settings}: {text}");
        assert!(text.contains(part), "{settings}: {text}");
    };
    check("[web]\nlisten = \"0.0.0.0:7440\"\n", "without encryption");
    check("[web]\nlisten = \"[::]:7440\"\n", "behind_proxy");
    check("[web]\nlisten = \"7440\"\n", "no address with a port");
    check("[web]\ncert = \"/x\"\n", "\"key\" is missing");
    check("[web]\nbehind_proxy = \"proxy.example\"\n", "is no address");
    check("[web]\nname = \"https://x\"\n", "neither a host name");
    fs::remove_file(dir.path().join("dawnwatch.toml")).expect("a file");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = run(
        dir.path(),
        &["run", "--listen", "127.0.0.1:0", "--web", &address],
    );
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(73), "{text}");
    assert!(text.contains("[web]") && text.contains(&address), "{text}");
    let said = run(
        dir.path(),
        &["run", "--listen", "127.0.0.1:0", "--web", "0.0.0.0:0"],
    );
    assert_eq!(said.status.code(), Some(78));
}
