//! Pages as a browser gets them, over a view that is filled by hand with the worst that others may write.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use dawnwatch_engine::Engine;
use dawnwatch_proto::HostId;
use dawnwatch_proto::api::{Alert, Host, Incident, Role, Told};
use dawnwatch_proto::review::{Importance, Row, Severity, Unwatched, Verdict};
use dawnwatch_segment::{Disk, RealDisk};
use jiff::Timestamp;
use tower::Service;

use super::*;
use crate::clock::Clock;
use crate::history::History;
use crate::identity::Identity;
use crate::index::{Index, Poke};
use crate::published::Published;
use crate::targets::Targets;
use crate::web::person::Person;

/// What nobody should be able to make a browser, a terminal or an eye believe.
const NASTY: &str =
    "<script>alert(1)</script>\"'><a href=javascript:alert(2)>\u{202e}gnp.exe\u{1b}[31m\u{0}&amp;";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn host(number: u128, name: &str) -> Host {
    Host {
        id: HostId(number),
        name: name.to_owned(),
        state: if number % 7 == 3 { "silent" } else { "live" }.to_owned(),
        joined: at(0),
        last_seen: Some(at(900)),
        importance: Importance::High,
        service: Some(format!("service of {name}")),
        owner: Some(name.to_owned()),
        aliases: vec![format!("once {name}")],
        labels: vec![("rack".to_owned(), name.to_owned())],
        site: None,
        agent_version: "0.1.0".to_owned(),
        system: "Debian 12".to_owned(),
        clock_offset_seconds: 0.0,
        series: 80,
        worst: (number == 3).then_some(Severity::Critical),
        values: vec![
            ("cpu_ratio".to_owned(), 0.12),
            ("memory_ratio".to_owned(), 0.5),
        ],
    }
}

fn incident(number: u32, name: &str) -> Incident {
    let evidence = (0..12).map(|i| {
        (
            at(10 * i),
            0.9 + 0.008 * f64::from(i32::try_from(i).unwrap()),
        )
    });
    Incident {
        id: format!("I-{number}"),
        host: HostId(3),
        name: name.to_owned(),
        service: Some("billing".to_owned()),
        owner: None,
        state: "open".to_owned(),
        severity: Severity::Critical,
        what: format!("{name} full"),
        since: at(40),
        turned: None,
        until: None,
        taken: None,
        cause: "cause unknown".to_owned(),
        alerts: vec![Alert {
            rule: "disk_full".to_owned(),
            series: format!("node_filesystem_avail_bytes{{mountpoint=\"{name}\"}}"),
            state: "firing".to_owned(),
            severity: Severity::Critical,
            since: at(40),
            fired: Some(at(60)),
            until: None,
            why: format!("{name} 98 % full for 1 m (bound 95 %)"),
            observed: 0.98,
            worst: 0.99,
            bound: 0.95,
            evidence: evidence.collect(),
            late: false,
        }],
        told: vec![Told {
            channel: "ops".to_owned(),
            reason: "opened".to_owned(),
            decided: at(61),
            fate: "arrived".to_owned(),
            at: Some(at(62)),
            answer: name.to_owned(),
        }],
        why: vec![format!("critical: {name}")],
        lines: Vec::new(),
    }
}

fn row(name: &str) -> Row {
    Row {
        id: "I-3".to_owned(),
        subject: name.to_owned(),
        service: None,
        what: format!("{name} is full"),
        severity: Severity::Critical,
        since: at(40),
        turned: None,
        until: None,
        cause: "cause unknown".to_owned(),
        owner: None,
        taken: Some((name.to_owned(), at(90))),
        evidence: vec![name.to_owned()],
        rank: format!("critical, {name}"),
        score: 1,
        state: "open".to_owned(),
    }
}

/// A house of hosts of which one is called something.
struct House {
    router: Router,
    _dir: tempfile::TempDir,
}

