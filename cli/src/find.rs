//! From what a person typed to the thing that was meant: hosts and series.

use dawnwatch_proto::api::Host;
use dawnwatch_proto::untrusted::term;

use crate::fail::Fail;

/// Most names that are suggested: more are not read.
const SUGGESTIONS_MAX: usize = 8;

/// How alike a name must be to be suggested, by Jaro and Winkler: one slip in a short name still is.
const LIKENESS_MIN: f64 = 0.8;

/// Shortest beginning of a host's id that is looked up.
const ID_PREFIX_MIN: usize = 4;

/// The names closest to the wanted one, best first.
pub(crate) fn near<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .map(|name| {
            let lower = name.to_lowercase();
            let inside = wanted.len() >= 3 && lower.contains(&wanted);
            (
                if inside {
                    1.0
                } else {
                    strsim::jaro_winkler(&wanted, &lower)
                },
                name,
            )
        })
        .filter(|(score, _)| *score >= LIKENESS_MIN)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup();
    scored
        .into_iter()
        .take(SUGGESTIONS_MAX.min(3))
        .map(|(_, name)| name.to_owned())
        .collect()
}

/// The host of this name, or that went by it before, or whose id or name alone begins so.
pub(crate) fn host<'a>(hosts: &'a [Host], wanted: &str) -> Result<&'a Host, Fail> {
    let lower = wanted.to_lowercase();
    let alias = |host: &Host| {
        let mut aliases = host.aliases.iter();
        aliases.any(|alias| alias.to_lowercase() == lower)
    };
    let tests: [&dyn Fn(&Host) -> bool; 5] = [
        &|host| host.name == wanted,
        &|host| host.name.to_lowercase() == lower,
        &alias,
        &|host| lower.len() >= ID_PREFIX_MIN && host.id.to_string().starts_with(&lower),
        &|host| !lower.is_empty() && host.name.to_lowercase().starts_with(&lower),
    ];
    for test in tests {
        let found: Vec<&Host> = hosts.iter().filter(|host| test(host)).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one),
            [_, ..] => return Err(several_hosts(wanted, &found)),
        }
    }
    let near = near(wanted, hosts.iter().map(|host| host.name.as_str()));
    let hint = if near.is_empty() {
        " (list them with: dawnwatch hosts)"
    } else {
        ""
    };
    Err(Fail::data(format!("no host is called {}{hint}", term(wanted))).suggest(&near))
}

fn several_hosts(wanted: &str, found: &[&Host]) -> Fail {
    let mut text = format!(
        "{} fits {} hosts; give more of the name, or the id:",
        term(wanted),
        found.len()
    );
    for host in found.iter().take(SUGGESTIONS_MAX) {
        text.push_str(&format!("\n  {}  {}", host.id, term(&host.name)));
    }
    if found.len() > SUGGESTIONS_MAX {
        text.push_str(&format!("\n  and {} more", found.len() - SUGGESTIONS_MAX));
    }
    Fail::data(text)
}

/// The series in Prometheus notation that is meant: whole, by its name, by name and some labels, or by words in it.
pub(crate) fn series<'a>(all: &'a [String], wanted: &str) -> Result<&'a str, Fail> {
    let lower = wanted.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let (want_name, want_labels) = split(wanted);
    let tests: [&dyn Fn(&str) -> bool; 3] = [
        &|one| one == wanted,
        &|one| {
            let (name, labels) = split(one);
            name == want_name && want_labels.iter().all(|label| labels.contains(label))
        },
        &|one| !words.is_empty() && words.iter().all(|word| one.to_lowercase().contains(word)),
    ];
    for test in tests {
        let found: Vec<&String> = all.iter().filter(|one| test(one)).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok(one),
            [_, ..] => return Err(several_series(wanted, &found)),
        }
    }
    let mut names: Vec<&str> = all.iter().map(|one| split(one).0).collect();
    names.dedup();
    let near = near(want_name, names.into_iter());
    let hint = if near.is_empty() {
        " (list them with: dawnwatch history HOST)"
    } else {
        ""
    };
    Err(Fail::data(format!("the host has no series {}{hint}", term(wanted))).suggest(&near))
}

