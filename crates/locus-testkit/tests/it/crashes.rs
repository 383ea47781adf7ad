//! What a power cut and a kill leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::Path,
};

use locus_fs::{Disk, DiskFile};
use locus_testkit::{SeededEntropy, SimDisk};

const ROOT: &str = "/";

fn at(path: &str) -> &Path {
    Path::new(path)
}

fn put(disk: &dyn Disk, path: &str, bytes: &[u8]) {
    let file = disk.create_new(at(path)).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
}

fn put_durably(disk: &dyn Disk, path: &str, bytes: &[u8]) {
    put(disk, path, bytes);
    disk.sync_dir(at(path).parent().unwrap()).unwrap();
}

fn content(disk: &dyn Disk, path: &str) -> Option<Vec<u8>> {
    match disk.open(at(path), false) {
        Ok(file) => Some(read(&*file)),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{path}");
            None
        }
    }
}

fn read(file: &dyn DiskFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn names(disk: &dyn Disk, dir: &str) -> BTreeSet<String> {
    disk.read_dir(at(dir)).unwrap().map(|entry| entry.unwrap().name.into_string().unwrap()).collect()
}

/// How often each outcome comes of a crash after `act`, over many seeds.
fn outcomes<T: Ord>(act: impl Fn(&SimDisk), see: impl Fn(&SimDisk) -> T) -> BTreeMap<T, u32> {
    let mut outcomes = BTreeMap::new();
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        act(&disk);
        disk.crash();
        *outcomes.entry(see(&disk)).or_default() += 1;
    }
    outcomes
}

#[test]
fn an_unsynced_name_is_lost_in_some_seed_and_kept_in_another() {
    let seen = outcomes(|disk| put(disk, "/a", b"x"), |disk| content(disk, "/a"));
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), [None, Some(b"x".to_vec())]);
}

#[test]
fn a_file_in_a_directory_whose_name_was_not_synced_is_lost_in_some_seed() {
    let seen = outcomes(
        |disk| {
            disk.create_dir(at("/d")).unwrap();
            put_durably(disk, "/d/a", b"x");
        },
        |disk| content(disk, "/d/a").is_some(),
    );
    assert!(seen.len() == 2, "{seen:?}");
}