impl House {
    fn new(hosts: u128, name: &str) -> House {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (history, _) = History::open(&disk, dir.path()).unwrap();
        let mut view = Engine::new().view(at(1_000));
        view.hosts = (1..=hosts)
            .map(|i| {
                host(
                    i,
                    &if i == 3 {
                        name.to_owned()
                    } else {
                        format!("host{i:04}")
                    },
                )
            })
            .collect();
        view.incidents = vec![Arc::new(incident(3, name))];
        view.now.open = vec![incident(3, name)];
        view.now.hosts = u32::try_from(hosts).unwrap();
        let mut review = dawnwatch_proto::review::Review::clone(&view.so_far);
        review.verdict = Verdict::Critical;
        review.sentence = format!("Two things cannot wait: {name}");
        review.critical = (0..100).map(|_| row(name)).collect();
        review.tonight = vec![name.to_owned()];
        review.coverage.unwatched = (0..30)
            .map(|_| Unwatched {
                host: HostId(3),
                name: name.to_owned(),
                seconds: 600,
                from: at(0),
                reason: "silent".to_owned(),
                importance: Importance::Normal,
            })
            .collect();
        view.so_far = Arc::new(review);
        let (journal, _) = tokio::sync::mpsc::channel(1);
        let published = Arc::new(Published::new(
            view,
            Vec::new(),
            Arc::new(crate::reserve::Reserve::none()),
        ));
        let identity = Arc::new(Identity::open(dir.path(), at(0), &[]).unwrap().0);
        let targets = Targets::new(Arc::clone(&identity), Arc::clone(&published));
        let history = Arc::new(history);
        let disk: Arc<dyn dawnwatch_segment::Disk> = Arc::new(dawnwatch_segment::RealDisk);
        let poke = Arc::new(Poke::default());
        let index = Index::start(disk, dir.path(), Arc::clone(&history), Arc::clone(&poke));
        let state = State {
            data: dir.path().to_owned(),
            clock: Clock,
            history,
            index: Arc::new(index.unwrap()),
            poke,
            gauges: Arc::new(crate::vitals::Gauges::new(dir.path())),
            published,
            identity,
            targets: Arc::new(targets),
            journal,
            stopped: tokio::sync::watch::channel(false).1,
            agents: "mon01:7443".to_owned(),
            handout: Arc::new(crate::handout::Handout::new(None)),
        };
        let router = router()
            .fallback(async |visit: Visit| missing(&visit, false))
            .with_state(Arc::new(state));
        House { router, _dir: dir }
    }

