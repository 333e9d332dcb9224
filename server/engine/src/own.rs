//! What is wrong with the server itself: its notices and its channels become alerts as anything else does.

pub(crate) mod crashes;
pub(crate) mod vitals;

use dawnwatch_proto::review::Severity;
use jiff::Timestamp;

use crate::detect::Anomaly;
use crate::detect::absence::{SERVER, host_anomaly};
use crate::engine::{Engine, Out};
use crate::input::{At, Notice, Restored};

/// Notices of the server about itself, by subject.
const NOTICES_MAX: usize = 64;
/// Ways back that are remembered: nobody goes back more often within the weeks that a gap may be late.
const RESTORED_MAX: usize = 16;
/// Characters of a notice that name it; all of it stands in its reason.
const NOTICE_CHARS: usize = 90;

/// Notices whose end the engine itself sees.
const CALENDAR: &str = "calendar";
/// It has no end of its own: it is over once a review has told it, and not with a start of the server before that.
const RESTORED: &str = "restored";
pub(crate) const NOTICE: &str = "server_notice";
pub(crate) const CHANNEL: &str = "channel";

impl Engine {
    /// The server says something about itself: critical pages at night, all else waits for the review.
    pub(crate) fn notice(&mut self, at: At, notice: Notice, out: &mut Out) {
        let what = head(&format!("{}: {}", notice.subject, notice.text));
        self.notice_named(at, notice, what, out);
    }

    /// A notice with a name of its own, as rows of the review show it.
    fn notice_named(&mut self, at: At, notice: Notice, what: String, out: &mut Out) {
        if notice.text.is_empty() {
            if self.over_notice(at, &notice.subject, out) {
                self.say(at, format!("{}: over", notice.subject), out);
            }
            return;
        }
        let known = self.state.server.notices.get(&notice.subject);
        if known == Some(&notice) {
            return;
        }
        let fresh = known.is_none();
        if fresh && self.state.server.notices.len() >= NOTICES_MAX {
            return;
        }
        self.say(at, format!("{}: {}", notice.subject, notice.text), out);
        let severity = if notice.critical {
            Severity::Critical
        } else {
            Severity::Warning
        };
        let why = format!("{}: {}", notice.subject, notice.text);
        let mut anomaly = host_anomaly(NOTICE, severity, at.wall, at, what, why);
        anomaly.subject.clone_from(&notice.subject);
        self.about_server(&key(NOTICE, &notice.subject), Some(anomaly), at, "", out);
        self.state
            .server
            .notices
            .insert(notice.subject.clone(), notice);
    }

    /// The server went back to an earlier state: what hosts had sent since is gone, and what they no longer have comes as a gap.
    pub(crate) fn restored(&mut self, at: At, restored: Restored, out: &mut Out) {
        let zone = self.nights.zone().clone();
        let until = restored.until.to_zoned(zone).strftime("%a %-d %b %H:%M");
        let how = format!("{} of {until}", restored.how);
        let text = format!(
            "the server was {how}: what came in after that is gone; what agents still have they send again, the rest shows as gaps"
        );
        let gone = &mut self.state.server.restored;
        if gone.len() >= RESTORED_MAX {
            gone.pop_front();
        }
        gone.push_back((how.clone(), restored.until, at.wall));
        let notice = Notice {
            subject: RESTORED.to_owned(),
            text,
            critical: false,
        };
        self.notice_named(at, notice, how, out);
    }

    /// A night that ended at this moment is sealed: what it told of ways back is told.
    pub(crate) fn restored_is_told(&mut self, at: At, end: Timestamp, out: &mut Out) {
        let last = self.state.server.restored.back();
        if last.is_some_and(|(_, _, told)| *told < end) {
            self.over_notice(at, RESTORED, out);
        }
    }

    /// Why numbers of a span are gone, where the server itself lost them by going back.
    pub(crate) fn lost_by_going_back(&self, from: Timestamp, to: Timestamp) -> Option<&str> {
        let mut restored = self.state.server.restored.iter().rev();
        let found = restored.find(|(_, since, until)| from <= *until && to >= *since);
        found.map(|(how, ..)| how.as_str())
    }

    /// Ends what the server said of a subject. Returns whether there was anything.
    pub(crate) fn over_notice(&mut self, at: At, subject: &str, out: &mut Out) -> bool {
        self.about_server(&key(NOTICE, subject), None, at, "over", out);
        self.state.server.notices.remove(subject).is_some()
    }

    /// A server that starts says anew what still holds.
    pub(crate) fn over_with_the_last_run(&mut self, at: At, out: &mut Out) {
        let subjects: Vec<String> = self.state.server.notices.keys().cloned().collect();
        let stays = |subject: &String| [CALENDAR, RESTORED].contains(&subject.as_str());
        for subject in subjects.iter().filter(|subject| !stays(subject)) {
            self.over_notice(at, subject, out);
        }
    }

    /// A channel takes messages, or why it does not.
    pub(crate) fn channel(
        &mut self,
        at: At,
        name: &str,
        wrong: Option<(&str, String)>,
        out: &mut Out,
    ) {
        let found = wrong.map(|(what, why)| {
            let what = format!("channel {name} {what}");
            let why = format!("{what}: {why}");
            let mut anomaly = host_anomaly(CHANNEL, Severity::Warning, at.wall, at, what, why);
            name.clone_into(&mut anomaly.subject);
            anomaly
        });
        let over = "it takes messages again";
        self.about_server(&key(CHANNEL, name), found, at, over, out);
    }

    /// Whether a channel is known not to work.
    pub(crate) fn channel_fails(&self, name: &str) -> bool {
        self.state.server_alerts.contains_key(&key(CHANNEL, name))
    }

    /// What was wrong with channels that are gone is over.
    pub(crate) fn channels_changed(&mut self, at: At, out: &mut Out) {
        let prefix = key(CHANNEL, "");
        let keys: Vec<String> = self.state.server_alerts.keys().cloned().collect();
        for key in keys {
            let gone = key.strip_prefix(&prefix).is_some_and(|name| {
                let channels = &self.state.config.channels;
                !channels.iter().any(|channel| channel.name == name)
            });
            if gone {
                self.about_server(&key, None, at, "the channel was removed", out);
            }
        }
    }

    /// Begins, changes or ends an alert about the server itself.
    pub(crate) fn about_server(
        &mut self,
        key: &str,
        found: Option<Anomaly>,
        at: At,
        over: &str,
        out: &mut Out,
    ) {
        let known = self.state.server_alerts.get(key).copied();
        match (found, known) {
            (Some(anomaly), None) => {
                let alert = self.open(SERVER, at, anomaly, out);
                self.state.server_alerts.insert(key.to_owned(), alert);
            }
            (Some(anomaly), Some(known)) => {
                if let Some(alert) = self.state.incidents.alert(known)
                    && (alert.what != anomaly.what || alert.severity != anomaly.severity)
                    && anomaly.rule != crate::detect::absence::OWN_LINK
                {
                    (alert.what, alert.why) = (anomaly.what, anomaly.why);
                    alert.severity = anomaly.severity;
                    out.touched.insert(known.incident);
                }
            }
            (None, Some(known)) => {
                self.state.server_alerts.remove(key);
                self.resolve(known, at.wall, over, out);
            }
            (None, None) => {}
        }
    }
}

fn key(rule: &str, subject: &str) -> String {
    format!("{rule} {subject}")
}

/// The first line of a text, bounded.
fn head(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    if line.chars().count() <= NOTICE_CHARS {
        return line.to_owned();
    }
    let mut cut: String = line.chars().take(NOTICE_CHARS - 1).collect();
    cut.push('…');
    cut
}
