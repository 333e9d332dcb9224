//! The documents of the JSON API, as the server writes and the command reads them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/now` | [`Now`] |
//! | `GET /api/v1/hosts?state=` (`all`, `retired`) | `Vec<`[`Host`]`>` |
//! | `GET /api/v1/hosts/missing` (named and never joined) | `Vec<`[`Missing`]`>` |
//! | `POST /api/v1/hosts/import` with [`Import`] | [`Imported`] |
//! | `POST /api/v1/hosts/{name}/label` with [`Labels`] | [`Done`] |
//! | `POST /api/v1/hosts/{name}/rename` with [`To`] | [`Done`] |
//! | `POST /api/v1/hosts/{name}/retire` (it left for good) | [`Done`] |
//! | `POST /api/v1/hosts/{name}/merge` with [`To`] (the host that it is, set up anew) | [`Done`] |
//! | `POST /api/v1/hosts/{name}/forget` (a name that never joined) | [`Done`] |
//! | `GET /api/v1/history?host=&series=&from=&to=&points=` | [`History`] |
//! | the same with `&form=columns` (for programs: in a fifth of the bytes) | [`Columns`] |
//! | `GET /api/v1/fleet?series=&from=&to=&by=&top=` (`max`, `mean`, `min`, `last`, `p95`) | [`Fleet`] |
//! | `GET /api/v1/series?host=` | `Vec<String>` |
//! | `GET /api/v1/incidents?state=` | `Vec<`[`Incident`]`>` |
//! | `GET /api/v1/incidents/{id}` | [`Incident`] |
//! | `POST /api/v1/incidents/{id}/ack` with [`Act`] | [`Incident`] |
//! | `GET /api/v1/review?night=` (last sealed night or the one under way; `night=so-far`, an id, `-1`) | [`LiveReview`] |
//! | `GET /api/v1/nights` | `Vec<`[`NightHead`]`>` |
//! | `GET /api/v1/nights/{id}/evidence` | [`Evidence`] |
//! | `POST /api/v1/tokens` with [`NewToken`] | [`Token`] |
//! | `GET /api/v1/tokens` | `Vec<`[`TokenState`]`>` |
//! | `GET /api/v1/net` | `Vec<`[`Link`]`>` |
//! | `GET /api/v1/search?q=&from=&to=&host=&kind=&limit=` (`host`, `incident`, `finding`, `template`) | [`Search`] |
//! | `GET /api/v1/rules` | `Vec<`[`Rule`]`>` |
//! | `GET /api/v1/me` | [`Me`] |
//! | `GET /api/v1/people` | `Vec<`[`PersonState`]`>` |
//! | `POST /api/v1/people` with [`NewPerson`] | [`SetupLink`] |
//! | `POST /api/v1/people/{name}/reset` | [`SetupLink`] |
//! | `POST /api/v1/people/{name}/role` with [`NewRole`] | [`PersonState`] |
//! | `POST /api/v1/people/{name}/remove` | [`PersonState`] |
//! | `POST /api/v1/people/{name}/token` | [`BearerToken`] |
//! | `POST /api/v1/admin-link` | [`SetupLink`] |
//! | `GET /api/v1/logs?host=&from=&to=&severity=&text=&limit=` | [`Logs`] |
//! | `GET /api/v1/templates?host=&text=&limit=` | [`LogTemplates`] |
//! | any failure | [`Problem`] with a fitting status |

mod columns;
mod evidence;
mod fleet;
mod logs;

pub use columns::Columns;
pub use evidence::{EVIDENCE_FORMAT, Evidence, FindingEvidence, SeriesEvidence};
pub use fleet::{Fleet, FleetBy, FleetHost};
pub use logs::{LogLine, LogTemplate, LogTemplates, Logs, severity_named, severity_word};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use crate::people::{BearerToken, Me, NewPerson, NewRole, PersonState, Role, SetupLink};

use crate::HostId;
use crate::review::{Importance, Review, Severity, Verdict};

/// What is open at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// The server's time.
    pub at: Timestamp,
    /// IANA zone to show times in.
    pub zone: String,
    /// False while zone and hours are guesses.
    pub calendar_confirmed: bool,
    /// Hosts that are joined.
    pub hosts: u32,
    /// Hosts heard from in the last 30 seconds.
    pub hosts_live: u32,
    /// Hosts that were named and never joined: not watched.
    #[serde(default)]
    pub hosts_missing: u32,
    /// Incidents that are open or acknowledged, worst first.
    pub open: Vec<Incident>,
    /// The last sealed night.
    pub last_night: Option<NightHead>,
    /// What the server itself has to say: no channel configured, a broken configuration not taken up.
    pub notices: Vec<String>,
}

/// A sealed night in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NightHead {
    /// `N-2026-10-05`.
    pub id: String,
    /// Start of the night.
    pub start: Timestamp,
    /// End of the night.
    pub end: Timestamp,
    /// When it was sealed.
    pub sealed: Timestamp,
    /// What it came to.
    pub verdict: Verdict,
    /// Its sentence.
    pub sentence: String,
}

