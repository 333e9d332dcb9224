use super::*;
use crate::identity::document::Document as _;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn password() -> Password {
    Password::of_nobody()
}

fn open() -> (tempfile::TempDir, People, Timestamp) {
    let dir = tempfile::tempdir().unwrap();
    let people = People::open(dir.path()).unwrap();
    (dir, people, at("2026-10-05T08:00:00Z"))
}

#[test]
fn a_link_works_once_and_looking_uses_nothing_up() {
    let (dir, people, now) = open();
    assert!(people.is_first() && people.lacks_admin());
    let code = people.admin_link(now).unwrap();
    for _ in 0..3 {
        assert_eq!(people.look(&code.text, now).unwrap(), LinkFor::Admin);
    }
    let ann = people.use_link(&code.text, "Ann", password(), now).unwrap();
    assert_eq!((ann.id.as_str(), ann.role), ("P-1", Role::Admin));
    assert!(!people.lacks_admin());
    let again = people.use_link(&code.text, "Bob", password(), now);
    assert!(matches!(again, Err(PeopleError::Link)), "{again:?}");
    assert!(people.named("bob").is_none());

    let reopened = People::open(dir.path()).unwrap();
    assert!(!reopened.is_first());
    assert_eq!(reopened.list(), people.list());
    let text = std::fs::read_to_string(dir.path().join(Book::FILE)).unwrap();
    assert!(!text.contains(&code.text), "no code is kept");
}

#[test]
fn a_link_ends_with_its_time_and_the_next_one_ends_the_one_before() {
    let (_dir, people, now) = open();
    let first = people.admin_link(now).unwrap();
    assert!(people.look(&first.text, at("2026-10-05T08:29:59Z")).is_ok());
    assert!(
        people
            .look(&first.text, at("2026-10-05T08:30:00Z"))
            .is_err()
    );
    let second = people.admin_link(now).unwrap();
    assert!(people.look(&first.text, now).is_err());
    assert!(people.look(&second.text, now).is_ok());
}

#[test]
fn a_reset_ends_password_sessions_tokens_and_older_links() {
    let (_dir, people, now) = open();
    let (bob, invited) = people.add("bob", Role::Viewer, now).unwrap();
    assert!(bob.password.is_none());
    let bob = people
        .use_link(&invited.text, "ignored", password(), now)
        .unwrap();
    assert_eq!(bob.name, "bob", "a password link renames nobody");
    let (_, token) = people.create_token("BOB", now).unwrap();
    assert_eq!(
        people.of_token(&token).map(|one| one.id),
        Some(bob.id.clone())
    );
    assert!(people.of_token(&token.replace("P-1", "P-2")).is_none());
    assert!(people.of_token("dwp_P-1_").is_none());

    let (reset, first) = people.reset("bob", now).unwrap();
    assert!(reset.password.is_none() && reset.generation > bob.generation);
    assert!(people.of_token(&token).is_none());
    let (_, second) = people.reset("bob", now).unwrap();
    assert!(people.look(&first.text, now).is_err());
    assert!(people.look(&second.text, now).is_ok());
}

#[test]
fn ids_are_never_used_again_and_removed_names_are_gone() {
    let (dir, people, now) = open();
    people.add("Zoë Example", Role::Operator, now).unwrap();
    people.remove("zoë example", now).unwrap();
    let (next, _) = people.add("Zoë Example", Role::Viewer, now).unwrap();
    assert_eq!(next.id, "P-2");
    people.remove("Zoë Example", now).unwrap();
    let text = std::fs::read_to_string(dir.path().join(Book::FILE)).unwrap();
    assert!(!text.contains("Zo"), "{text}");
}

#[test]
fn names_that_deceive_are_refused() {
    let (_dir, people, now) = open();
    people.add("A. Ruiz", Role::Admin, now).unwrap();
    let long = "x".repeat(65);
    for name in ["", " ann", "ann\u{202e}", "a\nb", "root", "ROOT", &long] {
        let refused = people.add(name, Role::Viewer, now);
        assert!(matches!(refused, Err(PeopleError::Name)), "{name:?}");
    }
    let taken = people.add("a. ruiz", Role::Viewer, now);
    assert!(matches!(taken, Err(PeopleError::Taken(_))));
}

#[test]
fn a_damaged_or_later_document_is_refused() {
    for (text, part) in [
        ("{", "damaged"),
        ("{\"version\": 9}", "later dawnwatch"),
        ("{\"version\": 1}", "damaged"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(Book::FILE), text).unwrap();
        let error = People::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn the_document_has_this_form() {
    let (now, salt) = (at("2026-10-05T08:00:00Z"), [7; 16]);
    let mut book = Book::default();
    let ann = book.add("Ann", Role::Admin, now).unwrap();
    let bob = book.add("Bob", Role::Viewer, now).unwrap();
    let code = Code {
        text: "abc".to_owned(),
        expires: at("2026-10-07T08:00:00Z"),
    };
    book.link(&code, Some(bob.id)).unwrap();
    let person = book.people.get_mut(&ann.id).unwrap();
    person.password = Some(Password::new("correct horse battery", salt));
    person.generation = 1;
    person.tokens.push(ScriptToken {
        hash: hash("dwp_P-1_abc"),
        created: now,
    });
    let golden = include_str!("../testdata/people-1.json");
    assert_eq!(document::parse::<Book>(golden.as_bytes()).unwrap(), book);
    let golden = include_str!("../testdata/people-2.json");
    assert_eq!(String::from_utf8(files::print(&book)).unwrap(), golden);
    assert_eq!(document::parse::<Book>(golden.as_bytes()).unwrap(), book);
}
