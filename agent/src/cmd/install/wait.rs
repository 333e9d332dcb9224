//! Waits for the first acknowledged sample, and says meanwhile what is in its way.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use dawnwatch_proto::untrusted::term;

use super::super::run::SAMPLED_WITHIN;
use super::super::{Failure, exit, say};
use super::service;
use crate::status::Status;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A unit that is starting up may be between two tries for this long; after it, "failed" is the answer.
const FAILED_AFTER: u32 = 8;

/// Waits until the agent of this state directory says that a sample was acknowledged.
pub(super) fn sampled(state: &Path) -> Result<(), Failure> {
    let looks = SAMPLED_WITHIN.as_millis() / LOOK_EVERY.as_millis();
    let mut shown = None;
    let mut failed = 0;
    for _ in 0..looks {
        let status = Status::read(state);
        if let Some(at) = status.as_ref().and_then(|status| status.sampled) {
            say(&format!(
                "first sample acknowledged at {at:.0}: this host is watched"
            ));
            return Ok(());
        }
        let now = progress(status.as_ref());
        if now.is_some() && now != shown {
            say(now.as_deref().unwrap_or_default());
            shown = now;
        }
        failed = if service::systemd_runs() && service::state() == "failed" {
            failed + 1
        } else {
            0
        };
        if failed >= FAILED_AFTER {
            break;
        }
        sleep(LOOK_EVERY);
    }
    Err(verdict(Status::read(state).as_ref()))
}

fn progress(status: Option<&Status>) -> Option<String> {
    let status = status?;
    let connected = status
        .server
        .as_ref()
        .map(|server| format!("connected to {}", term(server)));
    connected.or_else(|| status.trouble.as_ref().map(|why| term(why)))
}

/// Why there is none: what the agent says, else what its service manager has.
fn verdict(status: Option<&Status>) -> Failure {
    let seconds = SAMPLED_WITHIN.as_secs();
    if let Some(why) = status.and_then(|status| status.trouble.as_ref()) {
        let text = format!(
            "no sample was acknowledged: {}. The agent goes on trying; see: dawnwatch-agent doctor",
            term(why)
        );
        return Failure::new(exit::UNREACHABLE, text);
    }
    if let Some(server) = status.and_then(|status| status.server.as_ref()) {
        let text = format!(
            "connected to {}, but no sample was acknowledged within {seconds} s: is the server's disk full or slow?",
            term(server)
        );
        return Failure::new(exit::UNREACHABLE, text);
    }
    let (is, log) = (service::state(), service::journal());
    let text = format!(
        "the service did not come up (it is {}); its last lines:\n{}",
        term(&is),
        log.lines().map(term).collect::<Vec<_>>().join("\n")
    );
    Failure::new(exit::INTERNAL, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_told() {
        let mut status = Status {
            server: Some("mon01:7443".to_owned()),
            ..Status::default()
        };
        assert_eq!(progress(None), None);
        assert_eq!(
            progress(Some(&status)).as_deref(),
            Some("connected to mon01:7443")
        );
        assert!(verdict(Some(&status)).text.contains("disk full"));
        (status.server, status.trouble) = (
            None,
            Some("no connection to mon01:7443: cannot resolve\x1b".to_owned()),
        );
        let told = verdict(Some(&status));
        assert_eq!(told.code, exit::UNREACHABLE);
        assert!(told.text.contains("cannot resolve\\u{1b}"), "{}", told.text);
    }
}
