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

    #[expect(clippy::disallowed_methods, reason = "the time is that of this machine")]
    let begun = std::time::Instant::now();
    let watchers = world.run(world.eager().size_max(1 << 20)).await;
    let report = scan(&watchers).await;
    println!("a folder of traps was looked through twice in {:?}", begun.elapsed());
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

#[tokio::test]
async fn a_volume_that_is_mounted_during_a_scan_of_its_directory_is_not_looked_into_any_further() {
    let world = World::new();
    for number in 0..700 {
        world.drop_file(&format!("{number}"), "x");
    }
    let (intake, inbox) = (world.intake.clone(), world.path("inbox"));
    world.intake.at_sync(move || intake.set_own_places(vec![inbox]));
    let watchers = world.run(world.eager()).await;
    let _ = watchers.scan_now("in").await; // that at the start may have come first
    let before = world.arrived().len();
    assert!(before < 700, "{before}");
    let error = watchers.scan_now("in").await.unwrap_err();
    assert!(error.to_string().contains("the store's own"), "{error}");
    assert_eq!((world.arrived().len(), world.files("inbox").len()), (before, 700 - before));
}

fn mark(folder: &std::path::Path, names: &[(&str, &str)]) {
    fs::create_dir_all(folder).expect("a folder of the test's own");
    names.iter().for_each(|(name, content)| crate::world::put(&folder.join(name), content));
}

#[rstest::rstest]
#[case::volume(&[(".locus-volume", "locus volume")])]
#[case::data_directory(&[("STORE", "damaged"), ("LOCK", "")])]
#[case::data_directory_that_was_never_locked(&[("STORE", "LOCUSSTO and more")])]
#[tokio::test]
async fn what_is_marked_as_a_stores_own_is_neither_looked_into_nor_watched_whoever_it_belongs_to(
    #[case] marks: &[(&str, &str)],
) {
    let world = World::new();
    mark(&world.path("inbox/theirs"), marks);
    world.drop_file("theirs/acme/file", "of a store");
    world.drop_file("a", "x");
    let before = world.files("inbox/theirs");
    let watchers = world.run(world.eager()).await;
    assert_eq!(scan(&watchers).await.skipped, BTreeMap::from([(SkipReason::Own, 1)]));
    assert_eq!((world.arrived(), world.files("inbox/theirs")), (vec!["a".to_owned()], before.clone()));
    let path = world.path("inbox/theirs/acme/file");
    assert_eq!(watchers.explain(path).await.unwrap().held_by, Some(SkipReason::Own));
    watchers.remove("in").await.unwrap();
    for within in ["inbox/theirs", "inbox/theirs/acme"] {
        let error = watchers.register(world.eager_in(within).id("other")).await.unwrap_err();
        assert!(error.to_string().contains("lies in a volume or a data directory"), "{error}");
    }
    assert_eq!(world.files("inbox/theirs"), before);
}

#[tokio::test]
async fn a_watched_folder_that_comes_to_be_a_volume_is_not_looked_into_any_more() {
    let world = World::new();
    let watchers = world.run(world.eager()).await;
    scan(&watchers).await;
    mark(&world.path("inbox"), &[(".locus-volume", "locus volume")]);
    world.drop_file("acme/file", "of the store");
    let error = watchers.scan_now("in").await.unwrap_err();
    assert!(error.to_string().contains("lies in a volume or a data directory"), "{error}");
    assert!(world.arrived().is_empty());
}

#[rstest::rstest]
#[case::a_name_alone(&[("STORE", "of the grocer")])]
#[case::a_lock_alone(&[("LOCK", "")])]
#[tokio::test]
async fn a_name_like_those_of_a_store_does_not_make_a_folder_one(#[case] marks: &[(&str, &str)]) {
    let world = World::new();
    mark(&world.path("inbox/theirs"), marks);
    world.drop_file("theirs/file", "x");
    let watchers = world.run(world.eager()).await;
    scan(&watchers).await;
    assert!(world.arrived().contains(&"file".to_owned()));
}
