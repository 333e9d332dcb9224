use super::*;

const NOW: &str = "2026-10-05T08:00:00Z";

fn open() -> (tempfile::TempDir, Identity) {
    let dir = tempfile::tempdir().unwrap();
    let (identity, _) = Identity::open(dir.path(), at(NOW), &[]).unwrap();
    (dir, identity)
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Puts a host into the document, as joining does.
fn host(identity: &Identity, number: u128, name: &str, machine: &str) -> HostId {
    let id = HostId(number);
    let done: Result<(), IdentityError> = identity.change(|state| {
        let record = HostRecord {
            id,
            name: state.free_name(name, id),
            asked: name.to_owned(),
            machine: machine.to_owned(),
            joined: Timestamp::from_second(i64::try_from(number).unwrap()).unwrap(),
            labels: Vec::new(),
            generation: 1,
            issued: Vec::new(),
            denied: 0,
            retired: None,
            aliases: Vec::new(),
            merged: None,
            erased: None,
        };
        state.hosts.insert(id, Arc::new(record));
        Ok(())
    });
    done.unwrap();
    id
}

fn import(identity: &Identity, csv: &str) -> Imported {
    identity.import_hosts(csv, false, at(NOW)).unwrap().0
}

fn mistakes(identity: &Identity, csv: &str) -> Vec<String> {
    match identity.import_hosts(csv, false, at(NOW)) {
        Err(HostError::Mistakes(mistakes)) => mistakes,
        other => panic!("{other:?}"),
    }
}

const LIST: &str = "name,address,site,service,owner,importance,hours\n\
    web01,192.0.2.10,hq,shop,A. Ruiz,high,always\n\
    web02,,hq,,,,\n\
    desk7,,branch,,L. Chen,low,\"Mon-Fri 07:00-19:00, Sat 09:00-12:00\"\n";

#[test]
fn importing_twice_changes_nothing_and_a_second_file_only_adds() {
    let (dir, identity) = open();
    host(&identity, 7, "web02", "");
    let first = import(&identity, LIST);
    assert_eq!(
        (first.rows, first.new, first.changed, first.joined),
        (3, 3, 0, 1)
    );
    let again = import(&identity, LIST);
    assert_eq!((again.new, again.changed, again.joined), (0, 0, 1));
    let other = import(&identity, "owner;name\nB. Otto;web02\n;db01\n");
    assert_eq!((other.new, other.changed), (1, 1), "parted by semicolons");
    assert_eq!(other.not_in_file, ["desk7", "web01"]);
    let kept: Vec<(String, Option<String>, Option<String>)> = identity
        .named()
        .into_iter()
        .map(|n| (n.name, n.owner, n.site))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        kept,
        [
            ("db01".to_owned(), None, None),
            ("desk7".to_owned(), some("L. Chen"), some("branch")),
            ("web01".to_owned(), some("A. Ruiz"), some("hq")),
            ("web02".to_owned(), some("B. Otto"), some("hq")),
        ]
    );
    let (again, _) = Identity::open(dir.path(), at(NOW), &[]).unwrap();
    assert_eq!(again.named(), identity.named(), "it is on disk");
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    let (_dir, identity) = open();
    let (out, told) = identity.import_hosts(LIST, true, at(NOW)).unwrap();
    assert_eq!((out.new, out.dry_run, told.len()), (3, true, 0));
    assert_eq!(identity.named(), []);
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_line_and_nothing_is_taken_in() {
    let (_dir, identity) = open();
    for (csv, want) in [
        (
            "",
            &["line 1: the header has no column name: begin the file with name,site,owner"][..],
        ),
        (
            "name\n",
            &["the file names no host: a header, then a row a host"],
        ),
        (
            "name,ownr\nweb01,x\n",
            &["line 1: unknown column \"ownr\": did you mean owner?"],
        ),
        (
            "name,rack\nweb01,x\n",
            &[
                "line 1: unknown column \"rack\": the columns are name, address, site, service, owner, importance, hours",
            ],
        ),
        (
            "name,name\nweb01,x\n",
            &["line 1: the column name is there twice"],
        ),
        (
            "name\nweb01\nWEB01\n",
            &["line 3: WEB01 stands in line 2 already"],
        ),
        (
            "name,importance\nweb 1,high\nweb02,urgent\n,low\n",
            &[
                "line 2: \"web 1\" is no name: letters, digits, dots, - and _, at most 64",
                "line 3: importance \"urgent\" is none of low, normal, high",
                "line 4: no name",
            ],
        ),
        (
            "name,hours\nweb01,Mon-Fri\n",
            &["line 2: hours: \"Mon-Fri\" names no day; write always, or Mon-Fri 07:00-19:00"],
        ),
        (
            "name\nweb01,x\n",
            &["line 2: 2 values, the header has 1 columns"],
        ),
        (
            "name,owner\nweb01,\"a\u{1b}[31m\"\n",
            &["line 2: owner has characters that cannot be printed"],
        ),
    ] {
        assert_eq!(mistakes(&identity, csv), want, "{csv:?}");
    }
    let many = format!("name\n{}", "web 1\n".repeat(100));
    let told = mistakes(&identity, &many);
    assert_eq!(
        (told.len(), told[20].as_str()),
        (21, "more mistakes were not looked for")
    );
    assert_eq!(identity.named(), []);
}

#[test]
fn labels_hold_over_an_import_until_it_says_otherwise() {
    let (_dir, identity) = open();
    let label = |labels: &[(&str, &str)]| {
        let labels: Vec<(String, String)> = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        identity.label_host("Web01", &labels)
    };
    let set = label(&[("owner", "ruiz"), ("rack", "2"), ("importance", "low")]).unwrap();
    assert_eq!((set.owner.as_deref(), set.expected), (Some("ruiz"), None));
    assert_eq!(set.labels, [("rack".to_owned(), "2".to_owned())]);
    let taken = label(&[("rack", ""), ("importance", "")]).unwrap();
    assert_eq!((taken.labels.len(), taken.importance), (0, None));
    for (name, value, want) in [
        (
            "importance",
            "huge",
            "importance: importance \"huge\" is none of low, normal, high",
        ),
        (
            "name",
            "x",
            "name: a name is changed with: dawnwatch hosts rename",
        ),
        (
            "hours",
            "noon",
            "hours: hours: \"noon\" names no day; write always, or Mon-Fri 07:00-19:00",
        ),
    ] {
        assert_eq!(label(&[(name, value)]).unwrap_err().to_string(), want);
    }
    import(&identity, LIST);
    let named = identity.named();
    let web = named.iter().find(|n| n.name == "Web01").unwrap();
    assert_eq!(web.owner.as_deref(), Some("A. Ruiz"));
    assert_eq!(web.expected, Some(at(NOW)));
}

#[test]
fn a_name_that_joined_is_not_forgotten() {
    let (_dir, identity) = open();
    import(&identity, LIST);
    host(&identity, 7, "web01.example.org", "");
    let refused = identity.forget_name("web01").unwrap_err().to_string();
    assert_eq!(
        refused,
        "web01 joined as web01.example.org: retire it instead"
    );
    assert_eq!(identity.named().len(), 3, "a refusal changes nothing");
    assert_eq!(identity.forget_name("WEB02").unwrap().name, "web02");
    let refused = identity.forget_name("web02").unwrap_err().to_string();
    assert_eq!(refused, "web02 is not among the names that were imported");
}

#[test]
fn a_renamed_host_keeps_its_facts_and_its_old_name() {
    let (_dir, identity) = open();
    import(&identity, LIST);
    let id = host(&identity, 7, "web01", "");
    host(&identity, 8, "db01", "");
    let (renamed, moved) = identity.rename_host(id, "shop1").unwrap();
    assert_eq!(
        (renamed.name.as_str(), &renamed.aliases[..]),
        ("shop1", &["web01".to_owned()][..])
    );
    let (before, after) = moved.unwrap();
    assert_eq!(
        (before.name.as_str(), after.name.as_str()),
        ("web01", "shop1")
    );
    assert_eq!(after.owner.as_deref(), Some("A. Ruiz"));
    for (to, want) in [
        ("DB01", "db01 is the name of another host"),
        (
            "a b",
            "\"a b\" is no name: letters, digits, dots, - and _, at most 64",
        ),
        (
            "",
            "\"\" is no name: letters, digits, dots, - and _, at most 64",
        ),
    ] {
        assert_eq!(identity.rename_host(id, to).unwrap_err().to_string(), want);
    }
    let (back, _) = identity.rename_host(id, "web01").unwrap();
    assert_eq!(back.aliases, ["shop1"], "its own name is no alias");
    for n in 0..20 {
        identity.rename_host(id, &format!("n{n}")).unwrap();
    }
    assert_eq!(identity.host(id).unwrap().aliases.len(), ALIASES_MAX);
}

#[test]
fn a_host_set_up_anew_goes_on_as_the_old_one() {
    let (dir, identity) = open();
    let old = host(&identity, 7, "web04", "aa");
    let clone = host(&identity, 8, "web05", "aa");
    let new = host(&identity, 9, "web04", "bb");
    let record = |id| identity.host(id).unwrap();
    assert_eq!(
        identity.like(&record(new)),
        [old],
        "the name that it asked for"
    );
    assert_eq!(identity.like(&record(clone)), [old], "the same machine");
    assert_eq!(
        identity.like(&record(old)),
        [],
        "nobody is like who was there first"
    );
    let (merged, kept) = identity.merge_hosts(new, old).unwrap();
    assert_eq!((merged.merged, kept.denied), (Some(old), 1));
    assert_eq!((identity.as_host(new), identity.as_host(old)), (old, old));
    assert_eq!(identity.merged_into(old), [new]);
    assert_eq!(identity.like(&record(new)), [old]);
    for (one, other, want) in [
        (old, old, "a host cannot be merged with itself"),
        (new, old, "web04-2 was merged already"),
        (clone, new, "web04-2 was merged already"),
    ] {
        let refused = identity.merge_hosts(one, other).unwrap_err();
        assert_eq!(refused.to_string(), want);
    }
    identity.retire(clone, at(NOW)).unwrap();
    let refused = identity.merge_hosts(clone, old).unwrap_err().to_string();
    assert_eq!(refused, "web05 was retired: join it again first");
    let third = host(&identity, 10, "web04", "cc");
    identity.merge_hosts(old, third).unwrap();
    assert_eq!(
        identity.as_host(new),
        third,
        "whoever became the old one goes along"
    );
    assert_eq!(identity.merged_into(third), [old, new]);
    let (again, _) = Identity::open(dir.path(), at(NOW), &[]).unwrap();
    assert_eq!(again.merged_into(third), [old, new], "after a restart");
    assert_eq!(again.merged_into(old), []);
}

#[test]
fn an_erased_host_is_an_id_with_a_pseudonym_and_takes_along_who_was_merged_into_it() {
    let (dir, identity) = open();
    host(&identity, 1, "erased-1", "");
    let (old, new) = (
        host(&identity, 5, "web04", "aa"),
        host(&identity, 6, "web04", "aa"),
    );
    host(&identity, 7, "web05", "aa");
    import(&identity, "name,owner\nweb04,B. Otto\nweb05,\n");
    identity.merge_hosts(new, old).unwrap();
    identity.rename_host(old, "shop.example.org").unwrap();
    let erased = identity.erase(old, at(NOW)).unwrap();
    let names: Vec<(HostId, &str)> = erased.iter().map(|h| (h.id, h.name.as_str())).collect();
    assert_eq!(
        names,
        [(old, "erased-2"), (new, "erased-3")],
        "erased-1 is somebody's name"
    );
    for host in &erased {
        assert!(host.retired.is_some() && host.erased.is_some());
    }
    let text = std::fs::read_to_string(dir.path().join("state.json")).unwrap();
    for gone in ["web04", "shop", "Otto"] {
        assert!(!text.contains(gone), "{gone} is in {text}");
    }
    assert!(
        text.contains("web05") && text.contains("\"aa\""),
        "others stay: {text}"
    );
    let again = identity.erase(old, at("2026-10-06T08:00:00Z")).unwrap();
    assert_eq!(again, erased, "once is enough");
    let free = host(&identity, 8, "web04", "aa");
    assert_eq!(
        identity.host(free).unwrap().name,
        "web04",
        "its name is free"
    );
}
