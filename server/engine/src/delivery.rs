//! What came of messages: each has its fate; a channel that does not work is a finding, and what cannot wait goes out on
//! another one.

use crate::effect::{Entry, Reason};
use crate::engine::{Engine, Out};
use crate::incident::Incidents;
use crate::input::{At, Delivered, Outcome};
use crate::policy;

impl Engine {
    /// What came of a message.
    pub(crate) fn delivered(&mut self, at: At, delivered: Delivered, out: &mut Out) {
        let fate = match delivered.outcome {
            Outcome::Arrived => "arrived",
            Outcome::Refused => "lost",
            Outcome::Struggling => "pending",
        };
        // Incident or night, revision, channel; only the channel's name may hold anything.
        let mut parts = delivered.key.splitn(3, '/');
        let (about, channel) = (parts.next().unwrap_or(""), parts.nth(1).unwrap_or(""));
        let number = Incidents::number(about);
        let told = match number.and_then(|n| self.state.incidents.change(n)) {
            Some(incident) => incident
                .told
                .iter_mut()
                .rev()
                .find(|t| t.key == delivered.key),
            None => {
                let told = &mut self.state.sealing.told;
                told.iter_mut().find(|t| t.key == delivered.key)
            }
        };
        let known = told.is_some();
        let mut closing = false;
        if let Some(told) = told {
            closing = told.reason == Reason::Closed;
            fate.clone_into(&mut told.fate);
            told.at = Some(at.wall);
            told.answer.clone_from(&delivered.answer);
        }
        let answer = format!("message {}: {}", delivered.key, delivered.answer);
        let wrong = match delivered.outcome {
            Outcome::Arrived => None,
            Outcome::Refused => Some(("refused a message", answer)),
            Outcome::Struggling => Some(("has not taken a message for five minutes", answer)),
        };
        let fails = wrong.is_some();
        let configured = self.state.config.channels.iter().any(|c| c.name == channel);
        let channel = channel.to_owned();
        out.record(Entry::Delivered {
            key: delivered.key,
            outcome: delivered.outcome,
            answer: delivered.answer,
        });
        // Of two things that are wrong with a channel, the first is told until it works again.
        if !fails || configured && !self.channel_fails(&channel) {
            self.channel(at, &channel, wrong, out);
        }
        if let Some(number) = number.filter(|_| fails && known && !closing) {
            self.another_way(number, &channel, at, out);
        }
    }

    /// A critical incident that nobody took goes out on a channel that works.
    fn another_way(&mut self, number: u64, failed: &str, at: At, out: &mut Out) {
        let works = |name: &str| name != failed && !self.channel_fails(name);
        let channels = self.state.config.channels.iter().map(|c| c.name.as_str());
        let working: Vec<String> = channels.filter(|n| works(n)).map(str::to_owned).collect();
        let Some(incident) = self.state.incidents.change(number) else {
            return;
        };
        if let Some(channel) = policy::another_way(incident, failed, &working, at.boot_ms) {
            self.tell(number, at, &[(channel, Reason::Opened)], out);
        }
    }
}