    async fn get(&self, path: &str, role: Role) -> (StatusCode, String) {
        let person = Person {
            id: "p1".to_owned(),
            name: "A. Ruiz".to_owned(),
            role,
            csrf: "the-token".to_owned(),
        };
        let mut router = self.router.clone().layer(Extension(person));
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.call(request).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), 16 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn what_others_write_is_text_on_every_page() {
    let house = House::new(5, NASTY);
    let its_page = host_href(NASTY);
    let pages = [
        "/",
        "/?full=critical",
        "/now",
        "/now/strip",
        "/nights",
        "/nights/so-far",
        "/incidents",
        "/incidents/I-3",
        "/hosts",
        "/hosts?q=%3Cscript%3E",
        &its_page,
        "/rules",
        "/about",
        "/hosts/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/nights/%3Cscript%3E",
        "/incidents?state=%3Cscript%3E",
        "/nowhere/%3Cscript%3E",
        "/hosts?from=%3Cscript%3E",
    ];
    let mut shown = 0;
    for path in pages {
        let (_, html) = house.get(path, Role::Admin).await;
        assert!(!html.contains("<script>alert"), "{path}: {html}");
        assert!(!html.contains("<a href=javascript"), "{path}");
        assert!(
            !html
                .chars()
                .any(|c| c == '\u{202e}' || (c.is_control() && c != '\n')),
            "{path}: something hidden"
        );
        assert!(
            !html.contains(" style=") && !html.contains(" onclick="),
            "{path}: the policy forbids it"
        );
        shown += usize::from(html.contains(r"\u{202e}"));
    }
    assert!(
        shown >= 6,
        "what is hidden is shown where the name stands: on {shown} pages"
    );
}

#[tokio::test]
async fn a_review_says_everything_in_the_order_of_the_command() {
    let house = House::new(5, "db02");
    let (status, html) = house.get("/", Role::Viewer).await;
    assert_eq!(status, StatusCode::OK);
    let mut last = 0;
    for words in [
        "1 open, 1 critical",
        "CRITICAL",
        "Two things cannot wait: db02",
        "Watched",
        "22 more",
        "Critical, still open",
        "100</span>",
        "60 more",
        "Needs you today",
        "none",
        "Healed by itself",
        "Changed overnight",
        "Tonight and coming days",
        "Messages",
        "Sign-off",
    ] {
        let found = html[last..].find(words);
        last += found.unwrap_or_else(|| panic!("{words:?} is not there, or too early:\n{html}"));
    }
    let (_, full) = house.get("/?full=critical", Role::Viewer).await;
    assert_eq!(
        full.matches("<li class=\"finding").count(),
        100,
        "all of them on request"
    );
}

#[tokio::test]
async fn a_thousand_hosts_come_page_by_page() {
    let house = House::new(1_000, "db02");
    let (_, html) = house.get("/hosts", Role::Viewer).await;
    assert_eq!(html.matches("<th scope=\"row\">").count(), 50);
    assert!(html.contains("950 more"), "{html}");
    assert!(
        html.find("db02").unwrap() < html.find("host0010").unwrap(),
        "what is critical comes first"
    );
    let (_, last) = house.get("/hosts?from=980", Role::Viewer).await;
    assert_eq!(last.matches("<th scope=\"row\">").count(), 20);
    let (_, found) = house.get("/hosts?q=HOST0999", Role::Viewer).await;
    assert_eq!(found.matches("<th scope=\"row\">").count(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_answered_with_what_is_near() {
    let house = House::new(5, "db02");
    for (path, status, near) in [
        ("/hosts/db03", StatusCode::NOT_FOUND, "href=\"/hosts/db02\""),
        (
            "/incidents/I-4",
            StatusCode::NOT_FOUND,
            "href=\"/incidents/I-3\"",
        ),
        (
            "/nights/N-2020-01-01",
            StatusCode::NOT_FOUND,
            "no sealed night",
        ),
        ("/somewhere", StatusCode::NOT_FOUND, "href=\"/hosts\""),
        (
            "/hosts/db02?span=3y",
            StatusCode::BAD_REQUEST,
            "none of 1h, 24h, 7d",
        ),
        (
            "/incidents?from=x",
            StatusCode::BAD_REQUEST,
            "the address cannot be read",
        ),
        (
            "/theme?to=pink",
            StatusCode::BAD_REQUEST,
            "auto, light, dark",
        ),
    ] {
        let (got, html) = house.get(path, Role::Viewer).await;
        assert_eq!(got, status, "{path}: {html}");
        assert!(
            html.to_lowercase().contains(&near.to_lowercase()),
            "{path}: {html}"
        );
    }
}

#[tokio::test]
async fn only_who_may_is_offered_to_take_it() {
    let house = House::new(5, "db02");
    for (role, offered) in [
        (Role::Viewer, false),
        (Role::Operator, true),
        (Role::Admin, true),
    ] {
        let (_, html) = house.get("/incidents/I-3", role).await;
        assert_eq!(html.contains("I have it"), offered, "{role:?}");
        assert_eq!(html.contains("action=\"/incidents/I-3/ack\""), offered);
        assert!(html.contains("value=\"the-token\""), "logging out needs it");
        assert!(
            html.contains("class=\"bound\""),
            "the bound is in the chart"
        );
    }
}

#[tokio::test]
async fn colours_are_kept_and_lead_nowhere_else() {
    let house = House::new(1, "db02");
    for (path, to) in [
        ("/theme?to=dark&back=%2Fhosts", "/hosts"),
        ("/theme?to=dark&back=%2F%2Fevil.example", "/"),
        ("/theme?to=dark&back=%2F%5Cevil.example", "/"),
        ("/theme?to=dark&back=https%3A%2F%2Fevil.example", "/"),
        ("/theme?to=dark&back=%2Fa%0D%0ASet-Cookie%3A%20x", "/"),
        ("/theme?to=dark", "/"),
    ] {
        let mut router = house.router.clone();
        let answer = router
            .call(Request::get(path).body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
        assert_eq!(answer.headers()[header::LOCATION], to, "{path}");
        assert!(
            answer.headers()[header::SET_COOKIE]
                .to_str()
                .unwrap()
                .starts_with("dawnwatch-theme=dark; Path=/;")
        );
    }
}

#[tokio::test]
async fn assets_are_kept_for_ever_under_their_hash() {
    let house = House::new(1, "db02");
    let (_, html) = house.get("/", Role::Viewer).await;
    let names: Vec<&str> = html
        .split("\"/assets/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        let mut router = house.router.clone();
        let request = Request::get(format!("/assets/{name}"))
            .body(Body::empty())
            .unwrap();
        let answer = router.call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        assert!(
            answer.headers()[header::CACHE_CONTROL]
                .to_str()
                .unwrap()
                .contains("immutable")
        );
    }
    let (status, _) = house.get("/assets/page-0000.css", Role::Viewer).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
