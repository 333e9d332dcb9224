//! The engine's state as bytes, and a hash over effects.
//!
//! `DWEN`, version (u16, little-endian), FNV-1a of the rest (u64, little-endian), then the state in postcard.

use crate::effect::Effect;
use crate::engine::Engine;

const MAGIC: &[u8; 4] = b"DWEN";
/// Counts up with every change of the state's shape. Levels 1 and 2 were never released and are not read; from the first release on
/// the level before always is.
pub const VERSION: u16 = 3;
const HEADER_BYTES: usize = 14;

/// Why saved bytes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Not what [`Engine::save`] wrote.
    #[error("restore engine: these bytes are no saved engine")]
    NotSaved,
    /// Written by a later build.
    #[error(
        "restore engine: format {found} is newer than {VERSION}, which this build reads; use the newer build"
    )]
    Newer {
        /// Its version.
        found: u16,
    },
    /// Written by a build from before the first release.
    #[error("restore engine: format {found} is of a build from before the first release")]
    Older {
        /// Its version.
        found: u16,
    },
    /// The bytes changed since they were written.
    #[error("restore engine: the saved state is damaged; use the checkpoint before it")]
    Damaged,
    /// The bytes are whole and do not fit this build.
    #[error("restore engine: {0}")]
    Unreadable(#[from] postcard::Error),
}

impl Engine {
    /// The whole state as bytes.
    ///
    /// # Panics
    /// Never: the state holds nothing that postcard cannot write.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(&self.state).expect("every length in the state is known");
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&fnv(FNV_START, &body).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// An engine that goes on where the saved one stood.
    ///
    /// # Errors
    /// [`RestoreError`] where the bytes are not whole or not of a version that this build reads.
    pub fn restore(saved: &[u8]) -> Result<Engine, RestoreError> {
        let (header, body) = saved
            .split_at_checked(HEADER_BYTES)
            .ok_or(RestoreError::NotSaved)?;
        let (magic, rest) = header.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(RestoreError::NotSaved);
        }
        let found = u16::from_le_bytes([rest[0], rest[1]]);
        if found > VERSION {
            return Err(RestoreError::Newer { found });
        }
        if found < VERSION {
            return Err(RestoreError::Older { found });
        }
        if rest[2..] != fnv(FNV_START, body).to_le_bytes() {
            return Err(RestoreError::Damaged);
        }
        Ok(Engine::from_state(postcard::from_bytes(body)?))
    }
}

/// A hash over effects, step by step: two runs that agree in it did the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectHash(u64);

impl Default for EffectHash {
    fn default() -> EffectHash {
        EffectHash(FNV_START)
    }
}

impl EffectHash {
    /// Takes in the effects of one step.
    ///
    /// # Panics
    /// Never: effects hold nothing that postcard cannot write.
    pub fn add(&mut self, effects: &[Effect]) {
        let bytes = postcard::to_stdvec(effects).expect("every length in an effect is known");
        self.0 = fnv(self.0, &bytes);
    }

    /// The hash so far.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bit.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
