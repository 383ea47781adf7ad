//! A mirror: the suite, members that fail, go away and come back, copies that rot.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{BlobPath, Content, Durability, Entropy, Error, Result, StorageVolume};
use locus_fs::{LocalVolume, Mirror, MirroredVolume, OsDisk, VolumeSpec};
use locus_testkit::{Failing, FaultyVolume, SeededEntropy, SimDisk, VolumeFaults, VolumeOp, volume_suite};
use rstest::rstest;

use crate::local_volume::{blob, files, on, write};

/// Two members in directories of `root`, and the switches of each.
pub(crate) struct Pair {
    root: PathBuf,
    pub(crate) faults: [VolumeFaults; 2],
    quorum: usize,
}

impl Pair {
    pub(crate) fn new(root: &Path, quorum: usize) -> Self {
        Self { root: root.into(), faults: Default::default(), quorum }
    }

    pub(crate) fn spec(&self) -> MirroredVolume {
        let [one, two] = ["one", "two"].map(|name| LocalVolume::new(name, self.root.join(name)));
        MirroredVolume::new("vol-m")
            .add_member(FaultyVolume::new(one, self.faults[0].clone()))
            .add_member(FaultyVolume::new(two, self.faults[1].clone()))
            .quorum(self.quorum)
    }

    pub(crate) async fn open(&self) -> (Mirror, Arc<dyn StorageVolume>) {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<(Mirror, Arc<dyn StorageVolume>)> {
        let spec = self.spec();
        Ok((spec.handle(), Box::new(spec).open(on(Arc::new(OsDisk))).await?))
    }

    /// The files of blobs in a member's directory, notes and markers left out.
    pub(crate) fn copies(&self, member: &str) -> BTreeSet<PathBuf> {
        let is_copy = |path: &PathBuf| path.starts_with("acme");
        files(&self.root.join(member)).into_iter().filter(is_copy).collect()
    }

    pub(crate) fn assert_alike(&self) {
        let copies = self.copies("one");
        assert_eq!(copies, self.copies("two"));
        for path in copies {
            let [one, two] = ["one", "two"].map(|name| fs::read(self.root.join(name).join(&path)).unwrap());
            assert!(one == two, "{} differs", path.display());
        }
    }

    pub(crate) fn notes(&self, member: &str) -> usize {
        files(&self.root.join(member)).iter().filter(|path| path.starts_with("locus.mirror+00000000")).count()
    }
}

pub(crate) async fn read(volume: &Arc<dyn StorageVolume>, at: &BlobPath) -> Result<Vec<u8>> {
    let opened = volume.open(at, 0..100).await?;
    let mut bytes = opened.head.to_vec();
    while (bytes.len() as u64) < opened.length {
        bytes.extend_from_slice(&opened.blob.read_at(bytes.len() as u64, 300_000).await?);
    }
    Ok(bytes)
}

pub(crate) fn is_absent(read: &Result<Vec<u8>>) -> bool {
    matches!(read, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
}

fn unique(root: &Path) -> PathBuf {
    root.join(blob("acme", "").key.to_string())
}

#[rstest]
#[case::all(2)]
#[case::one(1)]
#[tokio::test]
async fn it_passes_the_suite_on_real_files(#[case] quorum: usize) {
    let dir = tempfile::tempdir().unwrap();
    volume_suite::run(async || Pair::new(&unique(dir.path()), quorum).open().await.1).await;
}

#[tokio::test]
async fn it_passes_the_suite_on_a_simulated_disk_with_three_members_that_differ_in_depth() {
    volume_suite::run(async || {
        let spec = MirroredVolume::new("vol-m")
            .add_member(LocalVolume::new("one", "/one").shard_depth(0))
            .add_member(LocalVolume::new("two", "/two"))
            .add_member(LocalVolume::new("three", "/three").shard_depth(2))
            .quorum(2);
        Box::new(spec).open(on(SimDisk::new(1))).await.unwrap()
    })
    .await;
}

/// What a member may fail at while the suite is passed; without its answers nobody could say "absent".
const CHANGES: [VolumeOp; 6] = [
    VolumeOp::Write,
    VolumeOp::Delete,
    VolumeOp::Sync,
    VolumeOp::SyncBlob,
    VolumeOp::SyncNames,
    VolumeOp::Tidy,
];

#[rstest]
#[tokio::test]
async fn it_passes_the_suite_while_a_member_fails_every_change(
    #[values(0, 1)] member: usize,
    #[values(Failing::Refused, Failing::AnswerLost)] how: Failing,
) {
    let dir = tempfile::tempdir().unwrap();
    volume_suite::run(async || {
        let pair = Pair::new(&unique(dir.path()), 1);
        let (_, volume) = pair.open().await;
        CHANGES.iter().for_each(|op| pair.faults[member].fail(*op, 0, how));
        volume
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn it_takes_every_content_while_a_member_is_away(#[values(0, 1)] member: usize) {
    let dir = tempfile::tempdir().unwrap();
    volume_suite::what_is_written_is_read_back({
        let pair = Pair::new(&unique(dir.path()), 1);
        let (_, volume) = pair.open().await;
        pair.faults[member].set_away(true);
        volume
    })
    .await;
}

#[tokio::test]
async fn it_passes_on_the_failures_of_all_its_members() {
    let dir = tempfile::tempdir().unwrap();
    volume_suite::run_failing(async || {
        let faults = VolumeFaults::new();
        let pair = Pair { faults: [faults.clone(), faults.clone()], ..Pair::new(&unique(dir.path()), 2) };
        (pair.open().await.1, faults)
    })
    .await;
}

#[tokio::test]
async fn a_write_short_of_the_quorum_leaves_no_copy() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 2);
    let (mirror, volume) = pair.open().await;
    for how in [Failing::Refused, Failing::AnswerLost] {
        pair.faults[1].fail(VolumeOp::Write, 0, how);
        let long = vec![7; 3 << 20];
        for content in [Content::from("short"), Content::reader(io::Cursor::new(long))] {
            let at = blob("acme", "x.txt");
            let mut content = content;
            volume.write(&at, &mut content, Durability::Durable).await.unwrap_err();
            assert!(is_absent(&read(&volume, &at).await));
        }
        pair.faults[1].heal();
        assert_eq!(pair.copies("one"), BTreeSet::new());
        assert_eq!(pair.copies("two"), BTreeSet::new());
    }
    pair.faults[1].set_away(true);
    let status = volume.status();
    assert!(status.is_healthy && status.read_only, "{status:?}");
    assert!(status.why.unwrap().contains("two is away"));
    let refused = volume.write(&blob("acme", ""), &mut "x".into(), Durability::Durable).await;
    assert!(matches!(refused, Err(Error::VolumeUnavailable { .. })), "{refused:?}");
    assert_eq!(mirror.report().unwrap().behind, 0);
}

/// Issue: one side's files damaged or deleted at random, and one side away for a while: every read right, scrub repairs
/// all, counts shown.
#[rstest]
#[tokio::test]
async fn every_read_is_right_and_a_scrub_repairs_all(
    #[values(1, 2, 3)] seed: u64,
    #[values(0, 1)] side: usize,
) {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (mirror, volume) = pair.open().await;
    let random = SeededEntropy::new(seed);
    let below = |max: u64| random.next_u64() % max;
    let mut kept = BTreeMap::new();
    let mut gone = Vec::new();
    let put = async |kept: &mut BTreeMap<BlobPath, Vec<u8>>| {
        let at = blob("acme", "x.bin");
        let len = [0, 1, 1_000, 70_000, 262_144, 262_145, 700_000][below(7) as usize];
        let bytes: Vec<u8> = (0..len).map(|n: usize| (n as u64 ^ seed).wrapping_mul(31) as u8).collect();
        write(&volume, &at, &bytes).await;
        kept.insert(at, bytes);
    };
    for _ in 0..60 {
        put(&mut kept).await;
    }
    // Away for a while.
    pair.faults[side].set_away(true);
    for _ in 0..20 {
        put(&mut kept).await;
        let nth = below(kept.len() as u64) as usize;
        let at = kept.keys().nth(nth).unwrap().clone();
        assert!(volume.delete(&at).await.unwrap());
        kept.remove(&at);
        gone.push(at);
    }
    volume.sync_names().await.unwrap();
    let lacking = mirror.report().unwrap();
    assert!(lacking.behind > 0 && lacking.away == 1, "{lacking:?}");
    check(&volume, &kept, &gone).await;
    pair.faults[side].set_away(false);
    check(&volume, &kept, &gone).await;
    mirror.mend().await.unwrap();
    pair.assert_alike();
    let whole = mirror.report().unwrap();
    assert_eq!((whole.behind, whole.away, whole.unknown), (0, 0, 0));
    assert_eq!([pair.notes("one"), pair.notes("two")], [1, 1], "only who belongs to the mirror");

    // Rot on both sides, never of the same blob.
    let (mut lost, mut harmed) = (0, 0);
    for path in pair.copies("one") {
        let victim = dir.path().join(["one", "two"][below(2) as usize]).join(path);
        let bytes = fs::read(&victim).unwrap();
        match below(4) {
            0 => fs::remove_file(victim).map(|()| lost += 1).unwrap(),
            1 => {
                let mut bytes = bytes;
                let place = below(bytes.len() as u64) as usize;
                bytes[place] ^= 1 << below(8);
                put_back(&victim, &bytes);
                harmed += 1;
            }
            2 => {
                put_back(&victim, &bytes[..below(bytes.len() as u64) as usize]);
                harmed += 1;
            }
            _ => {}
        }
    }
    check(&volume, &kept, &gone).await;
    let mut told = 0;
    let done = mirror.scrub(|so_far| told = told.max(so_far.looked_at)).await.unwrap();
    assert_eq!(
        (done.repaired_missing, done.repaired_damaged, done.undecidable),
        (lost, harmed, 0),
        "{done:?}"
    );
    assert!(lost > 0 && harmed > 0 && told >= kept.len() as u64);
    pair.assert_alike();
    check(&volume, &kept, &gone).await;
    let again = mirror.scrub(|_| {}).await.unwrap();
    assert_eq!((again.repaired_missing, again.repaired_damaged, again.looked_at), (0, 0, kept.len() as u64));
}

pub(crate) fn put_back(path: &Path, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    io::Write::write_all(&mut &file, bytes).unwrap();
}

async fn check(volume: &Arc<dyn StorageVolume>, kept: &BTreeMap<BlobPath, Vec<u8>>, gone: &[BlobPath]) {
    for (at, bytes) in kept {
        assert!(read(volume, at).await.unwrap() == *bytes, "{at} is wrong");
        let middle = bytes.len() as u64 / 2;
        let opened = volume.open(at, middle..middle + 5).await.unwrap();
        let part = opened.blob.read_at(middle, 5).await.unwrap();
        assert_eq!(part, bytes[middle as usize..][..part.len()]);
    }
    for at in gone {
        assert!(read(volume, at).await.is_err(), "{at} was deleted");
    }
}

#[tokio::test]
async fn what_a_member_lacks_is_noted_durably_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (old, new) = (blob("acme", ""), blob("acme", ""));
    {
        let (_, volume) = pair.open().await;
        write(&volume, &old, b"old").await;
        pair.faults[1].set_away(true);
        write(&volume, &new, b"new").await;
        volume.delete(&old).await.unwrap();
        volume.close().await.unwrap();
    }
    pair.faults[1].heal();
    // The one that knows nothing of it comes alone: it cannot tell.
    pair.faults[0].set_away(true);
    {
        let (_, volume) = pair.open().await;
        let unknown = read(&volume, &new).await;
        assert!(matches!(unknown, Err(Error::VolumeUnavailable { .. })), "{unknown:?}");
        volume.close().await.unwrap();
    }
    pair.faults[0].heal();
    let (mirror, volume) = pair.open().await;
    assert!(is_absent(&read(&volume, &old).await));
    assert_eq!(read(&volume, &new).await.unwrap(), b"new");
    mirror.mend().await.unwrap();
    pair.assert_alike();
    assert_eq!(pair.copies("two").len(), 1);
    assert_eq!(mirror.report().unwrap().behind, 0);
}

#[tokio::test]
async fn a_member_that_comes_later_is_opened_by_a_probe_and_listed_when_it_is_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    pair.open().await.1.close().await.unwrap();
    pair.faults[0].set_away(true);
    let (mirror, volume) = pair.open().await;
    let at = blob("acme", "");
    write(&volume, &at, b"here").await;
    pair.faults[0].heal();
    assert_eq!(mirror.report().unwrap().away, 1);
    assert!(volume.probe().await.unwrap().takes_writes());
    mirror.mend().await.unwrap();
    assert_eq!(mirror.report().unwrap().away, 0);
    pair.assert_alike();
    pair.faults[1].set_away(true);
    assert_eq!(volume.list(None, None, 9).await.unwrap().blobs.len(), 1);
    assert_eq!(read(&volume, &at).await.unwrap(), b"here");
}

#[tokio::test]
async fn a_new_disk_in_the_place_of_a_member_is_filled_and_an_empty_mount_point_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let at = blob("acme", "");
    {
        let (_, volume) = pair.open().await;
        write(&volume, &at, b"here").await;
        volume.close().await.unwrap();
    }
    fs::remove_dir_all(dir.path().join("two")).unwrap();
    fs::create_dir(dir.path().join("two")).unwrap();
    {
        let mut spec = pair.spec();
        spec.expect_existing();
        let volume = Box::new(spec).open(on(Arc::new(OsDisk))).await.unwrap();
        assert!(volume.status().why.unwrap().contains("two is not mounted"));
        assert_eq!(files(&dir.path().join("two")), Vec::<PathBuf>::new());
        volume.close().await.unwrap();
    }
    let (mirror, volume) = pair.open().await;
    let done = mirror.scrub(|_| {}).await.unwrap();
    let report = mirror.report().unwrap();
    assert_eq!((report.repaired_missing, report.unknown), (1, 0), "{done:?}");
    pair.assert_alike();
    pair.faults[0].set_away(true);
    assert_eq!(read(&volume, &at).await.unwrap(), b"here");
}

