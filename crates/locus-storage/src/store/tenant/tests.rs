use std::time::Duration;

use locus_core::{Checksum, Owner, Timestamp, VolumeId};

use super::*;

fn key(number: u8) -> FileKey {
    FileKey::generate(Timestamp::from_micros(0), &[number; 10])
}

fn accepted(number: u8, idempotency: Option<(u128, Remember)>) -> Change {
    Change::Accepted(Accepted {
        key: key(number),
        owner: None,
        directory: LogicalDir::root(),
        original_name: None,
        properties: Default::default(),
        size: 10,
        checksum: Checksum::of(b""),
        place: Resting::Volume { id: VolumeId::parse("vol").unwrap(), synced: true },
        idempotency,
    })
}

fn leased(number: u8) -> Change {
    Change::Leased {
        keys: vec![key(number)],
        deadline: StoreTime::from_micros(100),
        ttl_micros: 100,
        owner: Owner::Process,
        by: None,
    }
}

struct World {
    places: Places,
    state: TenantState,
    unknown_until: Lsn,
}

impl World {
    fn new() -> Self {
        let places = Places::default();
        places.set_available(&VolumeId::parse("vol").unwrap(), true);
        let state = TenantState::new(TenantId::parse("acme").unwrap(), true);
        Self { places, state, unknown_until: Lsn::ZERO }
    }

    /// Store time goes by a microsecond a record.
    fn apply(&mut self, lsn: u64, change: &Change) -> Result<()> {
        let scene = Scene {
            lsn: Lsn(lsn),
            stamp: Stamp { time: StoreTime::from_micros(lsn), ..Stamp::default() },
            epoch: Epoch::default(),
            places: &self.places,
            unknown_until: self.unknown_until,
            attachment: LogPlace::new(1, 0),
        };
        if let Change::Accepted(accepted) = change {
            self.places.take(Ceiling::NONE, Tally::one(accepted.size)).unwrap(); // as its reservation did
        }
        self.state.apply(&scene, 0, change)
    }
}

#[test]
fn b57_a_change_to_a_file_that_was_never_accepted_is_damage_but_not_while_a_checkpoint_was_written() {
    let mut world = World::new();
    world.unknown_until = Lsn(7);
    for change in [leased(1), Change::Deleted { key: key(1) }, Change::Reaped { keys: vec![key(1)] }] {
        assert!(world.apply(7, &change).is_ok(), "{change:?}");
        assert!(matches!(world.apply(8, &change), Err(Error::Corrupt { .. })), "{change:?}");
    }
    world.apply(9, &accepted(1, None)).unwrap();
    world.apply(10, &leased(1)).unwrap();
}

#[test]
fn b23_a_file_above_the_watermark_is_hidden_and_nothing_else_is() {
    let mut world = World::new();
    world.apply(5, &accepted(5, None)).unwrap();
    world.apply(6, &accepted(6, None)).unwrap();
    let seen = |watermark| {
        let watermark = Lsn(watermark);
        let front = world.state.front(&world.places, watermark).map(|at| world.state.entry(at).key);
        (front, world.state.hidden(&world.places, watermark))
    };
    assert_eq!(seen(3), (None, Some(Lsn(5))));
    assert_eq!(seen(4), (None, Some(Lsn(5))));
    assert_eq!(seen(5), (Some(key(5)), None), "who is served looks again");
}

#[test]
fn a_name_fades_a_day_after_its_record_went_and_only_so_many_at_once() {
    let mut world = World::new();
    for number in 1..=3 {
        let lsn = u64::from(number);
        world.apply(lsn, &accepted(number, Some((lsn.into(), Remember::Day)))).unwrap();
    }
    world.apply(4, &accepted(4, Some((4, Remember::UntilForgotten)))).unwrap();
    for number in 1..=4 {
        world.apply(10, &Change::Deleted { key: key(number) }).unwrap();
        world.apply(20 + u64::from(number), &Change::Reaped { keys: vec![key(number)] }).unwrap();
    }
    let mut fade = |now: u64, max| world.state.fade(StoreTime::from_micros(now), max, &world.places);
    let day = 86_400_000_000;
    assert_eq!(fade(day + 20, 9), 0);
    assert_eq!(fade(day + 21, 9), 1);
    assert_eq!(fade(day + 30, 1), 1);
    assert_eq!(fade(u64::MAX, 0), 0);
    assert_eq!(fade(u64::MAX, 9), 1);
    assert_eq!(fade(u64::MAX, 9), 0);
    assert!(world.state.remembered(4).is_some());
    world.apply(30, &Change::Forgotten { hash: 4 }).unwrap();
    assert!(world.state.remembered(4).is_none());
}

