use jiff::civil::date;
use proptest::prelude::*;

use super::*;

/// Zones with the odd clock changes: half hours, two hours, at midnight, in Ramadan, backwards seasons, none at all.
const ZONES: [&str; 40] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Europe/Chisinau",
    "Europe/Moscow",
    "Europe/Volgograd",
    "Atlantic/Azores",
    "America/New_York",
    "America/Chicago",
    "America/St_Johns",
    "America/Halifax",
    "America/Havana",
    "America/Asuncion",
    "America/Santiago",
    "America/Scoresbysund",
    "America/Nuuk",
    "America/Sao_Paulo",
    "America/Mexico_City",
    "America/Dawson",
    "America/Los_Angeles",
    "Pacific/Easter",
    "Pacific/Apia",
    "Pacific/Fiji",
    "Pacific/Chatham",
    "Pacific/Norfolk",
    "Pacific/Kiritimati",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Tehran",
    "Asia/Kathmandu",
    "Asia/Amman",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Africa/Juba",
];

fn t(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn calendar(zone: &str) -> Calendar {
    Calendar {
        zone: zone.to_owned(),
        confirmed: true,
        ..Calendar::default()
    }
}

fn every_day(zone: &str, spans: &[(u16, u16)]) -> Calendar {
    Calendar {
        weekdays: std::array::from_fn(|_| spans.to_vec()),
        ..calendar(zone)
    }
}

fn nights(calendar: &Calendar) -> Nights {
    Nights::new(calendar).unwrap()
}

fn night_at(nights: &Nights, at: &str) -> Night {
    let Span::Night(night) = nights.at(t(at)) else {
        panic!("{at} is in working hours")
    };
    night
}

/// `id start end seal_at`, in UTC.
fn show(night: &Night) -> String {
    format!(
        "{} {} {} {}",
        night.id, night.start, night.end, night.seal_at
    )
}

#[test]
fn a_weekend_is_one_night_and_spans_are_half_open() {
    let nights = nights(&calendar("Europe/Berlin"));
    let want = "N-2026-10-05 2026-10-02T16:00:00Z 2026-10-05T06:00:00Z 2026-10-05T05:00:00Z";
    for at in [
        "2026-10-02T16:00:00Z",
        "2026-10-03T12:00:00Z",
        "2026-10-05T05:59:59.999Z",
    ] {
        assert_eq!(show(&night_at(&nights, at)), want, "{at}");
    }
    let (start, end) = (t("2026-10-05T06:00:00Z"), t("2026-10-05T16:00:00Z"));
    assert_eq!(nights.at(start), Span::Working { start, end });
    assert_eq!(
        nights.at(t("2026-10-05T15:59:59.999Z")),
        Span::Working { start, end }
    );
    assert!(nights.attended(start) && !nights.attended(end));
    let span = nights.at(start);
    assert!(span.contains(start) && !span.contains(end));
}

#[test]
fn holidays_make_nights_longer() {
    let mut easter = calendar("Europe/Berlin");
    easter.holidays = vec![date(2026, 4, 3), date(2026, 4, 6)];
    assert_eq!(
        show(&night_at(&nights(&easter), "2026-04-04T00:00:00Z")),
        "N-2026-04-07 2026-04-02T16:00:00Z 2026-04-07T06:00:00Z 2026-04-07T05:00:00Z"
    );
    // Three weeks of works holidays: further than the first reach of the search.
    easter.holidays = (0..21)
        .map(|n| date(2026, 8, 3).saturating_add(jiff::Span::new().days(n)))
        .collect();
    let long = nights(&easter);
    let want = "N-2026-08-24 2026-07-31T16:00:00Z 2026-08-24T06:00:00Z 2026-08-24T05:00:00Z";
    assert_eq!(show(&night_at(&long, "2026-08-12T00:00:00Z")), want);
    assert_eq!(
        long.by_id("N-2026-08-24").as_ref().map(show).as_deref(),
        Some(want)
    );
    assert_eq!(show(&long.next_seal(t("2026-07-31T15:00:00Z"))), want);
}

#[test]
fn a_lunch_break_is_a_night_of_its_own_and_the_second_of_a_date_gets_a_letter() {
    let mut lunch = calendar("UTC");
    lunch.weekdays[2] = vec![(480, 720), (780, 1080)];
    let nights = nights(&lunch);
    // Sealed half way, since an hour before the end is its start.
    let want = "N-2026-09-30b 2026-09-30T12:00:00Z 2026-09-30T13:00:00Z 2026-09-30T12:30:00Z";
    assert_eq!(show(&night_at(&nights, "2026-09-30T12:10:00Z")), want);
    assert_eq!(night_at(&nights, "2026-09-30T07:00:00Z").id, "N-2026-09-30");
    assert_eq!(
        nights.by_id("N-2026-09-30b").as_ref().map(show).as_deref(),
        Some(want)
    );
    assert_eq!(nights.by_id("N-2026-09-30c"), None);
}

#[test]
fn hours_that_cross_midnight_belong_to_the_day_they_begin_on() {
    let mut late = every_day("UTC", &[(22 * 60, 30 * 60)]);
    late.holidays = vec![date(2026, 10, 7)];
    let nights = nights(&late);
    // The shift of the 6th runs into the holiday; the one that would begin on it does not.
    assert_eq!(
        show(&night_at(&nights, "2026-10-07T23:00:00Z")),
        "N-2026-10-08 2026-10-07T06:00:00Z 2026-10-08T22:00:00Z 2026-10-08T21:00:00Z"
    );
}

#[test]
fn spans_that_touch_or_overlap_are_one() {
    let nights = nights(&every_day("UTC", &[(600, 720), (480, 600), (700, 1080)]));
    let (start, end) = (t("2026-10-07T08:00:00Z"), t("2026-10-07T18:00:00Z"));
    assert_eq!(
        nights.at(t("2026-10-07T10:00:00Z")),
        Span::Working { start, end }
    );
}

#[test]
fn a_site_that_never_closes_has_shift_ends() {
    let shifts = [(360, 840), (840, 1320), (1320, 1800)];
    let mut calendar = every_day("Europe/Berlin", &shifts);
    calendar.holidays = vec![date(2026, 12, 25)];
    let nights = nights(&calendar);
    let list: Vec<String> = nights
        .sealed_between(t("2026-12-25T00:00:00Z"), t("2026-12-26T00:00:00Z"))
        .iter()
        .map(show)
        .collect();
    assert_eq!(
        list,
        [
            "N-2026-12-25 2026-12-24T21:00:00Z 2026-12-25T05:00:00Z 2026-12-25T04:00:00Z",
            "N-2026-12-25b 2026-12-25T05:00:00Z 2026-12-25T13:00:00Z 2026-12-25T12:00:00Z",
            "N-2026-12-25c 2026-12-25T13:00:00Z 2026-12-25T21:00:00Z 2026-12-25T20:00:00Z",
        ]
    );
    assert!(
        nights.attended(t("2026-12-25T03:00:00Z")),
        "somebody is always there"
    );
    let whole_days = super::Nights::new(&every_day("UTC", &[(0, 1440)])).unwrap();
    let night = night_at(&whole_days, "2026-10-07T12:00:00Z");
    assert_eq!(
        (night.start, night.end),
        (t("2026-10-07T00:00:00Z"), t("2026-10-08T00:00:00Z"))
    );
}

#[test]
fn a_site_that_never_opens_is_cut_every_morning() {
    let nights = nights(&every_day("America/New_York", &[]));
    let night = night_at(&nights, "2026-07-07T12:30:00Z");
    assert_eq!(
        show(&night),
        "N-2026-07-08 2026-07-07T12:00:00Z 2026-07-08T12:00:00Z 2026-07-08T11:00:00Z"
    );
    assert!(!nights.attended(night.start));
}

#[test]
fn a_clock_change_makes_the_night_an_hour_longer_or_shorter() {
    let nights = nights(&every_day("Europe/Berlin", &[(480, 1080)]));
    for (at, hours) in [("2026-03-29T00:00:00Z", 13), ("2026-10-25T00:00:00Z", 15)] {
        let night = night_at(&nights, at);
        assert_eq!(
            night.end.duration_since(night.start),
            SignedDuration::from_hours(hours),
            "{at}"
        );
    }
}

#[test]
fn boundaries_in_a_fold_or_gap_leave_the_night_the_longer_reading() {
    // 2026-10-25 03:00 CEST -> 02:00 CET at 01:00Z; 2026-03-29 02:00 CET -> 03:00 CEST at 01:00Z.
    for (spans, at, want) in [
        // Closes at 02:30, which comes twice: at the first. Opens at 02:30: at the second.
        (
            (600, 1590),
            "2026-10-25T00:30:00Z",
            ("2026-10-25T00:30:00Z", "2026-10-25T09:00:00Z"),
        ),
        (
            (150, 1080),
            "2026-10-25T01:29:59Z",
            ("2026-10-24T16:00:00Z", "2026-10-25T01:30:00Z"),
        ),
        // 02:30 never comes: closes at 01:30 CET, opens at 03:30 CEST.
        (
            (600, 1590),
            "2026-03-29T00:30:00Z",
            ("2026-03-29T00:30:00Z", "2026-03-29T08:00:00Z"),
        ),
        (
            (150, 1080),
            "2026-03-29T01:29:59Z",
            ("2026-03-28T17:00:00Z", "2026-03-29T01:30:00Z"),
        ),
    ] {
        let night = night_at(&nights(&every_day("Europe/Berlin", &[spans])), at);
        assert_eq!(
            (night.start, night.end),
            (t(want.0), t(want.1)),
            "{spans:?} {at}"
        );
    }
    // Hours that the gap swallows are none; a boundary inside open hours tears nothing apart.
    let swallowed = nights(&every_day("Europe/Berlin", &[(120, 180), (480, 1080)]));
    let night = night_at(&swallowed, "2026-03-29T00:30:00Z");
    assert_eq!(
        (night.start, night.end),
        (t("2026-03-28T17:00:00Z"), t("2026-03-29T06:00:00Z"))
    );
    assert_eq!(night.id, "N-2026-03-29");
    let whole = nights(&every_day("Europe/Berlin", &[(60, 150), (150, 1080)]));
    let (start, end) = (t("2026-10-24T23:00:00Z"), t("2026-10-25T17:00:00Z"));
    assert_eq!(
        whole.at(t("2026-10-25T01:00:00Z")),
        Span::Working { start, end }
    );
}

#[test]
fn last_is_the_night_under_way_or_the_one_that_ended() {
    let nights = nights(&calendar("UTC"));
    for (at, want) in [
        ("2026-10-05T08:00:00Z", "N-2026-10-05"),
        ("2026-10-05T17:59:59Z", "N-2026-10-05"),
        ("2026-10-05T18:00:00Z", "N-2026-10-06"),
    ] {
        assert_eq!(nights.last(t(at)).id, want, "{at}");
    }
}

#[test]
fn a_night_is_sealed_at_its_hour_once() {
    let nights = nights(&calendar("UTC"));
    assert_eq!(
        nights.next_seal(t("2026-10-05T06:59:59Z")).id,
        "N-2026-10-05"
    );
    assert_eq!(
        nights.next_seal(t("2026-10-05T07:00:00Z")).id,
        "N-2026-10-06"
    );
    let ids = |from: &str, to: &str| -> Vec<String> {
        nights
            .sealed_between(t(from), t(to))
            .into_iter()
            .map(|night| night.id)
            .collect()
    };
    assert_eq!(
        ids("2026-10-05T06:59:59Z", "2026-10-05T07:00:00Z"),
        ["N-2026-10-05"]
    );
    assert!(ids("2026-10-05T07:00:00Z", "2026-10-06T06:59:59Z").is_empty());
    assert!(ids("2026-10-06T07:00:00Z", "2020-01-01T00:00:00Z").is_empty());
    assert_eq!(
        ids("2000-01-01T00:00:00Z", "2026-01-01T00:00:00Z").len(),
        NIGHTS_LISTED_MAX
    );
}

#[test]
fn the_ends_of_time_are_answered() {
    let nights = nights(&calendar("Pacific/Apia"));
    for at in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let night = nights.last(at);
        assert!(
            night.start < night.seal_at && night.seal_at < night.end,
            "{night:?}"
        );
        assert!(nights.next_seal(at).start < nights.next_seal(at).end);
        assert_eq!(nights.sealed_between(at, at), []);
    }
    for id in [
        "",
        "N-",
        "N-2026-13-01",
        "N-9999-12-31",
        "N--009999-01-01",
        "2026-10-05",
        "N-2026-10-05zz",
    ] {
        assert_eq!(nights.by_id(id), None, "{id}");
    }
}