#[test]
fn an_unsynced_write_is_lost_kept_torn_or_zeroed() {
    let seen = outcomes(
        |disk| {
            put_durably(disk, "/a", &[1; 512]);
            disk.open(at("/a"), true).unwrap().write_at(&[2; 512], 0).unwrap();
        },
        |disk| {
            let bytes = content(disk, "/a").unwrap();
            assert_eq!(bytes.len(), 512);
            bytes.into_iter().collect::<BTreeSet<u8>>()
        },
    );
    let whole = [[0], [1], [2]].map(BTreeSet::from);
    assert!(whole.iter().all(|bytes| seen.contains_key(bytes)), "zeroed, lost, kept: {seen:?}");
    assert!(seen.contains_key(&BTreeSet::from([1, 2])), "torn: {seen:?}");
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_file_may_come_back_with_its_length_and_without_its_bytes() {
    let seen = outcomes(
        |disk| {
            let file = disk.create_new(at("/a")).unwrap();
            disk.sync_dir(at(ROOT)).unwrap();
            file.write_at(&[3; 1024], 0).unwrap();
        },
        |disk| content(disk, "/a").unwrap(),
    );
    assert!(
        seen.contains_key(&vec![]) && seen.contains_key(&vec![0; 1024]) && seen.contains_key(&vec![3; 1024])
    );
    let mut half = vec![0; 512];
    half.extend([3; 512]);
    assert!(seen.contains_key(&half), "the second sector without the first");
}

#[test]
fn a_length_that_was_set_and_not_synced_may_be_undone() {
    for len in [0, 2_000] {
        let seen = outcomes(
            |disk| {
                put_durably(disk, "/a", &[1; 1_000]);
                disk.open(at("/a"), true).unwrap().set_len(len).unwrap();
            },
            |disk| disk.metadata(at("/a")).unwrap().len,
        );
        assert_eq!(seen.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from([1_000, len]));
    }
}

#[test]
fn what_was_synced_is_never_lost() {
    for seed in 0..1_000 {
        let disk = SimDisk::new(seed);
        let entropy = SeededEntropy::new(seed);
        disk.create_dir(at("/d")).unwrap();
        disk.sync_dir(at(ROOT)).unwrap();
        let mut durable: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for round in 0..3 {
            for number in 0..3 {
                let path = format!("/d/{round}-{number}");
                let bytes = vec![number + 1; 1 + usize::try_from(entropy.below(3_000)).unwrap()];
                put(&*disk, &path, &bytes);
                durable.insert(path, bytes);
            }
            // Beside the synced bytes of a file there are others that are not.
            disk.sync_dir(at("/d")).unwrap();
            for (path, bytes) in &durable {
                let file = disk.open(at(path), true).unwrap();
                file.write_at(&[9; 700], bytes.len() as u64 + entropy.below(2_000)).unwrap();
            }
            put(&*disk, &format!("/d/unsynced-{round}"), b"?");
            disk.crash();
            for (path, bytes) in &durable {
                let seen = content(&*disk, path).unwrap_or_else(|| panic!("seed {seed}: {path} is lost"));
                assert_eq!(seen[..bytes.len()], bytes[..], "seed {seed}: {path}");
            }
        }
    }
}

#[test]
fn a_removal_that_was_not_synced_may_be_undone_and_a_synced_one_is_not() {
    let act = |disk: &SimDisk| {
        put_durably(disk, "/a", b"x");
        disk.remove_file(at("/a")).unwrap();
    };
    let seen = outcomes(act, |disk| content(disk, "/a"));
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), [None, Some(b"x".to_vec())]);
    let seen = outcomes(
        |disk| {
            act(disk);
            disk.sync_dir(at(ROOT)).unwrap();
        },
        |disk| content(disk, "/a"),
    );
    assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), [None]);
}

#[test]
fn a_file_durable_under_its_old_name_survives_an_unsynced_rename_under_one_of_them() {
    let seen = outcomes(
        |disk| {
            put_durably(disk, "/a", b"a");
            put_durably(disk, "/b", b"b");
            disk.rename(at("/a"), at("/b")).unwrap();
        },
        |disk| (content(disk, "/a"), content(disk, "/b").unwrap()),
    );
    let (a, b) = (b"a".to_vec(), b"b".to_vec());
    let expected = [(None, a.clone()), (Some(a.clone()), a.clone()), (Some(a), b)];
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), expected, "renamed, both names, not renamed");
}

#[test]
fn without_twin_names_a_rename_is_done_or_not() {
    let seen = outcomes(
        |disk| {
            disk.set_twin_names(false);
            disk.create_dir(at("/d")).unwrap();
            put_durably(disk, "/a", b"a");
            disk.rename(at("/a"), at("/d/b")).unwrap();
            disk.rename(at("/d/b"), at("/c")).unwrap();
        },
        |disk| ["/a", "/d/b", "/c"].map(|path| content(disk, path).is_some()),
    );
    let expected = [[false, false, true], [false, true, false], [true, false, false]];
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), expected, "under exactly one name");
}

#[test]
fn a_rename_between_directories_is_durable_when_both_are_synced_in_either_order() {
    for order in [["/from", "/to"], ["/to", "/from"]] {
        for synced in 0..=2 {
            let seen = outcomes(
                |disk| {
                    disk.create_dir(at("/from")).unwrap();
                    disk.create_dir(at("/to")).unwrap();
                    disk.sync_dir(at(ROOT)).unwrap();
                    put_durably(disk, "/from/a", b"a");
                    disk.rename(at("/from/a"), at("/to/a")).unwrap();
                    order.iter().take(synced).for_each(|dir| disk.sync_dir(at(dir)).unwrap());
                },
                |disk| ["/from/a", "/to/a"].map(|path| content(disk, path).is_some()),
            );
            let expected: &[[bool; 2]] = match (synced, order[0]) {
                (2, _) => &[[false, true]],
                (1, "/to") => &[[false, true], [true, true]],
                _ => &[[false, true], [true, false], [true, true]],
            };
            assert_eq!(seen.into_keys().collect::<Vec<_>>(), expected, "{synced} of {order:?}");
        }
    }
}

