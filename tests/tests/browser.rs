//! The pages in a real browser, over a real server with real agents: at three widths, in light and dark, with and without
//! scripts. Nothing may overflow or overlap, the console must stay empty, and axe must find nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dawnwatch_proto::api::{Host, Incident, NightHead, SetupLink};
use dawnwatch_proto::review::Severity;
use dawnwatch_tests::browser::{Browser, Look};
use dawnwatch_tests::house::{Agent, Server, ServerOptions, binary};
use dawnwatch_tests::needs::{self, Need};
use dawnwatch_tests::wait::{until, until_true};

/// A host is silent after 30 s.
const SOON: Duration = Duration::from_secs(90);

/// Forty times the usual pace, so that charts have something to draw.
const TICK_MS: u64 = 250;

/// Phone, tablet, desk.
const WIDTHS: [u32; 3] = [360, 768, 1280];

const AXE: &str = include_str!("../vendor/axe-core/axe.min.js");

/// What must hold of where things stand, as the browser laid them out.
const GEOMETRY: &str = include_str!("browser/geometry.js");

const SETTINGS: &str = r#"
[calendar]
zone = "Europe/Berlin"
hours = "Mon-Fri 08:00-18:00"

[rules.memory_high]
bound = 0.001
clear = 0.0005
hold = "2s"
severity = "critical"

[[host]]
match = "db*"
service = "billing, invoices and the monthly reports of the whole company"
owner = "A. Ruiz"
importance = "high"
"#;

struct House {
    server: Server,
    /// Where its pages are, without the slash.
    page: String,
    /// The way in for the first admin.
    link: String,
    incident: String,
    _agents: Vec<Agent>,
    dir: tempfile::TempDir,
}

impl House {
    /// A night that was sealed, two hosts at work, one that fell silent, and a critical incident with evidence.
    fn build() -> House {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("server");
        std::fs::create_dir_all(data.join("nights")).expect("the data directory");
        std::fs::write(data.join("dawnwatch.toml"), SETTINGS).expect("the configuration");
        let told = Command::new(binary("dawnwatch-demo"))
            .arg("--json")
            .output()
            .expect("the demo runs");
        std::fs::write(data.join("nights/N-2026-10-05.json"), &told.stdout)
            .expect("a sealed night");
        let server = Server::start(&data, &ServerOptions::default());
        let nights: Vec<NightHead> = server.get("/api/v1/nights").expect("nights");
        assert_eq!(
            nights.len(),
            1,
            "the sealed night is there: {}",
            server.log()
        );
        let token = server.token(3);
        let mut agents: Vec<Agent> = ["web01", "db02.branch-office.example.com", "nas01"]
            .into_iter()
            .map(|name| {
                let mut agent =
                    Agent::join(&dir.path().join(name), name, server.address, &token.join);
                agent.configure(TICK_MS, "");
                agent.start();
                agent
            })
            .collect();
        let open = |wanted: fn(&Incident) -> bool| {
            let all: Vec<Incident> = server.get("/api/v1/incidents").ok()?;
            all.into_iter()
                .find(|one| one.state == "open" && wanted(one))
        };
        let incident = until("a critical incident with evidence", SOON, || {
            open(|one| {
                one.name.starts_with("db02")
                    && one.severity == Severity::Critical
                    && one.alerts.iter().any(|a| a.evidence.len() > 3)
            })
        });
        agents.remove(2).kill();
        let _ = until("a silent host", SOON, || {
            let hosts: Vec<Host> = server.get("/api/v1/hosts").ok()?;
            hosts.into_iter().find(|host| host.state == "silent")
        });
        let setup: SetupLink = server
            .post("/api/v1/admin-link", &serde_json::json!({}))
            .expect("a link");
        let (page, _) = setup
            .link
            .split_once("/setup")
            .expect("the link of the set-up");
        let page = page.to_owned();
        House {
            server,
            page,
            link: setup.link,
            incident: incident.id,
            _agents: agents,
            dir,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.page)
    }