#[test]
fn mistakes_are_told_all_at_once() {
    let mut bad = calendar("Europe/Berln");
    bad.weekdays[0] = vec![(600, 600), (1440, 1500), (0, 1441)];
    bad.weekdays[1] = (0..13).map(|n| (n * 60, n * 60 + 30)).collect();
    let error = Nights::new(&bad).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.mistakes.len(), 5, "{text}");
    assert!(text.contains("did you mean Europe/Berlin?"), "{text}");
    assert!(
        text.contains("Mon: working hours from minute 600 to 600"),
        "{text}"
    );
    let mut closed = calendar("UTC");
    closed.holidays = (0..420)
        .map(|n| date(2026, 1, 1).saturating_add(jiff::Span::new().days(n)))
        .collect();
    let text = Nights::new(&closed).unwrap_err().to_string();
    assert!(text.contains("over 400 days from 2026-01-01"), "{text}");
    closed.holidays.truncate(380);
    assert!(Nights::new(&closed).is_ok());
}

#[test]
fn near_names_of_zones() {
    for (wanted, want) in [
        ("berlin", "Europe/Berlin"),
        ("Europe/Pariss", "Europe/Paris"),
        ("america/new_yrok", "America/New_York"),
    ] {
        assert_eq!(
            near_zones(wanted).first().map(String::as_str),
            Some(want),
            "{wanted}"
        );
    }
    assert!(near_zones("Nowhere/At_All").is_empty());
    assert!(zone("Nowhere/At_All").is_none());
    assert!(tzdb().starts_with("20"), "{}", tzdb());
}

