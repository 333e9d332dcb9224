//! What is small: checkpoints, nights, identity.

use std::collections::BTreeMap;

use dawnwatch_engine::Engine;
use dawnwatch_proto::api::Evidence;
use dawnwatch_proto::review::Review;
use jiff::Timestamp;

use super::Look;
use super::report::{Cost, Damage, FROM_BACKUP, of_room};
use crate::checkpoint::{self, Checkpoint};
use crate::history::head::Head;
use crate::keep::files::is_unfinished;
use crate::{identity, nights, watch};

/// What the checkpoints say of the journal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Checkpoints {
    /// The group that the older sound one goes on from.
    pub(super) oldest: Option<u64>,
    /// The group that the newest sound one goes on from, and the time of the last input in it.
    pub(super) newest: Option<(u64, Timestamp)>,
}

impl Look<'_> {
    pub(super) fn identity(&mut self) {
        let held = self.list("identity");
        for held in held.iter().filter(|held| !is_unfinished(&held.name)) {
            self.done(held.bytes);
        }
        for wrong in identity::sound::wrong_with(&self.data.join("identity")) {
            let file = format!("identity/{}", wrong.file);
            let (costs, cure) = if wrong.mends {
                (
                    Cost::Nothing,
                    "start the server: it makes it anew, over the same CA",
                )
            } else {
                (
                    Cost::Identity,
                    "copy it out of a backup; the server does not start without it",
                )
            };
            self.report
                .damage(Damage::of(&file, "", wrong.what, costs, cure));
        }
        let hosts = self.names.len();
        self.report
            .kinds
            .push(format!("{:<16} {hosts} hosts", "identity"));
    }

    pub(super) fn checkpoints(&mut self) -> Checkpoints {
        let mut found = Checkpoints::default();
        let frames = checkpoint::frames(self.data);
        let mut broken = Vec::new();
        for frame in &frames {
            let name = format!("checkpoint/{frame:020}.ckpt");
            let path = self.data.join(&name);
            match sound(self.data, *frame) {
                Ok(read) => {
                    found.oldest = Some(read.frame);
                    found.newest = found.newest.or(Some((read.frame, read.at.wall)));
                }
                // Two later ones were written meanwhile.
                Err(_) if self.is_live && !path.exists() => {}
                Err(what) => broken.push((name.clone(), what)),
            }
            self.done(std::fs::metadata(&path).map_or(0, |meta| meta.len()));
        }
        for (name, what) in broken {
            let (costs, cure) = of_room("checkpoint");
            let costs = found.newest.map_or(costs, |_| Cost::Nothing);
            self.report.damage(Damage::of(&name, "", what, costs, cure));
        }
        let kind = format!("{:<16} {} kept", "checkpoint", frames.len());
        self.report.kinds.push(kind);
        self.skipped();
        found
    }

    /// Inputs that were passed over.
    fn skipped(&mut self) {
        let path = self.data.join("journal").join("skip");
        if let Err(what) = watch::read_skip(&path) {
            let cure =
                "start the server: an input that cannot be judged is found and passed over again";
            self.report
                .damage(Damage::of("journal/skip", "", what, Cost::Nothing, cure));
        }
    }

    /// Compares nights with the hashes that the ledger has of them.
    pub(super) fn nights(&mut self, hashes: &BTreeMap<String, String>) {
        let held = self.list("nights");
        let mut count = 0;
        for held in held.iter().filter(|held| !is_unfinished(&held.name)) {
            count += 1;
            let path = self.data.join(held.path());
            let wrong = match std::fs::read(&path) {
                Err(error) => Some(format!("it cannot be read: {error}")),
                Ok(bytes) => match hashes.get(&held.name) {
                    Some(hash) if *hash == nights::hash_of(&bytes) => None,
                    Some(_) => Some("it is not what the ledger says was sealed".to_owned()),
                    None => self.unsealed(&held.name, &bytes),
                },
            };
            if let Some(what) = wrong {
                self.report
                    .damage(Damage::of(&held.path(), "", what, Cost::Night, FROM_BACKUP));
            }
            self.done(held.bytes);
        }
        for name in hashes.keys() {
            let path = format!("nights/{name}");
            let told = self
                .clean
                .as_ref()
                .is_some_and(|clean| clean.files.contains_key(&path));
            if !told && !self.data.join(&path).exists() {
                let what = "the ledger says that it was sealed, and it is gone".to_owned();
                self.report
                    .damage(Damage::of(&path, "", what, Cost::Night, FROM_BACKUP));
            }
        }
        self.report.kinds.push(format!(
            "{:<16} {count} files, {} in the ledger",
            "nights",
            hashes.len()
        ));
    }

    /// A night that the ledger does not know: its entry is damaged, or the server ended between the two.
    fn unsealed(&mut self, name: &str, bytes: &[u8]) -> Option<String> {
        let again = if name.ends_with(".evidence.json") {
            serde_json::from_slice::<Evidence>(bytes).map(|value| nights::canonical(&value).0)
        } else {
            serde_json::from_slice::<Review>(bytes).map(|value| nights::canonical(&value).0)
        };
        match again {
            Err(error) => Some(format!("it cannot be read: {error}")),
            Ok(again) if again != bytes => {
                Some("it is not in the form that it is written in".to_owned())
            }
            Ok(_) => {
                self.report.note(format!(
                    "nights/{name}: the ledger does not say yet that it was sealed"
                ));
                None
            }
        }
    }
}

/// Reads a checkpoint with all that is in it.
fn sound(data: &std::path::Path, frame: u64) -> Result<Checkpoint, String> {
    let read = checkpoint::read(data, frame).map_err(|error| error.to_string())?;
    if read.frame != frame {
        return Err(format!(
            "its name is not its own: it is that of {}",
            read.frame
        ));
    }
    Engine::restore(&read.engine).map_err(|error| error.to_string())?;
    Head::restore(&read.head, 0)?;
    Ok(read)
}
