//! A connection as two rows of bytes with delays. It can be cut at any byte, or swallow one way or both.

use std::collections::VecDeque;

use prost::Message;

use crate::chance::Chance;

/// Bytes that may be under way in one direction: what a kernel would take of a sender that nobody reads.
const UNDER_WAY_MAX: usize = 256 * 1024;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// When they arrive, and what.
    chunks: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    /// Arrived, and no whole message yet.
    arrived: Vec<u8>,
    /// Whether everything that is sent is swallowed.
    pub(super) is_black: bool,
    /// Whether it was cut: what is sent after that goes nowhere.
    is_cut: bool,
}

impl Way {
    pub(super) fn has_room(&self) -> bool {
        self.bytes < UNDER_WAY_MAX
    }

    /// Sends a message in pieces of any size, each after those before it.
    pub(super) fn send(&mut self, now_ms: u64, chance: &mut Chance, message: &impl Message) {
        if self.is_cut {
            return;
        }
        let bytes = message.encode_length_delimited_to_vec();
        let mut due_ms = self
            .chunks
            .back()
            .map_or(now_ms, |(due, _)| now_ms.max(*due));
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + chance.index(rest.len()));
            due_ms += chance.below(400);
            self.bytes += piece.len();
            self.chunks.push_back((due_ms, piece.to_vec()));
            rest = after;
        }
    }

    /// The next message that has arrived whole.
    pub(super) fn receive<M: Message + Default>(&mut self, now_ms: u64) -> Option<M> {
        while !self.is_black
            && let Some((due_ms, _)) = self.chunks.front()
            && *due_ms <= now_ms
        {
            let (_, piece) = self.chunks.pop_front()?;
            self.bytes -= piece.len();
            self.arrived.extend(piece);
        }
        let mut rest = &self.arrived[..];
        let length = prost::decode_length_delimiter(&mut rest).ok()?;
        let body = rest.get(..length)?;
        let message = M::decode(body).expect("a link changes no bytes");
        let used = self.arrived.len() - rest.len() + length;
        self.arrived.drain(..used);
        Some(message)
    }

    /// The sender is gone: what is under way may arrive up to any byte.
    pub(super) fn cut(&mut self, chance: &mut Chance) {
        self.is_cut = true;
        let mut keeps = chance.index(self.bytes + 1);
        for (_, piece) in &mut self.chunks {
            piece.truncate(keeps);
            keeps -= piece.len();
        }
        self.chunks.retain(|(_, piece)| !piece.is_empty());
        self.bytes = self.chunks.iter().map(|(_, piece)| piece.len()).sum();
    }

    /// Whether nothing will arrive any more.
    pub(super) fn is_dry(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// A connection of one agent.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// Agent to server.
    pub(super) up: Way,
    /// Server to agent.
    pub(super) down: Way,
    /// When the agent's end notices that it is over, if it is.
    pub(super) agent_ends_ms: Option<u64>,
    /// When the server's end does.
    pub(super) server_ends_ms: Option<u64>,
}

impl Link {
    /// Cut: what is under way may still arrive, and each end notices in its own time.
    pub(super) fn cut(&mut self, now_ms: u64, chance: &mut Chance, notices_ms: u64) {
        self.up.cut(chance);
        self.down.cut(chance);
        let mut end = |ends: &mut Option<u64>| {
            let at = now_ms + chance.below(notices_ms);
            *ends = Some(ends.map_or(at, |before| before.min(at)));
        };
        end(&mut self.agent_ends_ms);
        end(&mut self.server_ends_ms);
    }
}
