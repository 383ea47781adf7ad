//! Runs that go on where an earlier process stopped.

use std::{fs, io::Write, path::Path, sync::Arc};

use locus_cleanup::{Sweep, SweepOptions, SweepSettings, Sweeper};
use locus_core::{CleanupStatistics, Upkeep};
use locus_fs::OsDisk;
use locus_testkit::ManualClock;
use parking_lot::Mutex;
use rstest::rstest;

use crate::fakes::{Mounted, World, blob, key, sweep_at_once, volume};

/// Ten blobs a run.
fn short_runs() -> SweepSettings {
    let mut settings = sweep_at_once();
    (settings.orphans.batch, settings.orphans.budget) = (3, 10);
    settings
}

/// The sweeper of a new process, over the volumes that are mounted in it.
fn process(dir: &Path, mounted: &[&Arc<World>]) -> Sweeper {
    let upkeep = Arc::clone(mounted[0]) as Arc<dyn Upkeep>;
    let mounted = Mounted(Mutex::new(mounted.iter().map(|volume| Arc::clone(volume)).collect()));
    Sweeper::new(upkeep, Arc::new(mounted), ManualClock::new())
        .with_settings(short_runs())
        .with_stands_in(Arc::new(OsDisk), dir)
}

async fn scan(sweeper: &Sweeper) -> CleanupStatistics {
    sweeper.run(Sweep::Orphans, SweepOptions::default()).await.expect("because the store refuses nothing")
}

/// A volume with blobs that have records, and behind them as many that have none.
fn half_known(id: &str, from: u8, each: u8) -> Arc<World> {
    let world = volume(id);
    let mut state = world.state.lock();
    state.blobs.extend((from..from + 2 * each).map(|number| (key(number), blob(number))));
    let known: Vec<_> = state.blobs.keys().take(each.into()).copied().collect();
    state.recorded.extend(known);
    drop(state);
    world
}

fn note(dir: &Path) -> std::path::PathBuf {
    dir.join("sweeps")
}

#[tokio::test]
async fn b79_processes_that_end_after_each_run_come_to_the_end_and_begin_again() {
    let temp = tempfile::tempdir().unwrap();
    let world = half_known("vol", 1, 20);
    for removed in [0, 0, 10, 10] {
        assert_eq!(scan(&process(temp.path(), &[&world])).await.orphans_removed, removed);
    }
    assert!(!note(temp.path()).exists(), "a tour that is over leaves nothing");
    world.state.lock().blobs.insert(key(0), blob(0));
    assert_eq!(scan(&process(temp.path(), &[&world])).await.orphans_removed, 1, "the next one is whole");
}

#[tokio::test]
async fn b79_without_a_note_each_process_begins_anew() {
    let world = half_known("vol", 1, 20);
    for _ in 0..4 {
        let mounted = Arc::new(Mounted(Mutex::new(vec![Arc::clone(&world)])));
        let sweeper = Sweeper::new(Arc::clone(&world) as _, mounted, ManualClock::new());
        assert_eq!(scan(&sweeper.with_settings(short_runs())).await.orphans_removed, 0);
    }
}

#[rstest]
#[case::cut(|bytes: &mut Vec<u8>| bytes.truncate(20))]
#[case::flipped(|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1)]
#[case::newer(|bytes: &mut Vec<u8>| bytes[7] = 9)]
#[case::empty(|bytes: &mut Vec<u8>| bytes.clear())]
#[case::long(|bytes: &mut Vec<u8>| bytes.resize(2 << 20, 0))]
#[tokio::test]
async fn b79_a_note_that_cannot_be_read_lets_the_scan_begin_anew(#[case] harm: fn(&mut Vec<u8>)) {
    let temp = tempfile::tempdir().unwrap();
    let world = half_known("vol", 1, 10);
    scan(&process(temp.path(), &[&world])).await;
    let mut bytes = fs::read(note(temp.path())).unwrap();
    harm(&mut bytes);
    fs::File::create(note(temp.path())).unwrap().write_all(&bytes).unwrap();
    let next = process(temp.path(), &[&world]);
    assert_eq!(scan(&next).await.orphans_removed, 0, "the first ten once more");
    assert_eq!(scan(&process(temp.path(), &[&world])).await.orphans_removed, 10, "noted again");
}

#[tokio::test]
async fn b79_a_note_that_cannot_be_read_is_gone_after_a_whole_tour() {
    let temp = tempfile::tempdir().unwrap();
    fs::File::create(note(temp.path())).unwrap().write_all(b"what is this").unwrap();
    let world = half_known("vol", 1, 4);
    assert_eq!(scan(&process(temp.path(), &[&world])).await.orphans_removed, 4);
    assert!(!note(temp.path()).exists());
}