    fn pages(&self) -> Vec<(&'static str, String)> {
        let incident = format!("/incidents/{}", self.incident);
        [
            ("review", "/"),
            ("sealed", "/nights/N-2026-10-05"),
            ("now", "/now"),
            ("nights", "/nights"),
            ("incidents", "/incidents"),
            ("incident", incident.as_str()),
            ("hosts", "/hosts"),
            ("host", "/hosts/db02.branch-office.example.com"),
            ("rules", "/rules"),
            ("about", "/about"),
            ("missing", "/hosts/db03.branch-office.example.com"),
            ("login", "/login"),
            ("account", "/account"),
        ]
        .map(|(name, path)| (name, path.to_owned()))
        .to_vec()
    }
}

/// Opens the one-time link, chooses a name and a password, and so becomes an admin.
fn sign_in(browser: &Browser, house: &House) {
    browser.go(&house.link).expect("the link");
    assert_eq!(
        faults(browser, true).expect("an inspection"),
        Vec::<String>::new(),
        "the set-up"
    );
    browser.write("#name", "M. Ito").expect("a name");
    browser
        .write("#password", "four words are easy")
        .expect("a password");
    browser
        .write("#again", "four words are easy")
        .expect("the same");
    browser.click("main button").expect("it is set");
    // A password is made to be slow to check, and the machine may be busy.
    until_true("the first page", SOON, || {
        browser.url().is_ok_and(|place| place == house.url("/"))
    });
}

/// What is wrong with the page that the browser shows.
fn faults(browser: &Browser, axe: bool) -> anyhow::Result<Vec<String>> {
    let mut faults = browser.console()?;
    let found = browser.evaluate(GEOMETRY)?;
    faults.extend(
        found
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| format!("geometry: {one}")),
    );
    if axe {
        browser.evaluate(AXE)?;
        let found = browser.evaluate(
            "axe.run({resultTypes: ['violations']}).then(r => r.violations.map(v => v.id + ': ' + v.help + ' ' + v.nodes.slice(0, 3).map(n => n.html + ' ' + n.failureSummary).join(' | ')))",
        )?;
        faults.extend(
            found
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| format!("axe: {one}")),
        );
    }
    Ok(faults)
}

fn picture(browser: &Browser, name: &str, look: Look) -> anyhow::Result<()> {
    let Ok(dir) = std::env::var("BROWSER_PICTURES") else {
        return Ok(());
    };
    let colours = if look.dark { "dark" } else { "light" };
    std::fs::create_dir_all(&dir)?;
    std::fs::write(
        Path::new(&dir).join(format!("{name}-{}-{colours}.png", look.width)),
        browser.picture()?,
    )?;
    Ok(())
}

