//! The Buffered writer: whoever comes first writes for all, in the order of LSNs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use locus_core::{Error, Lsn, Outcome};
use locus_testkit::{Fault, OpKind};
use shuttle::future;

use crate::{
    journal::{Journal, Room, Use},
    world::{Log, Mark, below},
};

/// Callers, and records of each.
const CALLERS: u8 = 3;
const RECORDS: u8 = 3;
/// So small that a caller leaves what others appended to the committer now and then.
const SEGMENT_BYTES: u64 = 8 << 10;

/// What was appended, in the order of LSNs.
type Appended = Arc<Mutex<BTreeMap<Lsn, Mark>>>;

async fn append(journal: &Arc<Journal>, appended: &Appended, mark: Mark) -> Result<Lsn, Error> {
    let mut room: Room = journal.reserve(Use::Essential, &[8]).await?;
    let lsn = journal.append(&mut room, mark.bytes().to_vec(), 0)?.lsn;
    appended.lock().expect("because nobody panicked").insert(lsn, mark);
    Ok(lsn)
}

fn expected(appended: &Appended) -> Vec<(Lsn, Vec<u8>)> {
    let appended = appended.lock().expect("because nobody panicked");
    appended.iter().map(|(lsn, mark)| (*lsn, mark.bytes().to_vec())).collect()
}

/// Callers who each wait until their records are written, with nobody who writes for them but themselves.
pub fn callers_write_for_each_other() {
    let mut log = Log::new(SEGMENT_BYTES, 8 << 20).with_committer().with_keeper();
    let appended = Appended::default();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (journal, disk) = (Arc::clone(&log.journal), Arc::clone(&log.disk));
            let appended = Arc::clone(&appended);
            future::spawn(async move {
                for number in 0..RECORDS {
                    let mark = Mark::new(caller, number);
                    let lsn = append(&journal, &appended, mark).await.expect("because nothing fails");
                    journal.confirm_written(lsn).await.expect("because nothing fails");
                    assert!(disk.has_written(mark.bytes()), "{lsn} is told before it is written");
                }
            })
        })
        .collect();
    for caller in callers {
        future::block_on(caller).expect("because nobody aborts it");
    }
    log.stop();
    assert_eq!(log.read_back(), expected(&appended));
}

/// A write, or a sync, that fails at any moment: nobody is told that his record is safe who should not be, nobody is left
/// waiting, nothing is written behind the hole.
pub fn a_failure_tells_everybody() {
    let mut log = Log::new(SEGMENT_BYTES, 8 << 20).with_committer().with_keeper();
    let appended = Appended::default();
    let (skipped, kind) = (below(6), if below(3) > 0 { OpKind::Write } else { OpKind::Sync });
    log.disk.sim.fail(Fault::io().on(kind).after(skipped).times(1));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (journal, disk) = (Arc::clone(&log.journal), Arc::clone(&log.disk));
            let appended = Arc::clone(&appended);
            future::spawn(async move {
                for number in 0..RECORDS {
                    let mark = Mark::new(caller, number);
                    let lsn = match append(&journal, &appended, mark).await {
                        Ok(lsn) => lsn,
                        Err(
                            Error::Poisoned { outcome: Outcome::NotDone } | Error::InsufficientStorage { .. },
                        ) => {
                            return;
                        }
                        Err(why) => panic!("{why}"),
                    };
                    let is_durable = caller == 0;
                    let confirmed = match is_durable {
                        true => journal.confirm_durable(lsn).await,
                        false => journal.confirm_written(lsn).await,
                    };
                    match confirmed {
                        Ok(()) if is_durable => {
                            assert!(disk.has_synced(mark.bytes()), "{lsn} is not durable");
                        }
                        Ok(()) => {
                            assert!(disk.has_written(mark.bytes()), "{lsn} is not written");
                        }
                        Err(Error::Poisoned { outcome: Outcome::Unknown }) => {
                            assert!(journal.is_poisoned());
                            return;
                        }
                        Err(why) => panic!("{why}"),
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        future::block_on(caller).expect("because nobody aborts it");
    }
    log.stop();
    log.disk.sim.heal_all();
    let (found, expected) = (log.read_back(), expected(&appended));
    assert!(expected.starts_with(&found), "{found:?} is no beginning of {expected:?}");
    assert!(found.len() as u64 >= log.journal.written().0, "what was written is not there");
}
