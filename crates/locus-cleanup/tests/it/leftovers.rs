//! What killed writes left.

use locus_core::Error;

use crate::fakes::{State, blob, key, world};

fn with_blobs(state: &mut State, numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        state.blobs.insert(key(number), blob(number));
    }
}

#[tokio::test]
async fn b69_blobs_of_records_and_of_writes_in_flight_are_spared() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), 1..=4);
    world.state.lock().recorded.insert(key(1));
    world.state.lock().in_flight.insert(key(2));
    let done = sweeper.leftovers().await.unwrap();
    assert_eq!((done.orphans_removed, done.staging_removed, done.space_freed), (2, 2, 27));
    assert_eq!(world.state.lock().blobs.keys().copied().collect::<Vec<_>>(), [key(1), key(2)]);
    let again = sweeper.leftovers().await.unwrap();
    assert_eq!(again.orphans_removed, 0);
}

#[tokio::test]
async fn nothing_is_removed_once_records_cannot_be_trusted() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), [1]);
    world.state.lock().untrustworthy = true;
    assert!(matches!(sweeper.leftovers().await, Err(Error::Poisoned { .. })));
    assert_eq!(world.state.lock().blobs.len(), 1);
}

#[tokio::test]
async fn b72_page_by_page_a_volume_is_covered_once() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), 1..=100);
    world.state.lock().recorded.extend((1..=100).filter(|number| number % 3 == 0).map(key));
    world.state.lock().page_max = 10;
    let (mut steps, mut removed) = (0, 0);
    loop {
        let (step, more) = sweeper.leftovers_step().await.unwrap();
        steps += 1;
        removed += step.orphans_removed;
        if !more {
            break;
        }
    }
    assert_eq!(
        (steps, removed, world.state.lock().blobs.len()),
        (1 + 10, 67, 33),
        "what is staged comes first"
    );
    assert_eq!(world.state.lock().events.iter().filter(|event| **event == "tidy").count(), 1);
}

#[tokio::test]
async fn a_blob_that_cannot_be_removed_is_counted_and_passed_by() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), [1, 2]);
    world.state.lock().undeletable.insert(key(1));
    let done = sweeper.leftovers().await.unwrap();
    assert_eq!((done.orphans_removed, done.errors), (1, 1));
}

#[tokio::test]
async fn b73_an_unhealthy_volume_is_left_alone() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), [1]);
    world.state.lock().unhealthy = true;
    assert_eq!(sweeper.leftovers().await.unwrap().orphans_removed, 0);
    assert!(world.state.lock().events.is_empty());
}

#[tokio::test]
async fn what_is_staged_goes_unless_an_upload_names_it() {
    let (world, sweeper, _) = world();
    for number in 1..=9 {
        world.state.lock().staged.insert(key(number), blob(number));
    }
    {
        let mut state = world.state.lock();
        state.staging.extend([key(2), key(5)]);
        state.undeletable.insert(key(7));
        state.page_max = 4;
    }
    let done = sweeper.leftovers().await.unwrap();
    assert_eq!((done.staging_removed, done.errors), (2 + 6, 1), "two of them by tidying");
    let left: Vec<_> = world.state.lock().staged.keys().copied().collect();
    assert_eq!(left, [key(2), key(5), key(7)]);
}

#[tokio::test]
async fn idle_uploads_are_ended_before_what_they_staged_is_looked_for() {
    let (world, sweeper, _) = world();
    world.state.lock().idle_uploads = 600;
    assert_eq!(sweeper.expire_uploads_step().await.unwrap().uploads_expired, 256);
    assert_eq!(sweeper.leftovers().await.unwrap().uploads_expired, 344);
    assert_eq!(sweeper.statistics().uploads_expired, 600);
}