#[test]
fn pages_are_whole_at_every_width_in_every_colour_with_and_without_scripts() {
    if !needs::are_met(&[Need::Chromium]) {
        return;
    }
    let house = House::build();
    let browser = Browser::start(&house.dir.path().join("profile")).expect("a browser");
    sign_in(&browser, &house);
    let mut wrong = Vec::new();
    for script in [true, false] {
        for width in WIDTHS {
            for dark in [false, true] {
                let look = Look {
                    width,
                    dark,
                    script,
                };
                browser.look(look).expect("a window");
                for (name, path) in house.pages() {
                    browser.go(&house.url(&path)).expect("a page");
                    // Axe looks at contrast and structure, which do not change with scripts on or off.
                    let found = faults(&browser, script && width != 768).expect("an inspection");
                    let expected_404 = |text: &String| name == "missing" && text.contains("404");
                    wrong.extend(
                        found
                            .into_iter()
                            .filter(|one| !expected_404(one))
                            .map(|one| format!("{name} {look:?}: {one}")),
                    );
                    if script {
                        picture(&browser, name, look).expect("a picture");
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} faults:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    drop(house.server);
}

#[test]
fn a_fault_in_a_page_is_seen() {
    if !needs::are_met(&[Need::Chromium]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let browser = Browser::start(&dir.path().join("profile")).expect("a browser");
    let look = Look {
        width: 360,
        dark: false,
        script: true,
    };
    browser.look(look).expect("a window");
    for (html, fault) in [
        ("<p>fine", ""),
        ("<div style='width:500px'>wide</div>", "geometry"),
        (
            "<p style='position:absolute;top:9px'>over</p><p style='position:absolute;top:9px'>each other</p>",
            "geometry",
        ),
        (
            "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' width=9 height=9>",
            "axe: \"image-alt",
        ),
        ("<script>console.error('oh')</script>", "oh"),
        (
            "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\"><script>1</script>",
            "Content Security Policy",
        ),
    ] {
        let page = format!(
            "data:text/html,<!doctype html><html lang=en><meta name=viewport content='width=device-width'><title>x</title><main><h1>x</h1>{}",
            html.replace('#', "%23")
        );
        browser.go(&page).expect("a page");
        let found = faults(&browser, true).expect("an inspection").join("\n");
        assert_eq!(found.is_empty(), fault.is_empty(), "{html}: {found}");
        assert!(found.contains(fault), "{html}: {found}");
    }
}

#[test]
fn what_people_do_works_with_and_without_scripts() {
    if !needs::are_met(&[Need::Chromium]) {
        return;
    }
    let house = House::build();
    let browser = Browser::start(&house.dir.path().join("profile")).expect("a browser");
    sign_in(&browser, &house);
    for script in [false, true] {
        let look = Look {
            width: 360,
            dark: false,
            script,
        };
        browser.look(look).expect("a window");
        browser.go(&house.url("/hosts")).expect("hosts");
        browser.click(".cards tbody th a").expect("a host");
        assert!(
            browser.url().expect("a place").contains("/hosts/"),
            "a click on a host leads to it"
        );
        browser.click("a[href$='span=24h']").expect("another span");
        assert!(browser.url().expect("a place").ends_with("span=24h"));
        browser.click("details summary").expect("a table");
        let open = browser
            .evaluate("document.querySelector('details').open")
            .expect("an answer");
        assert_eq!(open, true, "the table opens");
        browser
            .click("footer a[href*='to=dark']")
            .expect("the colours");
        let ground = browser
            .evaluate("getComputedStyle(document.body).backgroundColor")
            .expect("an answer");
        assert_eq!(ground, "rgb(18, 22, 29)", "dark is kept");
        assert!(
            browser.url().expect("a place").ends_with("span=24h"),
            "and leads back"
        );
        browser
            .click("footer a[href*='to=auto']")
            .expect("the colours");
    }
    browser
        .go(&house.url(&format!("/incidents/{}", house.incident)))
        .expect("the incident");
    browser.write("#note", "on my way").expect("a remark");
    browser.click("form.act button").expect("it is taken");
    // The form is on its way when the click has ended.
    until_true("it to be taken", SOON, || {
        let path = format!("/api/v1/incidents/{}", house.incident);
        let incident: Incident = house.server.get(&path).expect("the incident");
        incident.state == "acknowledged"
    });
    let shown = browser.evaluate("document.body.innerText").expect("a text");
    assert!(
        shown
            .as_str()
            .is_some_and(|text| text.contains("by M. Ito")),
        "{shown}"
    );
    // Under the pointer the picture becomes a chart that can be read.
    browser
        .evaluate("document.querySelector('.plot').dispatchEvent(new PointerEvent('pointerenter'))")
        .expect("a pointer");
    let canvas = browser
        .evaluate("document.querySelectorAll('figure canvas').length")
        .expect("a count");
    assert_eq!(canvas, 1);
    assert_eq!(
        faults(&browser, true).expect("an inspection"),
        Vec::<String>::new()
    );
}