#[test]
fn hours_in_words() {
    let mut odd = calendar("UTC");
    for (weekdays, want) in [
        (odd.weekdays.clone(), "Mon-Fri 08:00-18:00"),
        (std::array::from_fn(|_| Vec::new()), "no working hours"),
        (
            std::array::from_fn(|_| vec![(0, 1440)]),
            "Mon-Sun 00:00-24:00",
        ),
        (
            [
                vec![(480, 720), (780, 1020)],
                vec![],
                vec![(1320, 1800)],
                vec![],
                vec![],
                vec![],
                vec![],
            ],
            "Mon 08:00-12:00 and 13:00-17:00, Wed 22:00-06:00",
        ),
    ] {
        odd.weekdays = weekdays;
        assert_eq!(hours(&odd), want);
    }
}

/// Minutes since 1970 as the clock on the wall reads.
fn wall(zone: &TimeZone, minute: i64) -> i64 {
    let civil = zone.to_datetime(Timestamp::from_second(minute * 60).unwrap());
    let days = civil.date().duration_since(date(1970, 1, 1)).as_hours() / 24;
    days * 1440 + i64::from(civil.hour()) * 60 + i64::from(civil.minute())
}

/// Whether each minute on the wall is open, by the letter of the calendar.
fn open(calendar: &Calendar, from: i64, to: i64) -> Vec<bool> {
    let mut open = vec![false; usize::try_from(to - from).unwrap()];
    for day in from.div_euclid(1440) - 1..=to.div_euclid(1440) {
        let date = date(1970, 1, 1).saturating_add(jiff::Span::new().days(day));
        if calendar.holidays.contains(&date) {
            continue;
        }
        // 1 January 1970 was a Thursday.
        for span in &calendar.weekdays[usize::try_from((day + 3).rem_euclid(7)).unwrap()] {
            for minute in span.0..span.1 {
                let index = usize::try_from(day * 1440 + i64::from(minute) - from);
                if let Some(minute) = index.ok().and_then(|index| open.get_mut(index)) {
                    *minute = true;
                }
            }
        }
    }
    open
}