#[tokio::test]
async fn a_volume_of_plain_blobs_or_of_another_mirror_is_no_member() {
    let dir = tempfile::tempdir().unwrap();
    let plain =
        Box::new(LocalVolume::new("two", dir.path().join("two"))).open(on(Arc::new(OsDisk))).await.unwrap();
    write(&plain, &blob("acme", ""), b"plain").await;
    plain.close().await.unwrap();
    let (_, volume) = Pair::new(dir.path(), 1).open().await;
    assert!(volume.status().why.unwrap().contains("begin with an empty volume"));
    volume.close().await.unwrap();
    let other = MirroredVolume::new("vol-n")
        .add_member(LocalVolume::new("one", dir.path().join("one")))
        .add_member(LocalVolume::new("three", dir.path().join("three")));
    let volume = Box::new(other).open(on(Arc::new(OsDisk))).await.unwrap();
    assert!(volume.status().why.unwrap().contains("belongs to mirror vol-m"));
}

#[rstest]
#[case::one_member(&["a"], None, "members")]
#[case::no_copies(&["a", "b"], Some(0), "quorum")]
#[case::more_copies_than_members(&["a", "b"], Some(3), "quorum")]
#[tokio::test]
async fn a_mirror_that_cannot_be_is_refused_by_name(
    #[case] members: &[&str],
    #[case] quorum: Option<usize>,
    #[case] argument: &str,
) {
    let mut spec = MirroredVolume::new("vol-m");
    for id in members {
        spec = spec.add_member(LocalVolume::new(*id, "/nowhere"));
    }
    if let Some(quorum) = quorum {
        spec = spec.quorum(quorum);
    }
    let refused = Box::new(spec).open(on(SimDisk::new(1))).await;
    assert!(matches!(refused, Err(Error::InvalidArgument { name, .. }) if name == argument), "{refused:?}");
}

