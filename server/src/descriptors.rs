//! How many files may be open at once. Hour files stay open, one an hour for 35 days, and each agent is a connection; a shell and
//! most containers begin with 1,024 at once and let a program have many more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With less a few hundred agents and five weeks of hour files do not go together.
const ENOUGH: u64 = 4_096;

/// Takes as many as this process may have. Where these are few, the log says so.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let all = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, all) {
            tracing::debug!(%error, "the limit of open files stays");
        }
    }
    let now = getrlimit(Resource::Nofile).current;
    if let Some(few) = now.filter(|now| *now < ENOUGH) {
        tracing::warn!(
            "no more than {few} files may be open: 35 days of history take 840, each agent one more; raise it (LimitNOFILE= of the service, ulimit -n, --ulimit of the container)"
        );
    }
}
