//! `dawnwatch rules`: the table "condition, severity, wakes whom".

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
        ("condition", Side::Left),
        ("wakes", Side::Left),
    ];
    let mut table = Table::new(&head, "no rules");
    for rule in rules {
        table.row(vec![
            Cell::text(rule.name.as_str()),
            Cell::text(draw::severity(rule.severity)).paint(Paint::of(rule.severity)),
            Cell::text(rule.condition.as_str()),
            Cell::text(rule.wakes.as_str()),
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
        let want = "RULE       SEVERITY  CONDITION                   WAKES\n\
                    disk_full  critical  filesystem >= 95 % for 1 m  ops\n\
                    cpu_busy   warning   CPU >= 95 % for 15 m        ops by day\n";
        assert_eq!(table(&rules).text(false), want);
    }
}