#[test]
fn a_name_that_was_used_again_is_neither_forgotten_by_an_older_record_nor_by_the_end_of_its_first_file() {
    let mut world = World::new();
    world.apply(1, &accepted(1, Some((7, Remember::UntilForgotten)))).unwrap();
    world.apply(2, &Change::Forgotten { hash: 7 }).unwrap();
    world.apply(3, &accepted(2, Some((7, Remember::Day)))).unwrap();
    world.apply(3, &Change::Forgotten { hash: 7 }).unwrap();
    world.apply(4, &Change::Deleted { key: key(1) }).unwrap();
    world.apply(5, &Change::Reaped { keys: vec![key(1)] }).unwrap();
    let known = Remembered { key: key(2), remember: Remember::Day, gone_at: None, last: Lsn(3) };
    assert_eq!(world.state.remembered(7), Some(&known));
}

#[test]
fn an_entry_says_when_it_is_due_or_since_when_it_is_what_it_is() {
    let mut world = World::new();
    let moment = |world: &World| world.state.get(&key(1)).unwrap().moment.as_micros();
    let failed = |available_at: Option<u64>| Change::Failed {
        key: key(1),
        error: String::new(),
        available_at: available_at.map(StoreTime::from_micros),
    };
    let reset = Change::Reset { key: key(1) };
    let given_up = Change::TimedOut { keys: vec![], given_up: vec![key(1)] };
    let steps = [
        (accepted(1, None), 0),
        (leased(1), 0),
        (failed(Some(500)), 500),
        (leased(1), 0),
        (failed(None), 14),
        (reset, 0),
        (leased(1), 0),
        (given_up, 17),
        (Change::Completed { keys: vec![key(1)] }, 18),
        (Change::Deleted { key: key(1) }, 0),
    ];
    for (lsn, (change, expected)) in (10..).zip(steps) {
        world.apply(lsn, &change).unwrap();
        assert_eq!(moment(&world), expected, "{change:?}");
    }
}

#[test]
fn what_ages_and_does_not_say_since_when_ages_from_the_opening_on() {
    let mut world = World::new();
    world.state.keep_completed(Duration::from_micros(10));
    for number in 1..=3 {
        world.apply(number.into(), &accepted(number, None)).unwrap();
        world.apply(10 + u64::from(number), &leased(number)).unwrap();
    }
    world.apply(20, &Change::Completed { keys: vec![key(1), key(2)] }).unwrap();
    let mut again = World::new();
    again.state = TenantState::new(TenantId::parse("acme").unwrap(), false);
    again.state.keep_completed(Duration::from_micros(10));
    for entry in world.state.entries() {
        let moment = if entry.key == key(1) { StoreTime::ZERO } else { entry.moment };
        again.state.restore(&LogicalDir::root(), Entry { moment, ..entry.clone() });
    }
    again.state.begin_live(&again.places, StoreTime::from_micros(25));
    let since = |number| again.state.get(&key(number)).unwrap().moment.as_micros();
    assert_eq!((since(1), since(2), since(3)), (25, 20, 0));
    assert_eq!(again.state.let_go(StoreTime::from_micros(34), 9), 1);
    assert_eq!(again.state.let_go(StoreTime::from_micros(35), 9), 1);
}

#[test]
fn no_more_are_let_go_than_was_asked_for() {
    let mut world = World::new();
    for number in 1..=3 {
        world.apply(number.into(), &accepted(number, None)).unwrap();
        world.apply(10 + u64::from(number), &leased(number)).unwrap();
    }
    world.state.keep_completed(Duration::from_micros(1));
    world.apply(20, &Change::Completed { keys: vec![key(1), key(2), key(3)] }).unwrap();
    let mut some = |max| world.state.let_go(StoreTime::from_micros(99), max);
    assert_eq!([some(0), some(2), some(2)], [0, 2, 1]);
}

#[test]
fn what_led_to_a_dead_letter_or_back_is_taken_as_given_where_it_is_lost() {
    let volume = || VolumeId::parse("vol").unwrap();
    let mut world = World::new();
    world.state = TenantState::new(TenantId::parse("acme").unwrap(), false);
    world.apply(1, &accepted(1, None)).unwrap();
    for (lsn, change, status, area) in [
        (
            2,
            Change::DeadLettered { key: key(1), volume: volume() },
            FileStatus::DeadLettered,
            Area::DeadLetters,
        ),
        (3, Change::Requeued { key: key(1), volume: volume() }, FileStatus::Pending, Area::Live),
        (4, Change::Requeued { key: key(1), volume: volume() }, FileStatus::Pending, Area::Live),
        (
            5,
            Change::DeadLettered { key: key(1), volume: volume() },
            FileStatus::DeadLettered,
            Area::DeadLetters,
        ),
        (6, Change::Deleted { key: key(1) }, FileStatus::Deleted, Area::DeadLetters),
    ] {
        world.state.bridge(Lsn(lsn), &change);
        world.apply(lsn, &change).unwrap();
        let entry = world.state.get(&key(1)).unwrap();
        assert_eq!((entry.status, entry.area), (status, area), "{change:?}");
    }
}
