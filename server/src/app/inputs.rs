//! What the server itself tells the engine: cards of hosts, findings, how it fares.

use std::sync::Arc;

use dawnwatch_engine::input::{HostCard, Input, Notice};
use dawnwatch_proto::untrusted::term;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::identity::{HostRecord, Identity};
use crate::journal::Submit;
use crate::vitals::Gauges;

/// Longest text of a finding about the server itself, in bytes: it is kept, shown and mailed whole.
const NOTICE_BYTES_MAX: usize = 4 * 1024;

/// What the engine is told of a host.
pub(crate) fn card(identity: &Identity, host: &HostRecord) -> HostCard {
    HostCard {
        id: host.id,
        name: host.name.clone(),
        joined: host.joined,
        labels: host.labels.clone(),
        retired: host.retired.is_some() || host.merged.is_some(),
        aliases: host.aliases.clone(),
        like: identity.like(host),
        merged: host.merged,
        erased: host.erased.is_some(),
    }
}

/// Hands an input to the journal without waiting: time that passes and findings are never worth a stall. False where there
/// is no room at present.
pub(super) fn submit_soon(journal: &mpsc::Sender<Submit>, input: Input) -> bool {
    let sent = journal.try_send(Submit::Input(Box::new(input), None));
    // A journal that has ended takes nothing ever again: that is no reason to try once more.
    let full = matches!(sent, Err(mpsc::error::TrySendError::Full(_)));
    if full {
        tracing::debug!("journal is behind, an input of the server itself was left out");
    }
    !full
}

pub(super) fn notice(subject: &str, text: &str) -> Input {
    let mut text = term(text);
    text.truncate(text.floor_char_boundary(NOTICE_BYTES_MAX));
    Input::Server(Notice {
        subject: subject.to_owned(),
        text,
        critical: false,
    })
}

/// The server looks at itself, off the sockets' threads.
pub(super) fn look(gauges: &Arc<Gauges>, journal: &mpsc::Sender<Submit>) -> JoinHandle<()> {
    let (gauges, journal) = (Arc::clone(gauges), journal.clone());
    tokio::task::spawn_blocking(move || {
        submit_soon(&journal, Input::Vitals(Box::new(gauges.sample())));
    })
}
