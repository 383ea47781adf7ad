//! Watermark and visibility: nobody is told of a record before it is as safe as was asked for, and everybody is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use locus_core::Lsn;
use shuttle::{future, sync::mpsc, thread};

use crate::{
    journal::Use,
    world::{Log, Mark, join},
};

/// Records of each task.
const RECORDS: u8 = 2;

/// One waits until its records are written, one until they are durable, one until they happen to be, while somebody reads
/// both numbers all the time.
pub fn those_who_wait_for_the_log() {
    let mut log = Log::new(64 << 10, 8 << 20).with_committer();
    let appended = Arc::new(Mutex::new(BTreeMap::new()));
    let append = |task: u8| {
        let (journal, appended) = (Arc::clone(&log.journal), Arc::clone(&appended));
        async move |number: u8| {
            let mark = Mark::new(task, number);
            let mut room = journal.reserve(Use::Accept, &[8]).await.expect("because there is room");
            let lsn = journal.append(&mut room, mark.bytes().to_vec(), 0).expect("because nothing fails").lsn;
            appended.lock().expect("because nobody panicked").insert(lsn, mark);
            (lsn, mark)
        }
    };

    let (journal, disk, next) = (Arc::clone(&log.journal), Arc::clone(&log.disk), append(0));
    let buffered = future::spawn(async move {
        for number in 0..RECORDS {
            let (lsn, mark) = next(number).await;
            journal.confirm_written(lsn).await.expect("because nothing fails");
            assert!(journal.written() >= lsn, "{lsn} is not written");
            assert!(disk.has_written(mark.bytes()), "{lsn} is not in the kernel");
        }
    });
    let (journal, disk, next) = (Arc::clone(&log.journal), Arc::clone(&log.disk), append(1));
    let durable = future::spawn(async move {
        for number in 0..RECORDS {
            let (lsn, mark) = next(number).await;
            journal.confirm_durable(lsn).await.expect("because nothing fails");
            assert!(journal.durable() >= lsn, "{lsn} is not durable");
            assert!(disk.has_synced(mark.bytes()), "{lsn} does not survive power loss");
        }
    });
    let (journal, disk, next) = (Arc::clone(&log.journal), Arc::clone(&log.disk), append(2));
    let (tell, told) = mpsc::channel();
    let patient = future::spawn(async move {
        for number in 0..RECORDS {
            let (lsn, mark) = next(number).await;
            tell.send(lsn).expect("because it is listened to");
            journal.wait_durable(lsn).await.expect("because nothing fails");
            assert!(disk.has_synced(mark.bytes()), "{lsn} does not survive power loss");
        }
    });
    let (journal, disk, known) = (Arc::clone(&log.journal), Arc::clone(&log.disk), Arc::clone(&appended));
    let reader = thread::spawn(move || {
        for _ in 0..4 {
            let (written, durable) = (journal.written(), journal.durable());
            assert!(durable <= journal.written(), "durable before it is written");
            let known: Vec<(Lsn, Mark)> = known
                .lock()
                .expect("because nobody panicked")
                .iter()
                .map(|(lsn, mark)| (*lsn, *mark))
                .collect();
            for (lsn, mark) in known {
                assert!(
                    lsn > written || disk.has_written(mark.bytes()),
                    "{lsn} is seen, and not in the kernel"
                );
                assert!(lsn > durable || disk.has_synced(mark.bytes()), "{lsn} is seen, and not durable");
            }
        }
    });

    // Nobody else need ever ask for a sync behind what the patient one waits for.
    for lsn in told {
        future::block_on(log.journal.confirm_durable(lsn)).expect("because nothing fails");
    }
    for task in [buffered, durable, patient] {
        future::block_on(task).expect("because nobody aborts it");
    }
    join(reader);
    log.stop();
    let appended = appended.lock().expect("because nobody panicked");
    let expected: Vec<_> = appended.iter().map(|(lsn, mark)| (*lsn, mark.bytes().to_vec())).collect();
    assert_eq!(log.read_back(), expected);
}