#[test]
fn a_file_is_never_lost_by_renames_and_a_removed_directory() {
    let seen = outcomes(
        |disk| {
            disk.create_dir(at("/old")).unwrap();
            disk.sync_dir(at(ROOT)).unwrap();
            put_durably(disk, "/old/a", b"a");
            disk.create_dir(at("/new")).unwrap();
            disk.rename(at("/old/a"), at("/new/a")).unwrap();
            disk.rename(at("/new/a"), at("/new/b")).unwrap();
            disk.remove_dir(at("/old")).unwrap();
            disk.rename(at("/new"), at("/newer")).unwrap();
        },
        |disk| {
            let kept = ["/old/a", "/new/a", "/new/b", "/newer/a", "/newer/b"].map(|path| {
                // The directory may be gone as well.
                disk.open(at(path), false).is_ok_and(|file| read(&*file) == b"a")
            });
            assert!(kept.contains(&true));
            assert!(!(disk.metadata(at("/new")).is_ok() && disk.metadata(at("/newer")).is_ok()));
            kept
        },
    );
    assert!(seen.len() > 4, "{seen:?}");
}

#[test]
fn no_sequence_of_renames_loses_a_durable_file() {
    for seed in 0..1_000 {
        let disk = SimDisk::new(seed);
        let entropy = SeededEntropy::new(seed ^ 0xabc);
        let dirs = ["", "/d", "/e", "/f"];
        for dir in &dirs[1..] {
            disk.create_dir(at(dir)).unwrap();
        }
        disk.sync_dir(at(ROOT)).unwrap();
        for file in 0..4 {
            put_durably(&*disk, &format!("/d/{file}"), &[file]);
        }
        let any = || format!("{}/{}", dirs[usize::try_from(entropy.below(4)).unwrap()], entropy.below(8));
        for _ in 0..30 {
            match entropy.below(6) {
                0 => disk.sync_dir(at(dirs[1 + usize::try_from(entropy.below(3)).unwrap()])).unwrap(),
                // A rename that would replace something is refused, so all four stay somewhere.
                _ => drop(disk.rename_new(at(&any()), at(&any()))),
            }
        }
        disk.crash();
        let mut seen = BTreeSet::new();
        for dir in dirs {
            for name in 0..8 {
                let path = format!("{dir}/{name}");
                if disk.metadata(at(&path)).is_ok() {
                    seen.extend(content(&*disk, &path).unwrap());
                }
            }
        }
        assert_eq!(seen, BTreeSet::from([0, 1, 2, 3]), "seed {seed}");
    }
}

#[test]
fn a_later_name_may_stay_while_an_earlier_one_is_lost() {
    let seen = outcomes(
        |disk| {
            put(disk, "/first", b"1");
            put(disk, "/second", b"2");
        },
        |disk| names(disk, ROOT).into_iter().collect::<Vec<_>>().join(" "),
    );
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), ["", "first", "first second", "second"]);
}

#[test]
fn a_kill_loses_nothing_and_ends_handles_and_locks() {
    let disk = SimDisk::new(1);
    let file = disk.create_new(at("/a")).unwrap();
    file.write_at(b"unsynced", 0).unwrap();
    let lock = disk.lock(at("/LOCK")).unwrap();
    let unlinked = disk.create_new(at("/gone")).unwrap();
    disk.remove_file(at("/gone")).unwrap();
    disk.kill();

    assert_eq!(content(&*disk, "/a").unwrap(), b"unsynced");
    for dead in [file.write_at(b"x", 0), file.sync_data(), lock.file().sync_data(), unlinked.set_len(9)] {
        let error = dead.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Other, "disk crashed".to_owned()));
    }
    let held = disk.lock(at("/LOCK")).unwrap();
    // The dead holder lets go of nothing that is another's.
    drop((lock, file, unlinked));
    assert_eq!(disk.lock(at("/LOCK")).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(held);
}