#[tokio::test]
async fn a_member_whose_sync_fails_is_looked_at_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let pair = Pair::new(dir.path(), 1);
    let (mirror, volume) = pair.open().await;
    let at = blob("acme", "");
    volume.write(&at, &mut "here".into(), Durability::Buffered).await.unwrap();
    pair.faults[1].fail(VolumeOp::Sync, 0, Failing::Refused);
    volume.sync().await.unwrap();
    assert_eq!(mirror.report().unwrap().unknown, 1);
    pair.faults[1].heal();
    mirror.scrub(|_| {}).await.unwrap();
    assert_eq!(mirror.report().unwrap().unknown, 0);
    pair.faults[0].fail(VolumeOp::Sync, 0, Failing::Refused);
    pair.faults[1].fail(VolumeOp::Sync, 0, Failing::Refused);
    volume.sync().await.unwrap_err();
    assert_eq!(mirror.report().unwrap().unknown, 0, "nobody is left who could tell");
}

#[tokio::test]
async fn notes_outlive_a_power_loss_and_what_was_confirmed_is_on_both_sides_in_the_end() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let away = VolumeFaults::new();
        let spec = || {
            MirroredVolume::new("vol-m")
                .add_member(LocalVolume::new("one", "/one"))
                .add_member(FaultyVolume::new(LocalVolume::new("two", "/two"), away.clone()))
                .quorum(1)
        };
        let open = async |disk: &Arc<SimDisk>| {
            let spec = spec();
            (spec.handle(), Box::new(spec).open(on(disk.clone())).await.unwrap())
        };
        let (_, volume) = open(&disk).await;
        let (kept, gone) = (blob("acme", ""), blob("acme", ""));
        write(&volume, &gone, b"gone").await;
        away.set_away(true);
        write(&volume, &kept, b"kept").await;
        volume.delete(&gone).await.unwrap();
        volume.sync_names().await.unwrap();
        drop(volume);
        disk.crash();
        away.heal();
        let (mirror, volume) = open(&disk).await;
        mirror.mend().await.unwrap();
        assert!(mirror.report().unwrap().behind == 0, "seed {seed}");
        assert!(is_absent(&read(&volume, &gone).await), "seed {seed}");
        volume.close().await.unwrap();
        let two = Box::new(LocalVolume::new("two", "/two")).open(on(disk.clone())).await.unwrap();
        let listed = two.list(Some(&kept.owner), None, 9).await.unwrap();
        assert_eq!(listed.blobs.iter().map(|blob| &blob.path).collect::<Vec<_>>(), [&kept], "seed {seed}");
    }
}
