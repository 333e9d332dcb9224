//! `dawnwatch rules`: the table "severity, wakes whom, condition".

use dawnwatch_proto::api::Rule;

use crate::draw;
use crate::fail::Fail;
use crate::session::{Answer, Session};
use crate::table::{Cell, Paint, Side, Table};

pub(crate) fn run(session: &Session) -> Result<Answer, Fail> {
    let document = session.server.get("rules", &[])?;
    session.table(&document, || {
        document.read::<Vec<Rule>>().map(|rules| table(&rules))
    })
}

fn table(rules: &[Rule]) -> Table {
    let head = [
        ("rule", Side::Left),
        ("severity", Side::Left),
        ("wakes", Side::Left),
        // The last one is never cut: a condition may be long.
        ("condition", Side::Left),
    ];
    let mut table = Table::new(&head, "no rules");
    for rule in rules {
        table.row(vec![
            Cell::text(rule.name.as_str()),
            Cell::text(draw::severity(rule.severity)).paint(Paint::of(rule.severity)),
            Cell::text(rule.wakes.as_str()),
            Cell::text(rule.condition.as_str()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use dawnwatch_proto::review::Severity;

    #[test]
    fn a_list() {
        let rule = |name: &str, condition: &str, severity, wakes: &str| Rule {
            name: name.to_owned(),
            condition: condition.to_owned(),
            severity,
            wakes: wakes.to_owned(),
        };
        let rules = [
            rule(
                "disk_full",
                "filesystem >= 95 % for 1 m",
                Severity::Critical,
                "ops",
            ),
            rule(
                "cpu_busy",
                "CPU >= 95 % for 15 m",
                Severity::Warning,
                "ops by day",
            ),
        ];
        let want = "RULE       SEVERITY  WAKES       CONDITION\n\
                    disk_full  critical  ops         filesystem >= 95 % for 1 m\n\
                    cpu_busy   warning   ops by day  CPU >= 95 % for 15 m\n";
        assert_eq!(table(&rules).text(false), want);
    }
}
