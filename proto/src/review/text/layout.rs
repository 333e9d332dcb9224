//! Lines of bounded width: cutting, wrapping, two columns.

/// Cuts a text to so many characters, the last one then being `…`.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(columns.saturating_sub(1)).collect();
    out.truncate(out.trim_end().len());
    out.push('…');
    out
}

/// Wraps words to so many columns, later lines indented; a word that is longer than a line is broken. What goes over
/// `lines_max` is cut with `…`.
pub(super) fn wrap(text: &str, columns: usize, indent: usize, lines_max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        while !rest.is_empty() {
            let first_of_line = used == if lines.len() == 1 { 0 } else { indent };
            let space = usize::from(!first_of_line);
            let length = rest.chars().count();
            if used + space + length <= columns || first_of_line {
                let room = columns.saturating_sub(used + space).max(1);
                let (now, later) = split(rest, room);
                let line = lines.last_mut().expect("there is always a line");
                line.push_str(if first_of_line { "" } else { " " });
                line.push_str(now);
                used += space + now.chars().count();
                rest = later;
            } else {
                lines.push(" ".repeat(indent));
                used = indent;
            }
        }
    }
    if lines.len() > lines_max {
        let rest = lines.split_off(lines_max.max(1) - 1);
        let first = rest.first().map_or("", String::as_str);
        let mut last = cut(&format!("{first} …"), columns);
        if !last.ends_with('…') {
            last.push('…');
        }
        lines.push(last);
    }
    lines
}

/// Left and right in one line; the left is cut where both do not fit.
pub(super) fn columns(left: &str, right: &str, columns: usize) -> String {
    let right = cut(right, columns / 2);
    let room = columns.saturating_sub(right.chars().count() + 2);
    let left = cut(left, room);
    let pad = columns.saturating_sub(left.chars().count() + right.chars().count());
    format!("{left}{}{right}", " ".repeat(pad))
}

/// As many pieces as fit into so many lines, with bars between; the rest is counted, with what to ask for it.
pub(super) fn listed(
    pieces: &[String],
    columns: usize,
    lines_max: usize,
    more: &str,
) -> Vec<String> {
    // Each piece takes four columns at least, so more of them cannot fit.
    let mut shown = pieces.len().min(columns * lines_max / 4);
    loop {
        let mut parts: Vec<String> = pieces[..shown]
            .iter()
            .map(|piece| cut(piece, columns))
            .collect();
        if shown < pieces.len() {
            parts.push(format!("{} more: {more}", pieces.len() - shown));
        }
        let lines = wrap(&parts.join(" | "), columns, 0, usize::MAX);
        if lines.len() <= lines_max || shown == 0 {
            return lines;
        }
        shown -= 1;
    }
}

fn split(text: &str, chars: usize) -> (&str, &str) {
    text.char_indices()
        .nth(chars)
        .map_or((text, ""), |(at, _)| text.split_at(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts_and_columns() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("äöüäöü", 4), "äöü…");
        assert_eq!(cut("ab cd", 4), "ab…");
        assert_eq!(columns("left", "right", 12), "left   right");
        assert_eq!(
            columns("far too long a left", "right", 14),
            "far to…  right"
        );
    }

    #[test]
    fn wraps_at_words_and_breaks_what_is_longer() {
        assert_eq!(wrap("one two three", 8, 2, 9), ["one two", "  three"]);
        assert_eq!(
            wrap("abcdefghijkl", 5, 2, 9),
            ["abcde", "  fgh", "  ijk", "  l"]
        );
        assert_eq!(wrap("one two three four", 8, 2, 2), ["one two", "  three…"]);
        assert_eq!(wrap("", 8, 2, 2), [""]);
    }

    #[test]
    fn lists_count_what_does_not_fit() {
        let pieces: Vec<String> = ["aaaa", "bbbb", "cccc"].map(str::to_owned).into();
        assert_eq!(listed(&pieces, 99, 1, "x"), ["aaaa | bbbb | cccc"]);
        assert_eq!(listed(&pieces, 16, 1, "x"), ["aaaa | 2 more: x"]);
        assert_eq!(listed(&pieces, 11, 2, "x"), ["aaaa | bbbb", "| cccc"]);
        assert_eq!(listed(&[], 17, 1, "x"), [""]);
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_asked(text in "[a-zé… ]{0,200}", width in 20_usize..80, max in 1_usize..5) {
            let lines = wrap(&text, width, 7, max);
            prop_assert!(lines.len() <= max);
            for line in &lines {
                prop_assert!(line.chars().count() <= width, "{line:?}");
            }
            let words = |text: &str| text.split_whitespace().collect::<String>();
            let whole = wrap(&text, width, 7, usize::MAX);
            prop_assert_eq!(words(&whole.join(" ")), words(&text));
        }
    }
}