fn several_series(wanted: &str, found: &[&String]) -> Fail {
    let mut text = format!(
        "{} fits {} series; say which, with labels or further words:",
        term(wanted),
        found.len()
    );
    for one in found.iter().take(SUGGESTIONS_MAX) {
        text.push_str(&format!("\n  '{}'", term(one)));
    }
    if found.len() > SUGGESTIONS_MAX {
        text.push_str(&format!("\n  and {} more", found.len() - SUGGESTIONS_MAX));
    }
    Fail::data(text)
}

/// Name and labels of Prometheus notation, the labels as `name="value"`; quotes are optional.
fn split(series: &str) -> (&str, Vec<String>) {
    let Some((name, labels)) = series.split_once('{') else {
        return (series, Vec::new());
    };
    let labels = labels.strip_suffix('}').unwrap_or(labels);
    let (mut out, mut one, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in labels.chars() {
        if c == ',' && !quoted {
            out.push(std::mem::take(&mut one));
            continue;
        }
        if c == '"' && !escaped {
            quoted = !quoted;
        } else {
            one.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    out.push(one);
    out.retain(|label| !label.is_empty());
    (name, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn hosts_are_found_as_people_name_them() {
        let mut hosts = sample::hosts();
        hosts[0].aliases.push("Ledger".to_owned());
        let id = hosts[1].id.to_string();
        for (wanted, want) in [
            ("db02", Ok("db02")),
            ("DB02", Ok("db02")),
            ("web01", Ok("web01")),
            ("w", Ok("web01")),
            ("ledger", Ok("db01")),
            (id.as_str(), Ok("db02")),
            (
                "db",
                Err("db fits 2 hosts; give more of the name, or the id:"),
            ),
            (
                "db03",
                Err("no host is called db03; did you mean one of these?"),
            ),
            (
                "mail",
                Err("no host is called mail (list them with: dawnwatch hosts)"),
            ),
            (
                "",
                Err("no host is called  (list them with: dawnwatch hosts)"),
            ),
        ] {
            let got = host(&hosts, wanted).map(|host| host.name.as_str());
            let got = got.map_err(|fail| fail.text.lines().next().unwrap().to_owned());
            assert_eq!(got, want.map_err(str::to_owned), "{wanted}");
        }
    }

    #[test]
    fn series_are_found_as_people_name_them() {
        let all: Vec<String> = [
            "node_load1",
            "node_load15",
            r#"node_cpu_seconds_total{cpu="0",mode="idle"}"#,
            r#"node_cpu_seconds_total{cpu="0",mode="user"}"#,
            r#"node_filesystem_avail_bytes{device="/dev/sda1",mountpoint="/a,b"}"#,
        ]
        .map(str::to_owned)
        .to_vec();
        for (wanted, want) in [
            ("node_load1", Ok(0)),
            ("load15", Ok(1)),
            (r#"node_cpu_seconds_total{mode="user"}"#, Ok(3)),
            ("node_cpu_seconds_total{mode=user}", Ok(3)),
            ("cpu idle", Ok(2)),
            ("node_filesystem_avail_bytes", Ok(4)),
            (r#"node_filesystem_avail_bytes{mountpoint="/a,b"}"#, Ok(4)),
            (
                "load",
                Err("load fits 2 series; say which, with labels or further words:"),
            ),
            (
                "node_cpu_seconds_total",
                Err(
                    "node_cpu_seconds_total fits 2 series; say which, with labels or further words:",
                ),
            ),
            (
                "node_laod1",
                Err("the host has no series node_laod1; did you mean one of these?"),
            ),
            (
                "zzz",
                Err("the host has no series zzz (list them with: dawnwatch history HOST)"),
            ),
        ] {
            let got =
                series(&all, wanted).map_err(|fail| fail.text.lines().next().unwrap().to_owned());
            assert_eq!(
                got,
                want.map(|i: usize| all[i].as_str()).map_err(str::to_owned),
                "{wanted}"
            );
        }
    }
}