/// A review, and what happened since it was sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveReview {
    /// The server's time.
    pub at: Timestamp,
    /// The review as sealed, or so far.
    pub review: Review,
    /// Since sealing: incidents opened and closed, in words. Empty where nothing is new or nothing is sealed.
    pub since: Vec<String>,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// The name it goes by.
    pub name: String,
    /// `live`, `silent`, `goodbye`, `never`, `retired`, or `off`: silent outside the hours in which it is expected.
    pub state: String,
    /// When it joined.
    pub joined: Timestamp,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// How much it matters.
    pub importance: Importance,
    /// What people call what it does.
    pub service: Option<String>,
    /// Person responsible.
    pub owner: Option<String>,
    /// Where it stands.
    pub site: Option<String>,
    /// Names it went by before.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Labels of its join token and those that people gave it.
    #[serde(default)]
    pub labels: Vec<(String, String)>,
    /// Version of its agent.
    pub agent_version: String,
    /// Distribution and kernel.
    pub system: String,
    /// Its clock minus the server's, seconds, as estimated.
    pub clock_offset_seconds: f64,
    /// Series of its latest tick.
    pub series: u32,
    /// Worst severity of its open incidents.
    pub worst: Option<Severity>,
    /// A few latest values for a table, such as `cpu 12 %`: (`cpu_ratio`, 0.12).
    pub values: Vec<(String, f64)>,
}

/// A host that was named and never joined: nothing of it is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its name, as it was given.
    pub name: String,
    /// Since when it counts as not watched.
    pub since: Timestamp,
    /// Where it answers, if that was said.
    pub address: Option<String>,
    /// Where it stands.
    pub site: Option<String>,
    /// What people call what it does.
    pub service: Option<String>,
    /// Person responsible.
    pub owner: Option<String>,
    /// How much it matters.
    pub importance: Importance,
}

/// Hosts to import, as the text of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// A header and rows: name, and any of address, site, service, owner, importance, hours.
    pub csv: String,
    /// Says what would come of it and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Rows in all.
    pub rows: u32,
    /// Names that were not known.
    pub new: u32,
    /// Names whose facts changed.
    pub changed: u32,
    /// Names of hosts that joined already.
    pub joined: u32,
    /// Names of before that are not in this file; they stay.
    pub not_in_file: Vec<String>,
    /// Whether nothing was changed.
    pub dry_run: bool,
}

/// Facts and labels of a host: site, service, owner, importance, address, hours, or any other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Name and value; an empty value takes it away.
    pub labels: Vec<(String, String)>,
}

/// Another name, or another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct To {
    /// Its name.
    pub to: String,
}

/// What came of it, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// A sentence.
    pub text: String,
}

/// Points of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// The series in Prometheus notation.
    pub series: String,
    /// `gauge` or `counter`; a counter's points are shown as its rate a second.
    pub kind: crate::Kind,
    /// Zone to show times in.
    pub zone: String,
    /// Time and value; none where a sample is missing. Counters: rate a second since the sample before.
    pub points: Vec<(Timestamp, Option<f64>)>,
    /// Where there are more samples than points: the highest value behind each point, which its mean hides.
    #[serde(default)]
    pub peaks: Vec<Option<f64>>,
    /// How many raw samples stand behind the points.
    pub samples: u64,
    /// Samples that were held more than once and counted once; anything but 0 is a fault of the server, or two hosts measured at one
    /// time before somebody said that they are one.
    #[serde(default)]
    pub repeated: u64,
    /// Seconds of the summaries that the points are made of; 0: they are made of samples.
    #[serde(default)]
    pub resolution_seconds: u32,
    /// Parts of the span that are damaged on disk: a hole is theirs then, and not the host's.
    #[serde(default)]
    pub damaged: u64,
}

/// Alerts that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// `I-318`.
    pub id: String,
    /// The host it is about.
    pub host: HostId,
    /// The host's name.
    pub name: String,
    /// What people call what is hit.
    pub service: Option<String>,
    /// Person responsible.
    pub owner: Option<String>,
    /// `open`, `acknowledged` or `closed`.
    pub state: String,
    /// How bad it got.
    pub severity: Severity,
    /// What happened, worst alert first.
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// Where `what` began later than that: since when it holds, and what came first.
    #[serde(default)]
    pub turned: Option<crate::review::Turned>,
    /// Until when.
    pub until: Option<Timestamp>,
    /// Who took it, and when.
    pub taken: Option<(String, Timestamp)>,
    /// Cause, or `cause unknown`.
    pub cause: String,
    /// Its alerts.
    pub alerts: Vec<Alert>,
    /// Who was told, by which channel, and what came of it.
    pub told: Vec<Told>,
    /// Why it ranks where it does, and why it paged or not.
    pub why: Vec<String>,
    /// Whole log lines around its start: evidence, oldest first.
    #[serde(default)]
    pub lines: Vec<LogLine>,
}

