//! The line that is pasted on a host which has no agent yet.

use std::borrow::Cow;

use super::Offer;

/// The line for a root shell: fetches the agent, checks it, puts it in its place, and has it join, start and wait for its
/// first acknowledged sample. Works in dash, bash, zsh and busybox's ash.
///
/// - `-k`: the certificate is not checked, because the hash in this very line is what is trusted. A man in the middle can
///   send another file, which is refused; the join secret goes only to the holder of the CA whose hash is in the join line.
/// - `--retry`: a server that is busy with 180 hosts answers 503 and names a time.
/// - the subshell: its trap removes the temporary file however it ends, and leaves nothing behind in the shell of the person.
#[must_use]
pub fn install_line(offer: &Offer, server: &str, join: &str) -> String {
    let url = quoted(&format!("https://{server}/install/agent/{}", offer.arch)).into_owned();
    let server = quoted(server);
    let hash = &offer.sha256;
    format!(
        "(f=$(mktemp) && trap 'rm -f \"$f\"' EXIT && curl -fsSk --retry 5 {url} -o \"$f\" \
         && echo \"{hash}  $f\" | sha256sum -c >/dev/null && install -m755 \"$f\" /usr/bin/dawnwatch-agent \
         && dawnwatch-agent install {server} {join})"
    )
}

/// A word for the shell: as it is where no shell sees anything special in it, else in single quotes.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/".contains(c);
    if word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(server: &str) -> String {
        let offer = Offer {
            arch: "x86_64",
            sha256: "ab".repeat(32),
            bytes: 7,
        };
        install_line(&offer, server, "dw1.a.k7.s")
    }

    #[test]
    fn the_line_is_one_command_and_the_join_line_stands_at_its_end() {
        let hash = "ab".repeat(32);
        let want = format!(
            "(f=$(mktemp) && trap 'rm -f \"$f\"' EXIT && curl -fsSk --retry 5 https://mon01:7443/install/agent/x86_64 -o \"$f\" && \
             echo \"{hash}  $f\" | sha256sum -c >/dev/null && install -m755 \"$f\" /usr/bin/dawnwatch-agent && \
             dawnwatch-agent install mon01:7443 dw1.a.k7.s)"
        );
        assert_eq!(line("mon01:7443"), want);
    }

    #[test]
    fn brackets_are_kept_from_the_shell() {
        assert!(
            line("[fd00::5]:7443").contains("'https://[fd00::5]:7443/install/agent/x86_64' -o")
        );
        assert!(line("[fd00::5]:7443").contains("install '[fd00::5]:7443' dw1."));
        assert_eq!(quoted("a'b"), "'a'\\''b'");
    }
}
