use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn later(now: Timestamp, days: i64) -> Timestamp {
    now + SignedDuration::from_hours(24 * days)
}

const NOW: &str = "2026-10-05T08:00:00Z";

fn open(dir: &Path, now: Timestamp, names: &[&str]) -> (Identity, First) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Identity::open(dir, now, &names).unwrap()
}

#[test]
fn the_first_start_makes_everything_and_the_second_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, first) = open(dir.path(), at(NOW), &["mon.example"]);
    let First::Start(line) = first else {
        panic!("not the first start")
    };
    assert_eq!(line.pin, identity.pin());
    let tokens = identity.tokens();
    assert_eq!(
        (tokens[0].uses_left, tokens[0].expires),
        (500, later(at(NOW), 1))
    );
    let stored = std::fs::read_to_string(dir.path().join("state.json")).unwrap();
    assert!(!stored.contains(&line.secret), "a secret is never stored");
    let leaf = identity.served.leaf();
    let (again, first) = open(dir.path(), later(at(NOW), 3), &["mon.example"]);
    assert_eq!(first, First::Again);
    assert_eq!(
        (again.pin(), again.tokens(), again.served.leaf()),
        (line.pin, tokens, leaf)
    );
}

#[test]
fn a_first_start_that_was_cut_off_is_finished() {
    let whole = tempfile::tempdir().unwrap();
    open(whole.path(), at(NOW), &[]);
    let steps = ["ca.key", "ca.der", "server.key", "server.der"];
    for done in 0..=steps.len() {
        let dir = tempfile::tempdir().unwrap();
        for name in &steps[..done] {
            std::fs::copy(whole.path().join(name), dir.path().join(name)).unwrap();
        }
        let (_, first) = open(dir.path(), at(NOW), &[]);
        assert!(matches!(first, First::Start(_)), "after {done} files");
    }
}

#[test]
fn a_lost_or_damaged_file_is_told_and_nothing_is_made_in_its_place() {
    for (name, bytes, want) in [
        ("ca.key", None, "identity/ca.key is missing"),
        ("ca.key", Some("x"), "identity/ca.key is damaged"),
        ("ca.der", Some("x"), "identity/ca.der is damaged"),
        ("state.json", Some("{"), "identity/state.json is damaged"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), at(NOW), &[]);
        match bytes {
            Some(bytes) => std::fs::write(dir.path().join(name), bytes).unwrap(),
            None => std::fs::remove_file(dir.path().join(name)).unwrap(),
        }
        let error = Identity::open(dir.path(), at(NOW), &[])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(want), "{error}");
    }
}

#[test]
fn a_ca_of_another_key_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(one.path(), at(NOW), &[]);
    open(other.path(), at(NOW), &[]);
    std::fs::copy(other.path().join("ca.der"), one.path().join("ca.der")).unwrap();
    let error = Identity::open(one.path(), at(NOW), &[]).unwrap_err();
    assert!(
        error.to_string().contains("does not belong to ca.key"),
        "{error}"
    );
}

#[test]
fn the_server_certificate_follows_time_names_and_ca() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, _) = open(dir.path(), at(NOW), &[]);
    let first = identity.served.leaf();
    assert!(!identity.renew_if_due(later(at(NOW), 14)).unwrap());
    assert!(identity.renew_if_due(later(at(NOW), 15)).unwrap());
    let second = identity.served.leaf();
    assert_ne!(first, second);
    let (named, _) = open(dir.path(), later(at(NOW), 15), &["192.0.2.1"]);
    let third = named.served.leaf();
    assert_ne!(second, third, "another name needs another certificate");
    let other = tempfile::tempdir().unwrap();
    open(other.path(), later(at(NOW), 15), &["192.0.2.1"]);
    for name in ["server.key", "server.der"] {
        std::fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
    }
    let (mended, _) = open(dir.path(), later(at(NOW), 15), &["192.0.2.1"]);
    assert!(tls::signed_by(
        &mended.authority.load().certificate,
        &mended.served.leaf().into()
    ));
}

#[test]
fn a_clock_from_before_the_ca_dates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, _) = open(dir.path(), at(NOW), &[]);
    let leaf = identity.served.leaf();
    assert!(
        !identity.renew_if_due(Timestamp::UNIX_EPOCH).unwrap(),
        "a dead clock battery"
    );
    assert!(
        identity.renew_if_due(later(at(NOW), 9 * 365)).unwrap(),
        "a clock far ahead"
    );
    assert!(
        identity.renew_if_due(later(at(NOW), 1)).unwrap(),
        "and set right again"
    );
    let facts = certificate::facts(&identity.served.leaf()).unwrap();
    assert_eq!(facts.not_after, later(at(NOW), 31));
    assert_ne!(identity.served.leaf(), leaf);
}

#[test]
fn the_ca_s_certificate_is_renewed_over_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, _) = open(dir.path(), at(NOW), &[]);
    let (pin, old) = (
        identity.pin(),
        identity.authority.load().certificate.clone(),
    );
    let late = later(at(NOW), 5 * 365 + 1);
    assert!(identity.renew_if_due(late).unwrap());
    let new = identity.authority.load().certificate.clone();
    assert_eq!(identity.pin(), pin);
    assert_ne!(new, old);
    let leaf = identity.served.leaf().into();
    assert!(tls::signed_by(&old, &leaf) && tls::signed_by(&new, &leaf));
    assert!(!identity.renew_if_due(late).unwrap());
}

#[test]
fn a_change_that_cannot_be_stored_is_not_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("identity");
    let (identity, _) = open(&dir, at(NOW), &[]);
    let before = identity.tokens();
    std::fs::rename(&dir, dir.with_extension("gone")).unwrap();
    let error = identity
        .create_token(1, later(at(NOW), 1), Vec::new(), at(NOW))
        .unwrap_err();
    assert!(matches!(error, IdentityError::Write { .. }), "{error}");
    assert_eq!(identity.tokens(), before);
}

#[test]
fn old_tokens_are_forgotten_and_unknown_ones_told() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, _) = open(dir.path(), at(NOW), &[]);
    let line = identity
        .create_token(1, later(at(NOW), 60), Vec::new(), later(at(NOW), 32))
        .unwrap();
    let ids: Vec<String> = identity
        .tokens()
        .into_iter()
        .map(|token| token.id)
        .collect();
    assert_eq!(
        ids,
        std::slice::from_ref(&line.id),
        "the first line ended 31 days before"
    );
    identity.revoke_token(&line.id).unwrap();
    assert!(identity.tokens()[0].revoked);
    let error = identity.revoke_token("nonesuch").unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no join token \"nonesuch\": see dawnwatch token list"
    );
}