/// The minutes at which the wall clock reads `wanted`, first and last; in a gap, where it would have by the clock of
/// before and of after. Found by looking at every minute nearby.
fn readings(walls: &[i64], wanted: i64) -> (usize, usize) {
    let near = usize::try_from((wanted - walls[0]).max(0)).unwrap();
    let nearby = near.saturating_sub(300)..(near + 300).min(walls.len());
    let hits: Vec<usize> = nearby.clone().filter(|i| walls[*i] == wanted).collect();
    if let (Some(first), Some(last)) = (hits.first(), hits.last()) {
        return (*first, *last);
    }
    let mut nearby = nearby;
    let jump = nearby
        .find(|i| *i > 0 && walls[*i - 1] < wanted && wanted < walls[*i])
        .unwrap();
    let by_before = jump - 1 + usize::try_from(wanted - walls[jump - 1]).unwrap();
    let by_after = jump - usize::try_from(walls[jump] - wanted).unwrap();
    (by_before.min(by_after), by_before.max(by_after))
}

/// Working spans within a window, by looking at every minute of it.
fn oracle(calendar: &Calendar, first_minute: i64, walls: &[i64]) -> Vec<(i64, i64)> {
    let (from, to) = (*walls.first().unwrap(), *walls.last().unwrap());
    let index = |i: usize| first_minute + i64::try_from(i).unwrap();
    let mut spans = Vec::new();
    let mut opened = None;
    for (wall, pair) in (from + 1..to).zip(open(calendar, from, to).windows(2)) {
        match (pair[0], pair[1]) {
            (false, true) => opened = Some(index(readings(walls, wall).1)),
            (true, false) => {
                let closes = index(readings(walls, wall).0);
                let opens = opened.take().filter(|opens| *opens < closes);
                spans.extend(opens.map(|opens| (opens, closes)));
            }
            (true, true) | (false, false) => {}
        }
    }
    spans
}

