//! What a crash, a kill or a fault at any moment leaves of an entity.

use std::fmt;

use locus_core::Outcome;
use locus_testkit::Fault;
use locus_vault::{Expect, Result, Vault, VaultError};
use rstest::rstest;

use crate::rig::{Rig, id};

/// A change of `db/key`, of which the content is told before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Create,
    Replace,
    Update,
    Delete,
    CreateAgain,
    /// Of several segments.
    Large,
}

type Content = Option<Vec<u8>>;

impl Change {
    fn before(self) -> Content {
        match self {
            Change::Create | Change::CreateAgain => None,
            _ => Some(b"1".to_vec()),
        }
    }

    fn after(self) -> Content {
        match self {
            Change::Delete => None,
            Change::Large => Some(vec![b' '; 200_000]),
            _ => Some(b"2".to_vec()),
        }
    }

    /// How often the entity was written before.
    fn number_before(self) -> u64 {
        match self {
            Change::Create => 0,
            Change::CreateAgain => 2,
            _ => 1,
        }
    }

    fn prepare(self, rig: &Rig) -> Vault {
        let (vault, id) = (rig.open().unwrap(), id("db/key"));
        if self != Change::Create {
            rig.run(vault.put(&id, &1, Expect::Absent)).unwrap();
        }
        if self == Change::CreateAgain {
            rig.run(vault.delete(&id, Expect::Any)).unwrap();
        }
        vault
    }

    fn make(self, rig: &Rig, vault: &Vault) -> Result<u64> {
        let id = id("db/key");
        let version = match self {
            Change::Update => rig.run(vault.update(&id, |value| {
                *value = 2.into();
                Ok(())
            })),
            Change::Delete => rig.run(vault.delete(&id, Expect::Any)),
            Change::Large => rig.run(vault.put_bytes(&id, vec![b' '; 200_000], Expect::Any)),
            _ => rig.run(vault.put(&id, &2, Expect::Any)),
        };
        version.map(|version| version.number)
    }
}

fn content(rig: &Rig, vault: &Vault) -> Content {
    match rig.run(vault.get(&id("db/key"))) {
        Err(VaultError::FileNotFound { .. }) => None,
        entity => Some(entity.unwrap().bytes().to_vec()),
    }
}

/// Whether the vault works, and goes on with its versions.
fn goes_on(rig: &Rig, vault: &Vault, numbers: [u64; 2], at: &dyn fmt::Display) {
    let id = id("db/key");
    let report = rig.run(vault.verify()).unwrap();
    assert!(report.damaged.is_empty(), "{at}: {report:?}");
    let number = rig.run(vault.put(&id, &3, Expect::Any)).unwrap().number;
    assert!(numbers.contains(&(number - 1)), "{at}: version {number}");
    assert_eq!(content(rig, vault), Some(b"3".to_vec()), "{at}");
    let swept = rig.run(vault.sweep()).unwrap();
    assert!(swept.failed.is_empty(), "{at}: {swept:?}");
    let drafts =
        rig.files().into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "new"));
    assert_eq!(drafts.count(), 0, "{at}");
    assert_eq!(rig.run(vault.sweep()).unwrap().drafts, 0, "{at}");
}

#[rstest]
fn a_crash_at_any_moment_leaves_the_old_version_or_the_new(
    #[values(
        Change::Create,
        Change::Replace,
        Change::Update,
        Change::Delete,
        Change::CreateAgain,
        Change::Large
    )]
    change: Change,
    #[values(false, true)] power_goes: bool,
) {
    let (mut old, mut new) = (0, 0);
    for seed in 0..4 {
        for op in 1.. {
            let rig = Rig::new(seed);
            let vault = change.prepare(&rig);
            rig.disk.crash_at(rig.disk.ops() + op);
            let told = change.make(&rig, &vault);
            let went_down = rig.disk.is_down();
            if power_goes {
                rig.disk.crash();
            } else {
                rig.disk.kill();
            }
            let at = format!("seed {seed}, operation {op}");

            let vault = rig.open().unwrap_or_else(|error| panic!("{at}: {error}"));
            let found = content(&rig, &vault);
            let is_new = found == change.after();
            assert!(is_new || found == change.before(), "{at}");
            let numbers = [change.number_before(), change.number_before() + 1];
            match told {
                Ok(number) => {
                    assert!(is_new, "{at}: told, and lost");
                    assert_eq!(number, numbers[1], "{at}");
                }
                Err(_) => assert!(went_down, "{at}"),
            }
            old += usize::from(!is_new);
            new += usize::from(is_new);
            goes_on(&rig, &vault, if is_new { [numbers[1]; 2] } else { [numbers[0]; 2] }, &at);
            if !went_down {
                break;
            }
        }
    }
    assert!(old > 0 && new > 4, "{old} old, {new} new");
}

#[rstest]
fn a_fault_at_any_moment_leaves_what_the_error_says(
    #[values(
        Change::Create,
        Change::Replace,
        Change::Update,
        Change::Delete,
        Change::CreateAgain,
        Change::Large
    )]
    change: Change,
    #[values(5, 28)] errno: i32,
) {
    let (mut not_done, mut unknown) = (0, 0);
    for op in 1.. {
        let rig = Rig::new(op);
        let vault = change.prepare(&rig);
        let fault = rig.disk.fail(Fault::os(errno).from_op(rig.disk.ops() + op));
        let told = change.make(&rig, &vault);
        let was_hit = rig.disk.hits(fault) > 0;
        rig.disk.heal_all();
        let (found, at) = (content(&rig, &vault), format!("operation {op}"));
        let mut numbers = [change.number_before(), change.number_before() + 1];
        match &told {
            Ok(_) => {
                assert_eq!(found, change.after(), "{at}");
                numbers[0] = numbers[1];
            }
            Err(error) if error.outcome() == Outcome::NotDone => {
                assert!(was_hit, "{at}: {error}");
                assert_eq!(found, change.before(), "{at}: {error}");
                numbers[1] = numbers[0];
                not_done += 1;
            }
            Err(_) => {
                assert_eq!(found, change.after(), "{at}");
                numbers[0] = numbers[1];
                unknown += 1;
            }
        }
        goes_on(&rig, &vault, numbers, &at);
        // What was told is there after a power cut, too.
        rig.disk.crash();
        assert_eq!(content(&rig, &rig.open().unwrap()), Some(b"3".to_vec()), "{at}");
        if !was_hit {
            break;
        }
    }
    assert!(not_done > 3 && unknown == 1, "{not_done} not done, {unknown} unknown");
}

#[test]
fn a_crash_while_a_vault_is_made_leaves_a_directory_that_can_be_opened() {
    for seed in 0..8 {
        for op in 1.. {
            let rig = Rig::new(seed);
            rig.disk.crash_at(op);
            let made = rig.open();
            let went_down = rig.disk.is_down();
            assert!(made.is_err() == went_down, "seed {seed}, operation {op}");
            if op % 2 == 0 {
                rig.disk.crash();
            } else {
                rig.disk.kill();
            }
            let vault = rig.open().unwrap_or_else(|error| panic!("seed {seed}, operation {op}: {error}"));
            rig.run(vault.put(&id("db/key"), &1, Expect::Absent)).unwrap();
            if !went_down {
                break;
            }
        }
    }
}
