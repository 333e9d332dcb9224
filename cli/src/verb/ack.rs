//! `dawnwatch ack`: somebody takes an incident.

use dawnwatch_proto::api::{Act, Incident};
use dawnwatch_proto::untrusted::term;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::verb::{incidents, show};

/// Which incident, and with what remark.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the incident, such as I-318
    id: String,
    /// A remark that stays with the incident
    #[arg(long, default_value = "")]
    note: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let id = show::incident_id(&args.id).ok_or_else(|| {
        Fail::usage(format!(
            "{:?} is no incident: give an id such as I-318",
            args.id
        ))
    })?;
    let act = Act {
        by: login(|name| std::env::var(name).ok()),
        note: args.note.clone(),
    };
    let document = session.server.post(&format!("incidents/{id}/ack"), &act)?;
    let incident = document.read::<Incident>()?;
    session.drawing(
        &document,
        |_| {
            session
                .now()
                .map(|now| draw(&incident, now.at, &session.zone(&now.zone)))
        },
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

/// Who acts: behind `sudo` the person, not root. The server fills in a name where none is known.
fn login(env: impl Fn(&str) -> Option<String>) -> String {
    let names = ["SUDO_USER", "LOGNAME", "USER"];
    names
        .into_iter()
        .filter_map(env)
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}

fn draw(incident: &Incident, now: jiff::Timestamp, zone: &jiff::tz::TimeZone) -> String {
    let head = format!(
        "{} {}  {}",
        term(&incident.id),
        term(&incident.name),
        term(&incident.what)
    );
    match &incident.taken {
        Some((by, at)) => format!(
            "{head}\ntaken by {}, {}\n",
            term(by),
            draw::when(*at, zone, now)
        ),
        None => format!(
            "{head}\nis {}: there is nothing to take\n",
            term(&incident.state)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn behind_sudo_stands_a_person() {
        for (env, want) in [
            (&[("SUDO_USER", "ruiz"), ("USER", "root")][..], "ruiz"),
            (&[("SUDO_USER", ""), ("USER", "chen")], "chen"),
            (&[], ""),
        ] {
            let get = |name: &str| {
                env.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(login(get), want);
        }
    }

    #[test]
    fn says_who_took_it() {
        let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
        let got = draw(&sample::incident(), sample::now(), &zone);
        assert_eq!(
            got,
            "I-318 db02  off or hung\ntaken by A. Ruiz, Sun 03:20\n"
        );
    }
}