fn check_window(
    calendar: &Calendar,
    nights: &Nights,
    around: i64,
    walls: &[i64],
    first_minute: i64,
) {
    // Two days on either side: the margins of the window may cut spans.
    let (from, to) = (around - 2 * 1440, around + 2 * 1440);
    let inside = |span: &(i64, i64)| from <= span.0 && span.1 <= to;
    let want: Vec<(i64, i64)> = oracle(calendar, first_minute, walls)
        .into_iter()
        .filter(inside)
        .collect();
    let mut got = Vec::new();
    let mut at = Timestamp::from_second((from - 1440) * 60).unwrap();
    while at.as_second() / 60 <= to {
        let span = nights.at(at);
        assert!(span.contains(at), "{at} {span:?}");
        if let Span::Working { start, end } = span {
            got.push((start.as_second() / 60, end.as_second() / 60));
        }
        at = span.end();
    }
    got.retain(inside);
    assert_eq!(got, want, "{} {:?}", calendar.zone, calendar.weekdays[6]);
}

fn check_zone(name: &str, all_years: bool) -> usize {
    let mut holiday = every_day(name, &[(480, 1080)]);
    holiday.holidays = (2020..=2035)
        .flat_map(|y| [date(y, 3, 29), date(y, 10, 25), date(y, 4, 6)])
        .collect();
    let calendars = [
        every_day(name, &[(480, 1080)]),
        every_day(name, &[(150, 600)]),
        every_day(name, &[(90, 135), (180, 1410)]),
        every_day(name, &[(1320, 1590)]),
        every_day(name, &[(15, 30), (30, 60), (130, 160), (1439, 1442)]),
        holiday,
        calendar(name),
    ];
    let all: Vec<Nights> = calendars.iter().map(nights).collect();
    let zone = zone(name).unwrap();
    let mut moments: Vec<i64> = zone
        .following(t("2020-01-01T00:00:00Z"))
        .map(|change| change.timestamp())
        .take_while(|at| *at < t("2036-01-01T00:00:00Z"))
        // The rules of 2027 go on as they are.
        .filter(|at| {
            all_years || *at < t("2027-01-01T00:00:00Z") || t("2035-01-01T00:00:00Z") < *at
        })
        .map(|at| at.as_second() / 60)
        .collect();
    moments.push(t("2028-02-29T12:00:00Z").as_second() / 60);
    for around in &moments {
        let first_minute = around - 4 * 1440;
        let walls: Vec<i64> = (0..8 * 1440)
            .map(|minute| wall(&zone, first_minute + minute))
            .collect();
        for (calendar, nights) in calendars.iter().zip(&all) {
            check_window(calendar, nights, *around, &walls, first_minute);
        }
    }
    moments.len()
}

