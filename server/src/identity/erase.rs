//! A host is erased: name, machine, labels and certificates go; its id and a pseudonym stay, so that what ledger and sealed
//! nights say of the id still makes sense. Whoever joins later under that name, from that machine, is another host.

use std::sync::Arc;

use dawnwatch_proto::HostId;
use jiff::Timestamp;

use super::state::{HostRecord, State};
use super::{Identity, IdentityError};
use dawnwatch_engine::named::same_name;

/// What stands where a name stood, with a number behind it.
const PSEUDONYM: &str = "erased-";

impl Identity {
    /// Erases a host, and those that were merged into it. Returns all of them, as they are known from here on; none are
    /// changed that were erased before.
    ///
    /// # Errors
    /// Where there is no such host, or the change cannot be stored.
    pub fn erase(&self, id: HostId, now: Timestamp) -> Result<Vec<HostRecord>, IdentityError> {
        self.change(|state| {
            if !state.hosts.contains_key(&id) {
                return Err(IdentityError::NoHost(id));
            }
            let is_it = |host: &&Arc<HostRecord>| host.id == id || host.merged == Some(id);
            let ids: Vec<HostId> = state.hosts.values().filter(is_it).map(|h| h.id).collect();
            let mut out = Vec::new();
            for id in ids {
                let pseudonym = state.pseudonym();
                if let Some(host) = state.host_mut(id) {
                    let names = host.erase(pseudonym, now);
                    out.push(host.clone());
                    let is_its = |name: &str| names.iter().any(|own| same_name(own, name));
                    state.named.retain(|_, named| !is_its(&named.name));
                }
            }
            Ok(out)
        })
    }
}

impl State {
    /// A pseudonym that nobody has.
    fn pseudonym(&self) -> String {
        let mut number = self.hosts.values().filter(|h| h.erased.is_some()).count() + 1;
        loop {
            let name = format!("{PSEUDONYM}{number}");
            let taken = |host: &Arc<HostRecord>| host.name.eq_ignore_ascii_case(&name);
            if !self.hosts.values().any(taken) {
                return name;
            }
            number += 1;
        }
    }
}

impl HostRecord {
    /// Takes out who it was; gives the names it went by.
    fn erase(&mut self, pseudonym: String, now: Timestamp) -> Vec<String> {
        if self.erased.is_some() {
            return Vec::new();
        }
        let mut names = std::mem::take(&mut self.aliases);
        names.push(std::mem::replace(&mut self.name, pseudonym));
        self.denied = self.newest();
        self.asked.clear();
        self.machine.clear();
        self.labels.clear();
        self.issued.clear();
        self.retired = self.retired.or(Some(now));
        self.erased = Some(now);
        names
    }
}
