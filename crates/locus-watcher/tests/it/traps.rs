//! Nothing in a watched folder is trusted.

#![cfg(unix)]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    process::{Command, Stdio},
};

use locus_watcher::SkipReason;

use crate::world::{World, scan};

fn fifo(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
}

#[tokio::test]
async fn b84_a_folder_full_of_traps_is_left_as_it_is_and_each_reason_told() {
    let world = World::new();
    let inbox = world.path("inbox");
    // Nobody ever writes to it: whoever opens it to read and waits, waits for ever.
    fifo(&inbox.join("00-first.fifo"));
    let _socket = UnixListener::bind(inbox.join("socket")).unwrap();
    fs::create_dir(world.path("outside")).unwrap();
    crate::world::put(&world.path("outside/secret"), "not yours");
    symlink(world.path("outside/secret"), inbox.join("link-to-file")).unwrap();
    symlink(world.path("outside"), inbox.join("link-to-dir")).unwrap();
    symlink("/dev/zero", inbox.join("link-to-device")).unwrap();
    symlink("nowhere", inbox.join("dangling")).unwrap();
    fs::create_dir(inbox.join("loop")).unwrap();
    symlink("..", inbox.join("loop/again")).unwrap();
    fs::hard_link(world.path("outside/secret"), inbox.join("hard-linked")).unwrap();
    fs::File::create(inbox.join("sparse")).unwrap().set_len(1 << 40).unwrap();
    let null = ["c", "1", "3"];
    let device = Command::new("mknod").arg(inbox.join("device")).args(null).stderr(Stdio::null()).status();
    let has_device = device.is_ok_and(|made| made.success()); // only root may
    let mut deep = inbox.clone();
    for _ in 0..40 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    crate::world::put(&deep.join("too-deep"), "x");

    let watchers = world.run(world.eager().size_max(1 << 20)).await;
    let report = scan(&watchers).await;
    let mut expected = BTreeMap::from([
        (SkipReason::Fifo, 1),
        (SkipReason::Socket, 1),
        (SkipReason::Link, 5),
        (SkipReason::HardLinked, 1),
        (SkipReason::TooLarge, 1),
        (SkipReason::TooDeep, 1),
    ]);
    if has_device {
        expected.insert(SkipReason::Device, 1);
    }
    assert_eq!(report.skipped, expected);
    assert_eq!((report.imported, report.failed), (0, 0));
    assert!(world.arrived().is_empty());
    assert_eq!(world.files("inbox").len(), 10 + usize::from(has_device));
}

#[tokio::test]
async fn b84_hostile_names_are_names_and_lead_nowhere() {
    let world = World::new();
    let names: [&[u8]; 7] =
        [b"-rf", b"a\nb", b"\xff\xfe", b"..x", b"CON", b"x\xe2\x80\xaey.txt", &[b'n'; 255]];
    for name in names {
        let path = world.path("inbox").join(OsStr::from_bytes(name));
        fs::File::create(&path).unwrap().set_len(3).unwrap();
    }
    let watchers = world.run(world.eager()).await;
    scan(&watchers).await;
    assert_eq!(world.arrived().len(), names.len());
    assert!(
        world.arrived().contains(&"\u{fffd}\u{fffd}".to_owned()),
        "what is no text is told as far as it is"
    );
    assert!(world.files("inbox").is_empty());
}

#[tokio::test]
async fn b84_a_source_that_becomes_a_trap_between_two_looks_is_not_opened_for_import() {
    let world = World::new();
    crate::world::put(&world.path("secret"), "not yours");
    let path = world.drop_file("a", "x");
    // While the first one is brought in, the second one turns into a link, the third into a FIFO.
    let (second, third) = (world.drop_file("b", "x"), world.drop_file("c", "x"));
    let mut done = false;
    let secret = world.path("secret");
    world.intake.refuse_by(move |_| {
        if !std::mem::replace(&mut done, true) {
            for path in [&path, &second, &third] {
                let _ = fs::remove_file(path);
            }
            symlink(&secret, &path).unwrap();
            symlink(&secret, &second).unwrap();
            fifo(&third);
        }
        None
    });
    let watchers = world.run(world.eager().concurrent_imports(1)).await;
    scan(&watchers).await;
    assert!(
        world.intake.arrived().iter().all(|arrival| arrival.bytes == b"x"),
        "{:?}",
        world.intake.arrived()
    );
    assert!(world.arrived().len() <= 1);
    assert_eq!(world.files("inbox"), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_directory_of_the_store_that_came_into_a_watched_folder_is_not_looked_into() {
    let world = World::new();
    let watchers = world.run(world.eager()).await;
    scan(&watchers).await;
    world.intake.set_own_places(vec![world.path("inbox/volume")]); // mounted after the watcher was checked
    world.drop_file("volume/tenant/file", "of the store");
    world.drop_file("a", "x");
    assert_eq!(scan(&watchers).await.skipped[&SkipReason::Own], 1);
    assert_eq!(world.arrived(), ["a"]);
    assert_eq!(world.files("inbox"), ["volume/tenant/file"]);
}