#[test]
fn agrees_with_a_look_at_every_minute_around_clock_changes() {
    let all = std::env::var_os("DAWNWATCH_ALL_ZONES").is_some();
    let db = TimeZoneDatabase::bundled();
    let names: Vec<String> = if all {
        db.available()
            .map(|name| name.as_str().to_owned())
            .collect()
    } else {
        ZONES.map(str::to_owned).into()
    };
    let windows: usize = names.iter().map(|name| check_zone(name, all)).sum();
    assert!(windows > 300, "only {windows} clock changes were tried");
}

fn any_calendar() -> impl Strategy<Value = Calendar> {
    let span = (0_u16..1440, 1_u16..=1440).prop_map(|(from, length)| (from, from + length));
    let day = proptest::collection::vec(span, 0..3);
    let week = proptest::array::uniform7(day);
    let holidays = proptest::collection::btree_set(0_i64..5844, 0..300);
    (0..ZONES.len(), week, holidays, 0_u16..3000).prop_map(|(zone, weekdays, holidays, seal)| {
        Calendar {
            zone: ZONES[zone].to_owned(),
            confirmed: true,
            weekdays,
            holidays: holidays
                .into_iter()
                .map(|day| date(2020, 1, 1).saturating_add(jiff::Span::new().days(day)))
                .collect(),
            seal_before_minutes: seal,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn spans_tile_time_and_every_night_is_sealed_once(
        calendar in any_calendar(),
        day in 0_i64..5800,
        splits in proptest::collection::vec(0_i64..60 * 24, 0..6),
    ) {
        let nights = nights(&calendar);
        let from = t("2020-01-02T00:00:00Z") + SignedDuration::from_hours(day * 24);
        let to = from + SignedDuration::from_hours(60 * 24);
        let mut walked = Vec::new();
        let mut at = from;
        let mut was_night = false;
        while at < to {
            let span = nights.at(at);
            prop_assert!(span.contains(at), "{at} is not in {span:?}");
            let last = nights.at(span.end() - SignedDuration::from_nanos(1));
            prop_assert_eq!(&last, &span, "the same answer at both ends");
            match &span {
                Span::Night(night) => {
                    prop_assert!(night.start < night.seal_at && night.seal_at <= night.end);
                    let named = nights.by_id(&night.id);
                    prop_assert_eq!(named.as_ref(), Some(night));
                    prop_assert_eq!(&nights.last(at), night);
                    walked.push(night.clone());
                    was_night = true;
                }
                Span::Working { start, .. } => {
                    prop_assert!(was_night || *start <= from, "two working spans in a row");
                    was_night = false;
                }
            }
            at = span.end();
        }
        let due = |night: &Night| from < night.seal_at && night.seal_at <= to;
        let mut want: Vec<Night> = walked.into_iter().filter(due).collect();
        // The span under way at the end may be a night that is sealed before it ends.
        want.dedup_by(|a, b| a.id == b.id);
        let mut stops: Vec<Timestamp> =
            splits.into_iter().map(|hours| from + SignedDuration::from_hours(hours)).collect();
        stops.extend([from, to]);
        stops.sort();
        let mut got: Vec<Night> = Vec::new();
        for pair in stops.windows(2) {
            got.extend(nights.sealed_between(pair[0], pair[1]));
        }
        prop_assert_eq!(got, want);
    }
}
