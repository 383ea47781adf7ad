//! The pure part of every command on a lease: what the presented token and the file's state allow (the table of
//! ENGINE 8). No clock, no disk.

use locus_core::{Error, FileKey, FileStatus, Result, Site, Token};

use super::entry::{Ended, Entry};

/// What a command may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It happens.
    Effect,
    /// It happened before, or rests on something that did: success, nothing changes.
    NoEffect,
}

/// `complete` with this token. `None` is a file whose record is gone.
pub(crate) fn complete(entry: Option<&Entry>, key: FileKey, token: Token) -> Result<Verdict> {
    let Some(entry) = entry else { return Ok(Verdict::NoEffect) };
    holds(entry, key, token)?;
    match entry.status {
        FileStatus::Processing | FileStatus::Pending | FileStatus::PermanentlyFailed => Ok(Verdict::Effect),
        FileStatus::Completed | FileStatus::Deleted => Ok(Verdict::NoEffect),
        _ => Err(lost(Some(entry), key, token)),
    }
}

/// `fail` with this token.
pub(crate) fn fail(entry: Option<&Entry>, key: FileKey, token: Token) -> Result<Verdict> {
    let Some(entry) = entry else { return Ok(Verdict::NoEffect) };
    holds(entry, key, token)?;
    let ended = entry.delivery.as_ref().map_or(Ended::ByHolder, |delivery| delivery.ended);
    match (entry.status, ended) {
        (FileStatus::Processing, _) | (FileStatus::Pending, Ended::ByTime) => Ok(Verdict::Effect),
        (
            FileStatus::Pending | FileStatus::Completed | FileStatus::PermanentlyFailed | FileStatus::Deleted,
            _,
        ) => Ok(Verdict::NoEffect),
        _ => Err(lost(Some(entry), key, token)),
    }
}

/// `renew` or `release` with this token.
pub(crate) fn hold(entry: Option<&Entry>, key: FileKey, token: Token) -> Result<()> {
    match entry {
        Some(entry) if entry.status == FileStatus::Processing => holds(entry, key, token),
        entry => Err(lost(entry, key, token)),
    }
}

fn holds(entry: &Entry, key: FileKey, token: Token) -> Result<()> {
    if entry.token() == Some(token) || !Site::LeaseToken.stands() {
        Ok(())
    } else {
        Err(lost(Some(entry), key, token))
    }
}

fn lost(entry: Option<&Entry>, key: FileKey, token: Token) -> Error {
    Error::LeaseLost {
        key,
        expected: entry.and_then(Entry::token),
        actual: token,
        status: entry.map(|entry| entry.status),
    }
}

#[cfg(test)]
mod tests {
    use locus_core::{Area, Checksum, Epoch, Lsn, Owner, StoreTime, Timestamp};
    use rstest::rstest;

    use super::{
        super::entry::{Delivery, Order, Rest},
        *,
    };

    const TOKEN: Token = Token { epoch: Epoch { count: 1, random: 7 }, lsn: Lsn(5) };
    const OTHER: Token = Token { epoch: Epoch { count: 1, random: 8 }, lsn: Lsn(5) };

    fn entry(status: FileStatus, ended: Ended) -> Entry {
        let at = Timestamp::from_micros(0);
        Entry {
            key: FileKey::from_bytes([1; 16]),
            order: Order::new(Lsn(1), 0),
            last: Lsn(5),
            size: 0,
            checksum: Checksum::of(b""),
            created_at: at,
            modified_at: at,
            moment: StoreTime::ZERO,
            directory: 0,
            retry_count: 0,
            attempts: 1,
            rest: Rest::Volume(0),
            area: Area::Live,
            status,
            interrupted: 0,
            original_name: None,
            cold: None,
            delivery: Some(Box::new(Delivery {
                token: Some(TOKEN),
                ended,
                owner: Owner::Process,
                deadline: StoreTime::ZERO,
                ttl_micros: 1,
                by: None,
                started_at: at,
                heartbeat_at: at,
                failed_at: None,
                error: None,
            })),
        }
    }

    #[rstest]
    #[case(FileStatus::Processing, Ended::Not, Some(Verdict::Effect), Some(Verdict::Effect), true)]
    #[case(FileStatus::Pending, Ended::ByTime, Some(Verdict::Effect), Some(Verdict::Effect), false)]
    #[case(FileStatus::Pending, Ended::ByHolder, Some(Verdict::Effect), Some(Verdict::NoEffect), false)]
    #[case(
        FileStatus::PermanentlyFailed,
        Ended::ByHolder,
        Some(Verdict::Effect),
        Some(Verdict::NoEffect),
        false
    )]
    #[case(
        FileStatus::PermanentlyFailed,
        Ended::ByTime,
        Some(Verdict::Effect),
        Some(Verdict::NoEffect),
        false
    )]
    #[case(FileStatus::Completed, Ended::ByHolder, Some(Verdict::NoEffect), Some(Verdict::NoEffect), false)]
    #[case(FileStatus::Deleted, Ended::Not, Some(Verdict::NoEffect), Some(Verdict::NoEffect), false)]
    #[case(FileStatus::DeadLettered, Ended::ByHolder, None, None, false)]
    fn b31_the_table_of_tokens(
        #[case] status: FileStatus,
        #[case] ended: Ended,
        #[case] completes: Option<Verdict>,
        #[case] fails: Option<Verdict>,
        #[case] holds: bool,
    ) {
        let entry = entry(status, ended);
        assert_eq!(complete(Some(&entry), entry.key, TOKEN).ok(), completes);
        assert_eq!(fail(Some(&entry), entry.key, TOKEN).ok(), fails);
        assert_eq!(hold(Some(&entry), entry.key, TOKEN).is_ok(), holds);
        for verdict in [complete(Some(&entry), entry.key, OTHER), fail(Some(&entry), entry.key, OTHER)] {
            let Err(Error::LeaseLost { expected, actual, status: told, .. }) = verdict else {
                panic!("{verdict:?}")
            };
            assert_eq!((expected, actual, told), (Some(TOKEN), OTHER, Some(status)));
        }
    }

    #[test]
    fn b42_a_lease_whose_record_is_gone_completes_and_fails_without_effect() {
        let key = FileKey::from_bytes([1; 16]);
        assert_eq!(complete(None, key, TOKEN).unwrap(), Verdict::NoEffect);
        assert_eq!(fail(None, key, TOKEN).unwrap(), Verdict::NoEffect);
        assert!(matches!(hold(None, key, TOKEN), Err(Error::LeaseLost { status: None, .. })));
    }
}