/// One anomaly with a life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Rule that found it, such as `disk_full`.
    pub rule: String,
    /// Series it is about, in Prometheus notation; empty where it is about the host.
    pub series: String,
    /// `pending`, `firing` or `resolved`.
    pub state: String,
    /// How bad.
    pub severity: Severity,
    /// First sample of the anomaly.
    pub since: Timestamp,
    /// When it began to fire.
    pub fired: Option<Timestamp>,
    /// When it ended.
    pub until: Option<Timestamp>,
    /// What was observed, with the bound it broke and for how long, in words.
    pub why: String,
    /// Value seen last.
    pub observed: f64,
    /// Worst value seen.
    pub worst: f64,
    /// Bound that was broken.
    pub bound: f64,
    /// Samples around the start: evidence.
    pub evidence: Vec<(Timestamp, f64)>,
    /// Whether it was found in data that came late.
    pub late: bool,
}

/// One notification and its fate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The channel's name.
    pub channel: String,
    /// What was told: `opened`, `worse`, `closed`, `reminder`.
    pub reason: String,
    /// When it was decided.
    pub decided: Timestamp,
    /// `pending`, `arrived` or `lost`.
    pub fate: String,
    /// When the fate was known.
    pub at: Option<Timestamp>,
    /// What the far end said, or the last error.
    pub answer: String,
}

/// A person's act on an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Who acts; the server fills in the login where none is given.
    #[serde(default)]
    pub by: String,
    /// A remark that stays with it.
    #[serde(default)]
    pub note: String,
}

/// A wish for a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// How many hosts may join with it.
    pub uses: u32,
    /// How long it is good for, in seconds.
    pub expires_seconds: u64,
    /// Labels that hosts get that join with it.
    #[serde(default)]
    pub labels: Vec<(String, String)>,
}

/// A fresh join token: the only time that its secret is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// The whole join line, secret included.
    pub join: String,
    /// The command that joins a host whose agent is installed, with this server's address.
    pub command: String,
    /// The line that fetches, checks, installs and joins an agent, for a root shell; empty where the server has none to hand out.
    #[serde(default)]
    pub install: String,
    /// Why the server hands out no agent, and what to do; empty where it does.
    #[serde(default)]
    pub no_install: String,
    /// When it expires.
    pub expires: Timestamp,
    /// How many hosts may join with it.
    pub uses: u32,
}

/// A join token in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenState {
    /// Its id.
    pub id: String,
    /// When it expires.
    pub expires: Timestamp,
    /// How many hosts may still join with it.
    pub uses_left: u32,
}

/// One row of the table "condition, severity, wakes whom".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The condition in words.
    pub condition: String,
    /// How bad it is.
    pub severity: Severity,
    /// Who hears of it, and when.
    pub wakes: String,
}

/// One way in the network: who pings what, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The host that pings.
    pub host: HostId,
    /// Its name.
    pub from: String,
    /// What it pings: a host's name, a target's name, or an address.
    pub to: String,
    /// Why it is pinged.
    pub role: crate::probe::Role,
    /// `up`, `lossy`, `down`, `unknown` (never answered, or not permitted) or `stale` (nothing heard of it for a minute).
    pub state: String,
    /// Since when it is in that state.
    pub since: Timestamp,
    /// How it is pinged, in words; empty where the host does not say.
    pub method: String,
    /// Shortest, mean and longest round trip of the latest tick, seconds; none without an answer.
    pub rtt_seconds: Option<(f64, f64, f64)>,
    /// Mean difference of two round trips in a row, seconds.
    pub jitter_seconds: Option<f64>,
    /// Probes of the last minutes, and how many of them were lost.
    pub sent: u64,
    /// Probes of the last minutes that had no answer.
    pub lost: u64,
    /// Mean round trips of the latest ticks, oldest first, seconds; none where nothing answered.
    pub recent: Vec<Option<f64>>,
    /// When it was heard of last.
    pub seen: Timestamp,
}

/// A failure, as the person who asked reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One sentence: what, where, what to do.
    pub error: String,
    /// Close names, where something was not found.
    #[serde(default)]
    pub suggestions: Vec<String>,
}

/// What was found by words, latest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Zone to show times in.
    pub zone: String,
    /// The things found.
    pub found: Vec<Found>,
    /// There are more: narrow the search.
    pub more: bool,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// `host`, `incident`, `finding` or `template` (the shape of log lines).
    pub kind: String,
    /// `I-318`, a host's id, the host's number of a template.
    pub id: String,
    /// The host; 0 for the server itself.
    pub host: HostId,
    /// The host's name.
    pub name: String,
    /// `open`, `acknowledged`, `closed`; a host's own states; empty for a template.
    pub state: String,
    /// How bad it got.
    pub severity: Option<Severity>,
    /// Since when; when a template was told last, when a host joined.
    pub since: Timestamp,
    /// Until when.
    pub until: Option<Timestamp>,
    /// What it is, in words.
    pub text: String,
    /// The latest sealed night that tells of it.
    pub night: Option<String>,
}