#[test]
fn after_a_kill_a_power_cut_still_takes_what_was_not_synced() {
    let seen = outcomes(
        |disk| {
            put(disk, "/a", b"x");
            disk.kill();
        },
        |disk| content(disk, "/a").is_some(),
    );
    assert!(seen.len() == 2, "{seen:?}");
}

#[test]
fn what_a_crash_left_is_durable() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        disk.create_new(at("/a")).unwrap().write_at(&[1; 5_000], 0).unwrap();
        disk.crash();
        let left = content(&*disk, "/a");
        disk.crash();
        assert_eq!(content(&*disk, "/a"), left, "seed {seed}");
    }
}

#[test]
fn a_crash_point_stops_everything_until_the_machine_is_back() {
    let work = |disk: &SimDisk| -> std::io::Result<()> {
        disk.create_dir(at("/d"))?;
        disk.sync_dir(at(ROOT))?;
        let file = disk.create_new(at("/d/a"))?;
        file.write_at(&[4; 2_048], 0)?;
        file.sync_data()?;
        disk.sync_dir(at("/d"))
    };
    let whole = SimDisk::new(0);
    work(&whole).unwrap();
    let ops = whole.ops();
    assert_eq!(ops, 6);
    let mut partial = BTreeSet::new();
    for seed in 0..50 {
        for op in 1..=ops {
            let disk = SimDisk::new(seed);
            disk.crash_at(op);
            assert_eq!(work(&disk).unwrap_err().kind(), ErrorKind::Other);
            assert!(disk.is_down());
            assert_eq!(disk.ops(), op);
            assert_eq!(disk.metadata(at(ROOT)).unwrap_err().to_string(), "disk crashed");
            assert_eq!(disk.ops(), op);
            disk.kill();
            assert!(!disk.is_down());
            if op == 4 {
                partial.insert(content(&*disk, "/d/a").unwrap().len());
            }
            assert!(disk.metadata(at("/d/a")).is_ok() || op <= 3, "a kill loses nothing");
        }
    }
    assert!(partial.contains(&0) && partial.contains(&512) && partial.contains(&2_048) && partial.len() > 4);
    whole.crash_at(ops + 100);
    whole.crash();
    for _ in 0..200 {
        whole.metadata(at(ROOT)).unwrap();
    }
}

#[test]
fn sync_all_makes_everything_below_a_directory_durable() {
    let seen = outcomes(
        |disk| {
            disk.create_dir(at("/d")).unwrap();
            disk.create_dir(at("/d/e")).unwrap();
            disk.sync_dir(at(ROOT)).unwrap();
            disk.create_new(at("/d/a")).unwrap().write_at(b"a", 0).unwrap();
            disk.create_new(at("/d/b")).unwrap().write_at(b"b", 0).unwrap();
            disk.rename(at("/d/b"), at("/d/e/b")).unwrap();
            disk.sync_all(at("/d")).unwrap();
        },
        |disk| ["/d/a", "/d/b", "/d/e/b"].map(|path| content(disk, path)),
    );
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), [[Some(b"a".to_vec()), None, Some(b"b".to_vec())]]);
}

#[test]
fn a_seed_repeats_its_run() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        for number in 0..20 {
            disk.create_new(at(&format!("/{number}"))).unwrap().write_at(&[7; 3_000], 0).unwrap();
        }
        disk.crash();
        let order: Vec<_> = disk.read_dir(at(ROOT)).unwrap().map(|entry| entry.unwrap().name).collect();
        let contents: Vec<_> =
            order.iter().map(|name| content(&*disk, &format!("/{}", name.to_str().unwrap()))).collect();
        (order, contents)
    };
    let runs: Vec<_> = (0..20).map(run).collect();
    assert_eq!((0..20).map(run).collect::<Vec<_>>(), runs);
    assert!(runs.iter().any(|other| *other != runs[0]));
    assert!(runs.iter().any(|(order, _)| !order.is_sorted()), "a directory lists in no order");
}
