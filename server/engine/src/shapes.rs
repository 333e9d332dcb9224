//! Shapes of log lines as readers see them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dawnwatch_proto::HostId;
use dawnwatch_proto::api::LogTemplate;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::logs::Rule;

/// Readers are shown shapes that are so old at most: their counts change with every line.
const EVERY_MS: u64 = 10_000;
/// Hosts named of a shape.
const NAMED_MAX: usize = 5;

/// A shape, and all hosts that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShapeView {
    /// As the API shows it.
    pub template: LogTemplate,
    /// The hosts, by id.
    pub hosts: Vec<HostId>,
}

/// What readers were shown last.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShownShapes {
    known: BTreeMap<u32, Arc<ShapeView>>,
    list: Arc<Vec<Arc<ShapeView>>>,
    made_ms: Option<u64>,
}

impl Engine {
    /// The shapes of all hosts, as they stood at most ten seconds ago.
    pub(crate) fn shapes(&mut self) -> Arc<Vec<Arc<ShapeView>>> {
        let now_ms = self.state.last.map_or(0, |last| last.boot_ms);
        let made = self.shapes_shown.made_ms;
        if made.is_some_and(|made| now_ms.saturating_sub(made) < EVERY_MS) {
            return Arc::clone(&self.shapes_shown.list);
        }
        let mut changed = std::mem::take(&mut self.state.logs.changed);
        if made.is_none() {
            changed = self.state.logs.shapes.keys().copied().collect();
        }
        self.shapes_shown.made_ms = Some(now_ms);
        if changed.is_empty() {
            return Arc::clone(&self.shapes_shown.list);
        }
        let mut hosts = self.hosts_of(&changed);
        for key in changed {
            let hosts = hosts.remove(&key).unwrap_or_default();
            match self.shape(key, hosts) {
                Some(shape) => self.shapes_shown.known.insert(key, Arc::new(shape)),
                None => self.shapes_shown.known.remove(&key),
            };
        }
        let list = self.shapes_shown.known.values().cloned().collect();
        self.shapes_shown.list = Arc::new(list);
        Arc::clone(&self.shapes_shown.list)
    }

    fn hosts_of(&self, keys: &BTreeSet<u32>) -> BTreeMap<u32, Vec<HostId>> {
        let mut out: BTreeMap<u32, Vec<HostId>> = BTreeMap::new();
        for (id, host) in &self.state.logs.hosts {
            for key in host.seen.keys().filter(|key| keys.contains(key)) {
                out.entry(*key).or_default().push(*id);
            }
        }
        out
    }

    fn shape(&self, key: u32, hosts: Vec<HostId>) -> Option<ShapeView> {
        let logs = &self.state.logs;
        let shape = logs.shapes.get(&key)?;
        let rules = [Rule::New, Rule::Severity, Rule::Rate];
        let mut firing = rules
            .iter()
            .filter_map(|rule| logs.alerts.get(&(*rule, key)));
        let open = firing.find(|firing| !firing.over);
        let finding = open.and_then(|f| self.state.incidents.get(f.alert.incident));
        let card = |id: &HostId| self.state.hosts.get(id).map(|host| host.card.name.clone());
        Some(ShapeView {
            template: LogTemplate {
                text: shape.text.clone(),
                source: shape.source.clone(),
                severity: shape.severity,
                example: shape.example.clone(),
                first: shape.first,
                last: shape.last,
                lines: shape.lines,
                hosts: u32::try_from(hosts.len()).unwrap_or(u32::MAX),
                names: hosts.iter().filter_map(card).take(NAMED_MAX).collect(),
                finding: finding.map(|incident| incident.id()),
            },
            hosts,
        })
    }
}
