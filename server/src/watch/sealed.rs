//! What goes into `nights/` before the ledger says that a night was sealed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dawnwatch_engine::effect::{Effect, Entry};
use dawnwatch_proto::review::Review;
use jiff::Timestamp;

use super::{Error, Watch};
use crate::clock::Clock;
use crate::nights::{self, evidence};

impl Watch {
    /// Writes sealed reviews with their evidence, and puts the hashes of both into the ledger's entries.
    pub(super) fn write_nights(
        &mut self,
        wall: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Error> {
        let mut hashes = BTreeMap::new();
        let mut kept = Vec::new();
        for effect in &mut *effects {
            if let Effect::SealNight(review) = effect {
                review.ledger_head = self.ledger.head();
                // Before the review: a night that can be read has its evidence.
                kept.extend(self.write_evidence(wall, review)?);
                let (bytes, hash) = nights::canonical(review);
                nights::write(&self.tools.data, review, &bytes)?;
                hashes.insert(review.id.clone(), hash);
                self.tools.published.sealed(nights::head(review));
            }
        }
        for effect in &mut *effects {
            if let Effect::Record(Entry::Sealed { night, hash }) = effect
                && let Some(found) = hashes.get(night)
            {
                hash.clone_from(found);
            }
        }
        // A second try after a full disk finds those of the first.
        effects.retain(|effect| match effect {
            Effect::Record(Entry::Evidence { night, .. }) => !hashes.contains_key(night),
            Effect::Record(_) | Effect::Notify(_) | Effect::SealNight(_) => true,
        });
        effects.extend(kept.into_iter().map(Effect::Record));
        Ok(())
    }

    /// Copies what history holds around the findings of a night. A copy that panics costs the evidence, never the night.
    fn write_evidence(&mut self, wall: Timestamp, review: &Review) -> Result<Option<Entry>, Error> {
        let history = &self.tools.history;
        let engine = &mut self.engine;
        let began = Clock.boot_ms();
        let gathered = catch_unwind(AssertUnwindSafe(|| {
            let view = engine.view(wall);
            evidence::gather(history, review, &view.incidents, || {
                Clock.boot_ms().saturating_sub(began)
            })
        }));
        let Ok(gathered) = gathered else {
            tracing::error!(
                night = review.id,
                "copying the evidence of a night panicked, it is sealed without"
            );
            return Ok(None);
        };
        for damage in &gathered.damaged {
            tracing::warn!(
                damage,
                night = review.id,
                "part of the history cannot be read"
            );
        }
        let (bytes, hash) = nights::canonical(&gathered);
        evidence::write(&self.tools.data, &review.id, &bytes)?;
        let night = review.id.clone();
        Ok(Some(Entry::Evidence { night, hash }))
    }
}
