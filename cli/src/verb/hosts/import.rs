//! `dawnwatch hosts import`: names hosts from a CSV file.

use std::io::Read;
use std::path::PathBuf;

use dawnwatch_proto::api::{Import, Imported};
use dawnwatch_proto::untrusted::term;

use crate::draw;
use crate::fail::{DATA, Fail};
use crate::session::{Answer, Session};
use crate::table::{Cell, Side, Table};

/// Longest file: some 10,000 hosts, below the server's bound of a request.
const FILE_BYTES_MAX: u64 = 900 * 1024;

/// Names listed that are not in the file; the rest is counted.
const LISTED_MAX: usize = 8;

/// Which file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A header and a row a host: name, and any of address, site, service, owner, importance, hours; - is standard input
    file: PathBuf,
    /// Says what would come of it and changes nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Answer, Fail> {
    let import = Import {
        csv: read(args)?,
        dry_run: args.dry_run,
    };
    let document = session.server.post("hosts/import", &import)?;
    let imported = document.read::<Imported>()?;
    session.drawing(
        &document,
        |_| Ok(draw_imported(&imported)),
        || {
            let head = ["rows", "new", "changed", "joined"].map(|name| (name, Side::Right));
            let mut table = Table::new(&head, "");
            let counts = [
                imported.rows,
                imported.new,
                imported.changed,
                imported.joined,
            ];
            table.row(counts.map(|n| Cell::text(n.to_string())).to_vec());
            Ok(table)
        },
    )
}

fn read(args: &Args) -> Result<String, Fail> {
    let name = args.file.display();
    let bad = |why: &dyn std::fmt::Display| Fail::new(DATA, format!("{name}: {why}"));
    let mut bytes = Vec::new();
    let done = if args.file.as_os_str() == "-" {
        std::io::stdin()
            .lock()
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(&args.file).map_err(|error| bad(&error))?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)
    };
    done.map_err(|error| bad(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(bad(&format!("over {FILE_BYTES_MAX} bytes: part it")));
    }
    String::from_utf8(bytes).map_err(|_| bad(&"is not UTF-8 text: save it as CSV UTF-8"))
}

fn draw_imported(imported: &Imported) -> String {
    let Imported {
        rows,
        new,
        changed,
        joined,
        ..
    } = imported;
    let what = if imported.dry_run {
        "would be named"
    } else {
        "named"
    };
    let missing = rows.saturating_sub(*joined);
    let mut out = format!(
        "{} {what}: {new} new, {changed} changed, {} as they were; {joined} joined already.\n",
        draw::count(*rows, "host"),
        rows.saturating_sub(new + changed)
    );
    if missing > 0 {
        out.push_str(&format!(
            "{} counted as not watched until they join: dawnwatch hosts --missing\n",
            draw::count(missing, "host")
        ));
    }
    if !imported.not_in_file.is_empty() {
        let names = &imported.not_in_file;
        let listed: Vec<String> = names.iter().take(LISTED_MAX).map(|n| term(n)).collect();
        let more = names.len().saturating_sub(LISTED_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        out.push_str(&format!(
            "Named before and not in this file: {}{more}. They stay; dawnwatch hosts forget NAME takes one back.\n",
            listed.join(", ")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_in_words() {
        let mut imported = Imported {
            rows: 180,
            new: 12,
            changed: 3,
            joined: 171,
            not_in_file: (0..10).map(|n| format!("old{n}")).collect(),
            dry_run: false,
        };
        let want = "180 hosts named: 12 new, 3 changed, 165 as they were; 171 joined already.\n\
            9 hosts counted as not watched until they join: dawnwatch hosts --missing\n\
            Named before and not in this file: old0, old1, old2, old3, old4, old5, old6, old7 and 2 more. \
            They stay; dawnwatch hosts forget NAME takes one back.\n";
        assert_eq!(draw_imported(&imported), want);
        imported.dry_run = true;
        assert!(draw_imported(&imported).starts_with("180 hosts would be named"));
    }
}
