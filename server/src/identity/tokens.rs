//! Join tokens: made, listed, taken back.

use dawnwatch_proto::JoinLine;
use dawnwatch_proto::joinline::{SECRET_BYTES, TOKEN_ID_BYTES};
use jiff::{SignedDuration, Timestamp};

use super::state::{State, TokenRecord, hex};
use super::{Identity, IdentityError, certificate};

/// More tokens than anybody keeps apart; a script that makes one for each host stays under it.
pub const TOKENS_MAX: usize = 5_000;

/// Labels a token may give; they end up on every incident of the host.
pub const LABELS_MAX: usize = 32;

/// A token that can no longer be used stays in the list this long, for whoever asks what became of it.
const KEPT_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Identity {
    /// Makes a join token and its line; the line's secret is not kept.
    ///
    /// # Errors
    /// Where it cannot be stored, or there are too many.
    pub fn create_token(
        &self,
        uses: u32,
        expires: Timestamp,
        labels: Vec<(String, String)>,
        now: Timestamp,
    ) -> Result<JoinLine, IdentityError> {
        if labels.len() > LABELS_MAX {
            let remedy = "give fewer labels";
            return Err(IdentityError::Full {
                what: "labels",
                limit: LABELS_MAX,
                remedy,
            });
        }
        let id: [u8; TOKEN_ID_BYTES] = self.random()?;
        let secret: [u8; SECRET_BYTES] = self.random()?;
        let line = JoinLine::new(self.pin(), id, secret);
        let token = TokenRecord {
            id: line.id.clone(),
            secret: hash(&line.secret),
            created: now,
            expires,
            uses,
            uses_left: uses,
            labels,
            revoked: false,
        };
        self.change(|state| {
            forget_old(state, now);
            if state.tokens.len() >= TOKENS_MAX {
                let remedy = "give tokens more uses, or let old ones expire";
                return Err(IdentityError::Full {
                    what: "join tokens",
                    limit: TOKENS_MAX,
                    remedy,
                });
            }
            state.tokens.insert(token.id.clone(), token);
            Ok(line)
        })
    }

    /// All join tokens, by id; those that ran out recently are among them.
    #[must_use]
    pub fn tokens(&self) -> Vec<TokenRecord> {
        self.state.load().tokens.values().cloned().collect()
    }

    /// Takes a join token back: nobody can join with it from here on.
    ///
    /// # Errors
    /// Where there is no such token, or the change cannot be stored.
    pub fn revoke_token(&self, id: &str) -> Result<(), IdentityError> {
        self.change(|state| {
            let token = state.tokens.get_mut(id);
            let token = token.ok_or_else(|| IdentityError::NoToken(id.to_owned()))?;
            token.revoked = true;
            Ok(())
        })
    }
}

/// The form in which a secret is kept.
pub(super) fn hash(secret: &str) -> String {
    hex(&certificate::sha256(secret.as_bytes()))
}

fn forget_old(state: &mut State, now: Timestamp) {
    let over = |token: &TokenRecord| {
        let last = token
            .expires
            .saturating_add(KEPT_AFTER)
            .unwrap_or(Timestamp::MAX);
        last < now
    };
    state.tokens.retain(|_, token| !over(token));
}
