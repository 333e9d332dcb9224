//! `dawnwatch why`: why an incident is one.

use dawnwatch_proto::api::Incident;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::verb::{incidents, show};

/// Which incident.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the incident, such as I-318, or of a finding, such as L-052
    id: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let id = show::incident_id(&args.id).ok_or_else(|| {
        Fail::usage(format!(
            "{:?} is no incident: give an id such as I-318",
            args.id
        ))
    })?;
    let document = session.server.get(&format!("incidents/{id}"), &[])?;
    let incident = document.read::<Incident>()?;
    session.drawing(
        &document,
        |color| Ok(draw::why(&incident, &session.now()?, color, session)),
        || {
            session.now().map(|now| {
                incidents::table(
                    std::slice::from_ref(&incident),
                    now.at,
                    &session.zone(&now.zone),
                )
            })
        },
    )
}
