//! Bare `dawnwatch`: what is open now, at most twelve lines.

use dawnwatch_proto::api::Now;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::verb::incidents;

pub(crate) fn run(session: &Session) -> Result<Answer, Fail> {
    let document = session.server.get("now", &[])?;
    let now = || document.read::<Now>();
    session.drawing(
        &document,
        |color| Ok(draw::now(&now()?, color, session)),
        || now().map(|now| incidents::table(&now.open, now.at, &session.zone(&now.zone))),
    )
}
