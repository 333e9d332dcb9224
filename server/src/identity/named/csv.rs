//! The list of hosts as a CSV file: a header that names the columns, then a row a host.
//!
//! ```text
//! name,address,site,service,owner,importance,hours
//! web01,192.0.2.10,hq,shop,A. Ruiz,high,always
//! desk7,,hq,,L. Chen,low,Mon-Fri 07:00-19:00
//! ```
//! Columns may stand in any order, only `name` must be there; `;` or a tab may part them, as spreadsheets write it. All mistakes
//! are told at once, each with its line.

use std::collections::BTreeMap;

use dawnwatch_engine::named::NAMED_MAX;
use dawnwatch_proto::review::Importance;

use super::NamedRecord;
use crate::config::parse_expected;
use crate::identity::state::clean_name;

const COLUMNS: [&str; 7] = [
    "name",
    "address",
    "site",
    "service",
    "owner",
    "importance",
    "hours",
];

/// Longest fact, in characters: it stands in tables.
const FACT_CHARS_MAX: usize = 64;

/// Mistakes told of one file; a file of another kind has one a line.
const MISTAKES_MAX: usize = 20;

/// A fact that can stand in a table: one line of printable text.
pub(super) fn fact(what: &str, value: &str) -> Result<String, String> {
    let value = value.trim();
    if value.chars().any(char::is_control) {
        return Err(format!("{what} has characters that cannot be printed"));
    }
    if value.chars().count() > FACT_CHARS_MAX {
        return Err(format!("{what} is longer than {FACT_CHARS_MAX} characters"));
    }
    Ok(value.to_owned())
}

pub(super) fn importance(value: &str) -> Result<Option<Importance>, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "low" => Ok(Some(Importance::Low)),
        "normal" => Ok(Some(Importance::Normal)),
        "high" => Ok(Some(Importance::High)),
        other => Err(format!("importance {other:?} is none of low, normal, high")),
    }
}

pub(super) fn hours(value: &str) -> Result<Option<String>, String> {
    let value = fact("hours", value)?;
    if value.is_empty() {
        return Ok(None);
    }
    match parse_expected(&value) {
        Ok(_) => Ok(Some(value)),
        Err(why) => Err(format!(
            "hours: {why}; write always, or Mon-Fri 07:00-19:00"
        )),
    }
}

/// Reads the file.
///
/// # Errors
/// All mistakes, each with its line.
pub(super) fn read(text: &str) -> Result<Vec<NamedRecord>, Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().next().unwrap_or("");
    let delimiter = [b';', b'\t']
        .into_iter()
        .find(|by| first.as_bytes().contains(by) && !first.contains(','))
        .unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let columns = header(&mut reader)?;
    let mut rows = Vec::new();
    let mut mistakes = Vec::new();
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for record in reader.records() {
        let line = |record: &csv::StringRecord| record.position().map_or(0, csv::Position::line);
        match record {
            Ok(record) if record.iter().all(str::is_empty) => {}
            Ok(record) => match row(&columns, &record) {
                Ok(row) => {
                    let at = line(&record);
                    if let Some(before) = lines.insert(row.name.to_lowercase(), at) {
                        let name = &row.name;
                        mistakes.push(format!("line {at}: {name} stands in line {before} already"));
                    }
                    rows.push(row);
                }
                Err(why) => {
                    mistakes.extend(
                        why.into_iter()
                            .map(|why| format!("line {}: {why}", line(&record))),
                    );
                }
            },
            Err(error) => mistakes.push(error.to_string()),
        }
        if rows.len() > NAMED_MAX {
            mistakes.push(format!("more than {NAMED_MAX} rows"));
        }
        if mistakes.len() >= MISTAKES_MAX {
            mistakes.push("more mistakes were not looked for".to_owned());
            break;
        }
    }
    if rows.is_empty() && mistakes.is_empty() {
        mistakes.push("the file names no host: a header, then a row a host".to_owned());
    }
    if mistakes.is_empty() {
        Ok(rows)
    } else {
        Err(mistakes)
    }
}

/// Which column of the file is which.
fn header(reader: &mut csv::Reader<&[u8]>) -> Result<Vec<&'static str>, Vec<String>> {
    let header = reader.headers().map_err(|error| vec![error.to_string()])?;
    let mut columns = Vec::new();
    let mut mistakes = Vec::new();
    for given in header {
        if mistakes.len() >= MISTAKES_MAX {
            mistakes.push("more mistakes were not looked for".to_owned());
            break;
        }
        let lower = given.to_ascii_lowercase();
        match COLUMNS.iter().find(|column| **column == lower) {
            Some(column) if columns.contains(column) => {
                mistakes.push(format!("line 1: the column {column} is there twice"));
            }
            Some(column) => columns.push(*column),
            None => {
                let near = COLUMNS
                    .iter()
                    .find(|column| strsim::jaro_winkler(column, &lower) > 0.8);
                let hint = near.map_or_else(
                    || format!("the columns are {}", COLUMNS.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                mistakes.push(format!("line 1: unknown column {given:?}: {hint}"));
            }
        }
    }
    if mistakes.is_empty() && !columns.contains(&"name") {
        let text = "line 1: the header has no column name: begin the file with name,site,owner";
        mistakes.push(text.to_owned());
    }
    if mistakes.is_empty() {
        Ok(columns)
    } else {
        Err(mistakes)
    }
}

fn row(columns: &[&str], record: &csv::StringRecord) -> Result<NamedRecord, Vec<String>> {
    let mut row = NamedRecord::default();
    let mut mistakes = Vec::new();
    if record.len() > columns.len() {
        let (has, wants) = (record.len(), columns.len());
        mistakes.push(format!("{has} values, the header has {wants} columns"));
    }
    for (column, value) in columns.iter().zip(record) {
        let done = match *column {
            "name" => {
                row.name = value.to_owned();
                Ok(())
            }
            // What a file leaves empty stays as it was.
            _ if value.is_empty() => Ok(()),
            column => row.set(column, value),
        };
        mistakes.extend(done.err());
    }
    if row.name.is_empty() {
        mistakes.push("no name".to_owned());
    } else if clean_name(&row.name) != row.name {
        let name = &row.name;
        mistakes.push(format!(
            "{name:?} is no name: letters, digits, dots, - and _, at most 64"
        ));
    }
    if mistakes.is_empty() {
        Ok(row)
    } else {
        Err(mistakes)
    }
}
