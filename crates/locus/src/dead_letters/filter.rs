//! Which dead letters are meant.

use locus_core::{FileRecord, LogicalDir, Result, Timestamp};

/// Lets dead letters through that are all of what was said; at first, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "a filter does nothing until it is given to a call"]
pub struct DeadLetterFilter {
    directory: Option<LogicalDir>,
    failed_after: Option<Timestamp>,
    failed_before: Option<Timestamp>,
    error: Option<String>,
    name: Option<String>,
}

impl DeadLetterFilter {
    /// All dead letters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only those in this logical directory, or beneath it.
    ///
    /// # Errors
    /// [`Error::InvalidId`](locus_core::Error::InvalidId) when it is none.
    pub fn directory(mut self, directory: impl AsRef<str>) -> Result<Self> {
        self.directory = Some(LogicalDir::parse(directory.as_ref())?);
        Ok(self)
    }

    /// Only those that failed for the last time at this moment or later. What never failed, but was delivered too often,
    /// failed when it became a dead letter.
    pub fn failed_after(mut self, at: Timestamp) -> Self {
        self.failed_after = Some(at);
        self
    }

    /// Only those that failed for the last time before this moment.
    pub fn failed_before(mut self, at: Timestamp) -> Self {
        self.failed_before = Some(at);
        self
    }

    /// Only those whose last error contains this text.
    pub fn error_contains(mut self, text: impl Into<String>) -> Self {
        self.error = Some(text.into());
        self
    }

    /// Only those whose original name contains this text.
    pub fn name_contains(mut self, text: impl Into<String>) -> Self {
        self.name = Some(text.into());
        self
    }

    pub(super) fn lets_through(&self, record: &FileRecord) -> bool {
        let failed_at = record.last_failed_at.unwrap_or(record.info.modified_at);
        let contains = |text: &Option<String>, part: &Option<String>| {
            part.as_ref().is_none_or(|part| text.as_ref().is_some_and(|text| text.contains(part.as_str())))
        };
        self.directory.as_ref().is_none_or(|directory| lies_in(&record.info.directory, directory))
            && self.failed_after.is_none_or(|after| failed_at >= after)
            && self.failed_before.is_none_or(|before| failed_at < before)
            && contains(&record.last_error, &self.error)
            && contains(&record.info.original_name, &self.name)
    }
}

/// Whether a directory is that one, or lies beneath it.
fn lies_in(directory: &LogicalDir, above: &LogicalDir) -> bool {
    let mut at = Some(directory.clone());
    while let Some(here) = at {
        if here == *above {
            return true;
        }
        at = here.parent();
    }
    false
}

#[cfg(test)]
mod tests {
    use locus_core::{
        Area, Checksum, FileInfo, FileKey, FileStatus, Place, Properties, StoragePath, TenantId, VolumeId,
    };
    use rstest::rstest;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    /// `scan.pdf` in `/in/deep`, which failed at 5 and is a dead letter since 9.
    fn letter(last_failed_at: Option<Timestamp>) -> FileRecord {
        let tenant = TenantId::parse("acme").unwrap();
        FileRecord {
            owner: StoragePath::from(&tenant),
            info: FileInfo {
                key: FileKey::from_bytes([1; 16]),
                tenant,
                size: 0,
                checksum: Checksum::of(b""),
                original_name: Some("scan.pdf".into()),
                directory: LogicalDir::parse("/in/deep").unwrap(),
                properties: Properties::new(),
                created_at: at(1),
                modified_at: at(9),
                status: FileStatus::DeadLettered,
                retry_count: 3,
                attempts: 3,
            },
            place: Place::Volume(VolumeId::parse("vol-001").unwrap()),
            seal: None,
            area: Area::DeadLetters,
            last_failed_at,
            last_error: Some("no such page".into()),
            available_at: None,
            processing_started_at: None,
            processing_by: None,
            last_heartbeat: None,
        }
    }

    #[rstest]
    #[case(DeadLetterFilter::new(), true)]
    #[case(DeadLetterFilter::new().directory("/").unwrap(), true)]
    #[case(DeadLetterFilter::new().directory("in").unwrap(), true)]
    #[case(DeadLetterFilter::new().directory("/in/deep").unwrap(), true)]
    #[case(DeadLetterFilter::new().directory("/in/deep/er").unwrap(), false)]
    #[case(DeadLetterFilter::new().directory("/i").unwrap(), false)]
    #[case(DeadLetterFilter::new().failed_after(at(5)), true)]
    #[case(DeadLetterFilter::new().failed_after(at(6)), false)]
    #[case(DeadLetterFilter::new().failed_before(at(6)), true)]
    #[case(DeadLetterFilter::new().failed_before(at(5)), false)]
    #[case(DeadLetterFilter::new().error_contains("page"), true)]
    #[case(DeadLetterFilter::new().error_contains("time-out"), false)]
    #[case(DeadLetterFilter::new().name_contains(".pdf"), true)]
    #[case(DeadLetterFilter::new().name_contains(".txt"), false)]
    #[case(DeadLetterFilter::new().name_contains("scan").error_contains("time-out"), false)]
    fn b41_a_filter_lets_through_what_is_all_of_what_was_said(
        #[case] filter: DeadLetterFilter,
        #[case] passes: bool,
    ) {
        assert_eq!(filter.lets_through(&letter(Some(at(5)))), passes);
    }

    #[test]
    fn what_never_failed_failed_when_it_became_a_dead_letter() {
        assert!(DeadLetterFilter::new().failed_after(at(9)).lets_through(&letter(None)));
        assert!(!DeadLetterFilter::new().failed_before(at(9)).lets_through(&letter(None)));
    }
}