#[tokio::test]
async fn b79_a_volume_that_is_away_keeps_its_place_and_holds_up_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let (first, second) = (half_known("a", 1, 10), half_known("b", 101, 10));
    first.state.lock().recorded.extend(second.state.lock().recorded.iter());
    assert_eq!(scan(&process(temp.path(), &[&second])).await.orphans_removed, 0);
    // Its turn comes while it is away, more than once.
    let alone = process(temp.path(), &[&first]);
    for removed in [0, 10, 0] {
        assert_eq!(scan(&alone).await.orphans_removed, removed);
    }
    drop(alone);
    let both = process(temp.path(), &[&first, &second]);
    let mut removed = Vec::new();
    for _ in 0..2 {
        removed.push(scan(&both).await.orphans_removed);
    }
    assert_eq!(removed.iter().sum::<u64>(), 10, "it went on in its midst: {removed:?}");
    second.state.lock().blobs.insert(key(96), blob(96));
    for _ in 0..3 {
        scan(&both).await;
    }
    assert!(!second.state.lock().blobs.contains_key(&key(96)), "and then begins anew");
}

#[tokio::test]
async fn b79_a_volume_that_takes_no_writes_for_a_while_keeps_its_place() {
    let temp = tempfile::tempdir().unwrap();
    let world = half_known("vol", 1, 10);
    let sweeper = process(temp.path(), &[&world]);
    scan(&sweeper).await;
    world.state.lock().read_only = true;
    assert_eq!(scan(&sweeper).await.errors, 1);
    world.state.lock().read_only = false;
    assert_eq!(scan(&sweeper).await.orphans_removed, 10);
}

#[tokio::test]
async fn b79_where_a_dropped_run_stopped_is_noted_when_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let world = half_known("vol", 1, 9);
    world.state.lock().hang_delete = true;
    let sweeper = process(temp.path(), &[&world]);
    let claimed = Arc::clone(&world.state.lock().claimed);
    tokio::select! {
        biased;
        done = scan(&sweeper) => panic!("{done:?}"),
        () = async { while claimed.lock().is_empty() { tokio::task::yield_now().await } } => {}
    }
    assert!(!note(temp.path()).exists());
    sweeper.keep_stands().await;
    let noted = fs::read(note(temp.path())).unwrap();
    sweeper.keep_stands().await;
    assert_eq!(fs::read(note(temp.path())).unwrap(), noted);
    world.state.lock().hang_delete = false;
    world.go.notify_waiters();
    drop(sweeper);
    let first = *world.state.lock().blobs.keys().next().unwrap();
    world.state.lock().recorded.remove(&first);
    let next = process(temp.path(), &[&world]);
    assert!(scan(&next).await.orphans_removed >= 8);
    assert!(world.state.lock().blobs.contains_key(&first), "it was looked at before");
}

#[tokio::test]
async fn b79_a_note_that_cannot_be_written_costs_nothing_but_another_look() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("later");
    let world = half_known("vol", 1, 20);
    let sweeper = process(&dir, &[&world]);
    assert_eq!((scan(&sweeper).await.errors, scan(&sweeper).await.orphans_removed), (0, 0));
    fs::create_dir(&dir).unwrap();
    assert_eq!(scan(&sweeper).await.orphans_removed, 10);
    assert_eq!(scan(&process(&dir, &[&world])).await.orphans_removed, 10, "it was noted then");
}

#[tokio::test]
async fn b79_neither_a_dry_run_nor_one_for_a_tenant_moves_what_is_noted() {
    let temp = tempfile::tempdir().unwrap();
    let world = half_known("vol", 1, 20);
    let sweeper = process(temp.path(), &[&world]);
    scan(&sweeper).await;
    let noted = fs::read(note(temp.path())).unwrap();
    let dry = SweepOptions { dry_run: true, ..SweepOptions::default() };
    assert_eq!(sweeper.run(Sweep::Orphans, dry).await.unwrap().orphans_removed, 20);
    let acme = locus_core::TenantId::parse("acme").unwrap();
    let one = SweepOptions { tenant: Some(&acme), ..SweepOptions::default() };
    assert_eq!(sweeper.run(Sweep::Orphans, one).await.unwrap().orphans_removed, 20);
    assert_eq!(fs::read(note(temp.path())).unwrap(), noted);
}

/// What a killed process left may lie where the scan has been.
#[tokio::test]
async fn b79_all_leftovers_are_looked_for_wherever_the_scan_stands() {
    let temp = tempfile::tempdir().unwrap();
    let world = half_known("vol", 1, 20);
    scan(&process(temp.path(), &[&world])).await;
    world.state.lock().blobs.insert(key(0), blob(0));
    let sweeper = process(temp.path(), &[&world]);
    assert_eq!(sweeper.leftovers(SweepOptions::default()).await.unwrap().orphans_removed, 21);
}
